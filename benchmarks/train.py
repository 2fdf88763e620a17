"""Training the tiny GPT by the real loop, against a plain GPT with AdamW; both in bfloat16 where that is fast."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Result, machine, options, show
from music_assets.models.config import NetworkConfig, network_config
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.config import TrainingConfig
from music_assets.training.loop import TrainingProgress, train
from music_assets.training.precision import autocast, choose_device
from music_assets_tests.training.corpus import shards

STEPS, ROUNDS = 8, 7


class Plain(nn.Module):
    """A GPT in nanoGPT's manner: learned positions, LayerNorm, GELU, SDPA, tied output layer.

    Its inner layers are a little wider, so that it has as many weights as ours, whose output layer is not tied.
    """

    def __init__(self, config: NetworkConfig, vocabulary_size: int, inner: int) -> None:
        super().__init__()
        width = config.width
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.position = nn.Embedding(config.context, width)
        self.blocks = nn.ModuleList(PlainBlock(width, config.heads, inner) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.head.weight = self.embedding.weight
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))  # [B, T, W]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # [B, T, V]


class PlainBlock(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norms[0](x)).split(w, -1))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, H, T, D]
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


def main() -> None:
    chosen = options(__doc__)
    device, config = choose_device(), network_config("gpt", "tiny")
    batch = TrainingConfig.model_fields["batch_size"].default
    vocabulary = Vocabulary(("reel", "waltz"))
    plain = Plain(config, vocabulary.size, 4 * config.width + 64).to(device)
    optimizer = torch.optim.AdamW(plain.parameters(), 4e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(vocabulary.size, (batch, config.context + 1), device=device)
    ours: list[float] = []
    theirs: list[float] = []

    def baseline(progress: TrainingProgress) -> None:
        """A round of ours has just ended; now one of theirs, in the same process and with the same memory settings."""
        ours.append(progress.tokens_per_second)
        began = time.perf_counter()
        for _ in range(STEPS):
            with autocast(device):
                logits = cast(Tensor, plain(ids[:, :-1]))
            F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        theirs.append(STEPS * batch * config.context / (time.perf_counter() - began))

    tokens = (ROUNDS + 1) * STEPS * batch * config.context
    settings = TrainingConfig(minutes=None, tokens=tokens, report_every=STEPS, validations=1, validation_tokens=1)
    with tempfile.TemporaryDirectory() as folder:
        made = train("gpt", settings, shards(pieces=24, bars=64), Path(folder) / "run", report=baseline)
    weights = sum(parameter.numel() for parameter in plain.parameters())
    value, other = statistics.median(ours[1:]), statistics.median(theirs[1:])
    name = f"plain GPT with AdamW, {weights / made.facts.parameters - 1:+.1%} weights"
    result = Result(
        "train_tokens_per_second", round(value), "tokens/s", name, round(other), round(value / other, 2), machine()
    )
    show([result], chosen.json)


if __name__ == "__main__":
    main()
