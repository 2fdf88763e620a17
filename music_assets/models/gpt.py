# torch's functions are typed in part
# pyright: reportUnknownMemberType=false, reportPrivateUsage=false
"""Decoder-only transformer: RoPE, QK-norm, RMSNorm, squared ReLU, zero-initialised output projections."""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from music_assets.models.memory_embedding import MemoryEmbedding
from music_assets.models.network import CapacityExceeded, Decoder, NetworkConfig, State, TokenNetwork
from music_assets.tokens.vocabulary import RANGES

PROMPT_IDS = range(RANGES["Genre"].start, RANGES["Control"].stop)
"""Ids that say in a prompt what the music is to be."""

PROMPT_GAIN = 4.0
"""What a prompt says is seen seldom: by this factor its embedding is learned so many times as fast."""


class GPTConfig(NetworkConfig, frozen=True):
    """The shape of a decoder-only transformer, and what it is told beside its tokens."""

    architecture: Literal["gpt"] = "gpt"
    heads: int = Field(default=1, ge=1, description="Attention heads")
    tied: bool = Field(default=False, description="Whether input embedding and output layer share their weights")
    memory: bool = Field(
        default=True,
        description="Whether the network is told at each token what followed when the music stood like this before, "
        "and the key so far",
    )
    prompt_everywhere: bool = Field(
        default=True,
        description="Whether what a prompt says, genre and controls, is added to every token behind it",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} over {self.heads} heads leaves no even head size: choose a multiple of "
                f"{2 * self.heads}."
            )
        return self


_HAS_AMX = torch.cpu._is_amx_tile_supported()


class GPT(TokenNetwork[GPTConfig]):
    """Attends to the last tokens, and is told what the music did before, however long ago."""

    Config = GPTConfig

    def __init__(self, config: GPTConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.memory = MemoryEmbedding(config.width) if config.memory else None
        self.prompt_embedding = nn.Embedding(len(PROMPT_IDS) if config.prompt_everywhere else 0, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, vocab_size, bias=False)
        cos, sin = rotation(config.context, config.width // config.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.zeros_(self.prompt_embedding.weight)
        nn.init.zeros_(self.head.weight)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(
        self, ids: Tensor, segment_ids: Tensor | None = None, candidates: Tensor | None = None, skip: int = 0
    ) -> Tensor:
        angles, bias = self.angles(ids.shape[1]), self._bias(ids.shape[1], segment_ids)
        x = self._embedded(ids, candidates, self._said(ids, segment_ids))  # [B, T, W]
        for block in self.blocks[:-1]:
            x = block(x, angles, bias)
        return self.head(norm(self.blocks[-1](x, angles, bias, skip=skip)))  # [B, T - skip, V]

    def initial_state(self, batch: int, capacity: int) -> State:
        c = self.config
        shape = (c.layers, batch, c.heads, capacity, c.width // c.heads)  # [L, B, H, C, D]
        keys, values = (torch.zeros(shape, dtype=self._dtype(), device=self.device) for _ in "kv")
        said = torch.zeros(1, batch, c.width, device=self.device)  # at the last token
        return State((keys, values, said), torch.zeros(batch, dtype=torch.int64), capacity)

    @torch.no_grad()
    def decode(self, ids: Tensor, state: State, candidates: Tensor | None = None) -> tuple[Tensor, State]:
        t = ids.shape[1]
        if not state.fits(t):
            raise CapacityExceeded(
                f"The decoding state has room for {state.capacity} tokens, not for {int(state.lengths.max()) + t}: "
                "begin a new one with the last part of the row as its prompt."
            )
        keys, values, said_before = state.tensors
        end = int(state.lengths.max()) + t
        places = (state.lengths[:, None] + torch.arange(t)).to(self.device)  # [B, t]
        hidden = torch.arange(end, device=self.device) > places[:, None, :, None]  # [B, 1, t, end]
        bias = torch.zeros(hidden.shape, dtype=self._dtype(), device=self.device).masked_fill_(hidden, -torch.inf)
        cos, sin = self.angles(end)
        said = self._said(ids) + said_before[0][:, None]  # [B, t, W]
        said_before[0] = said[:, -1]
        x = self._embedded(ids, candidates, said)  # [B, t, W]
        for block, k, v in zip(self.blocks, keys, values, strict=True):
            x = block(x, (cos[places][:, None], sin[places][:, None]), bias, (k, v, places))
        return self.head(norm(x)), State(state.tensors, state.lengths + t, state.capacity)

    def decoder(self, rows: int, capacity: int) -> Decoder:
        if self.device.type != "cpu":
            return super().decoder(rows, capacity)
        from music_assets.models.gpt_decoder import GPTDecoder  # compiled when it is imported

        return GPTDecoder(self, rows, capacity)

    def angles(self, end: int) -> tuple[Tensor, Tensor]:
        """Of :func:`rotation` for the places before ``end``."""
        if end > len(self.cos):  # a decoding state may be longer than the rows that were trained on
            self.cos, self.sin = rotation(2 * end, 2 * self.cos.shape[1], self.device)
        return self.cos[:end], self.sin[:end]

    def _said(self, ids: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """At each token the sum over those up to it, of its own document, that say what the music is to be."""
        if not self.config.prompt_everywhere:
            return torch.zeros((), device=ids.device).expand(*ids.shape, self.config.width)
        is_said = (ids >= PROMPT_IDS.start) & (ids < PROMPT_IDS.stop)
        said = (
            PROMPT_GAIN * self.prompt_embedding(torch.where(is_said, ids - PROMPT_IDS.start, 0)) * is_said[..., None]
        )  # [B, T, W]
        total = said.cumsum(1)
        if segment_ids is None:
            return total
        begins = F.pad(segment_ids[:, 1:] != segment_ids[:, :-1], (1, 0))  # the first has nothing before it anyway
        place = torch.arange(ids.shape[1], device=ids.device)
        first = torch.where(begins, place, 0).cummax(1).values[..., None].expand_as(said)
        return total - (total - said).gather(1, first)

    def _embedded(self, ids: Tensor, candidates: Tensor | None, said: Tensor) -> Tensor:
        x = self.embedding(ids)
        if candidates is not None and self.memory:
            x = x + self.memory(candidates)
        return norm(x) + said

    def _bias(self, t: int, segment_ids: Tensor | None) -> Tensor | None:
        """-inf where one of ``t`` places of a row may not look, else 0: [B or 1, 1, t, t]; None: the future alone.

        A place sees those of its own document up to itself. Positions may go on from one document to the next, for
        rotary ones only say how far apart two tokens are.
        """
        if segment_ids is None:
            if not _short(self.device, self._dtype(), t):
                return None
            segment_ids = torch.zeros(1, t, dtype=torch.long, device=self.device)
        return attention_bias(segment_ids, self._dtype())


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        for layer in (self.qkv, self.up):
            nn.init.normal_(layer.weight, std=width**-0.5)
        for layer in (self.out, self.down):  # a new block is the identity
            nn.init.zeros_(layer.weight)

    def forward(
        self,
        x: Tensor,  # [B, T, W]
        angles: tuple[Tensor, Tensor],
        bias: Tensor | None,
        cache: tuple[Tensor, Tensor, Tensor] | None = None,
        skip: int = 0,
    ) -> Tensor:  # [B, T - skip, W]
        x = x[:, skip:] + self.dropout(self.attention(norm(x), angles, bias, cache, skip))
        return x + self.dropout(self.down(F.relu(self.up(norm(x))).square()))

    def attention(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        bias: Tensor | None,
        cache: tuple[Tensor, Tensor, Tensor] | None,
        skip: int,
    ) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, t, D] each
        q, k = rotate(norm(q), *angles).to(v.dtype), rotate(norm(k), *angles).to(v.dtype)
        if cache is not None:
            keys, values, places = cache  # [B, H, C, D], and int64[B, t]
            row = torch.arange(b, device=x.device)[:, None]
            keys[row, :, places], values[row, :, places] = k.transpose(1, 2), v.transpose(1, 2)
            assert bias is not None
            k, v = keys[:, :, : bias.shape[-1]], values[:, :, : bias.shape[-1]]
        attended = attend(q, k, v, bias)[:, :, skip:]
        return self.out(attended.transpose(1, 2).reshape(b, t - skip, -1))


def norm(x: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last dimension, without weights; of bfloat16 in float32."""
    return F.rms_norm(x.float() if x.dtype == torch.bfloat16 else x, x.shape[-1:])


def rotation(positions: int, dimension: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Cosine and sine [positions, dimension / 2] of the angles by which :func:`rotate` turns each pair."""
    half = dimension // 2
    speed = 10_000 ** -(torch.arange(half, device=device) / half)
    angle = torch.arange(positions, device=device)[:, None] * speed
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of x [..., T, D] by cos and sin [T, D/2] of the angles.

    It turns the pairs of number i and number i + D/2 of the last dimension.
    """
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


@torch.library.custom_op("music_assets::attention_bias", mutates_args=())
def attention_bias(segment_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """-inf where a place of a row may not look, in another document or behind itself, else 0: [B, 1, T, T].

    An operation of its own, since torch.compile would work it out anew in each layer.
    """
    hidden = segment_ids[:, None, :, None] != segment_ids[:, None, None, :]
    future = torch.ones(hidden.shape[-2:], dtype=torch.bool, device=hidden.device).triu(1)
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden | future, -torch.inf)


@attention_bias.register_fake
def _(segment_ids: Tensor, dtype: torch.dtype) -> Tensor:
    t = segment_ids.shape[1]
    return torch.empty(len(segment_ids), 1, t, t, dtype=dtype, device=segment_ids.device)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of q [B, H, t, D] over k, v [B, H, S, D], its scores plus ``bias`` (expandable to [B, H, t, S]).

    Without ``bias`` one query sees all keys, and several see those up to themselves.
    """
    t, d = q.shape[-2:]
    if bias is not None and _short(q.device, q.dtype, t):
        return (q @ k.mT * d**-0.5 + bias).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, bias, is_causal=bias is None and t > 1)


def _short(device: torch.device, dtype: torch.dtype, t: int) -> bool:
    """Whether plain matrix products are faster than SDPA, up to twice: on a CPU with units for bfloat16 matrices, to
    about 512 queries. On others their compiled gradients are no numbers (PyTorch 2.13, AVX-512 BF16).
    """
    return _HAS_AMX and device.type == "cpu" and dtype == torch.bfloat16 and 1 < t <= 512
