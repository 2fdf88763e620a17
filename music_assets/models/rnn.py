"""Recurrent network: embedding, LSTM or GRU layers, output layer."""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from music_assets.models.memory_embedding import MemoryEmbedding
from music_assets.models.network import NetworkConfig, State, TokenNetwork, run_cells


class RNNConfig(NetworkConfig, frozen=True):
    """The shape of an LSTM or a GRU over tokens."""

    architecture: Literal["lstm", "gru"] = Field(description="Kind of the recurrent cells")
    embedding: int | None = Field(
        default=None, ge=1, description="Size of a token's embedding where it differs from width"
    )
    memory: bool = Field(
        default=True,
        description="Whether the network is told at each token what followed when the music stood like this before, "
        "and the key so far",
    )
    tied: bool = Field(default=False, description="Whether input embedding and output layer share their weights")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tied and self.embedding not in (None, self.width):
            raise ValueError(
                f"tied weights need embedding and width to be equal, not {self.embedding} and {self.width}."
            )
        return self


_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class RNN(TokenNetwork[RNNConfig]):
    """Its state remembers what it can."""

    Config = RNNConfig

    def __init__(self, config: RNNConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        embedding = config.embedding or config.width
        between_layers = config.dropout if config.layers > 1 else 0.0
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.memory = MemoryEmbedding(embedding) if config.memory else None
        self.cells = _CELLS[config.architecture](
            embedding, config.width, config.layers, batch_first=True, dropout=between_layers
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(
        self, ids: Tensor, segment_ids: Tensor | None = None, candidates: Tensor | None = None, skip: int = 0
    ) -> Tensor:
        x = self._embedded(ids, candidates)  # [B, T, E]
        output = run_cells(self.cells, x)[0] if segment_ids is None else self._each_alone(x, segment_ids)  # [B, T, W]
        return self.head(self.dropout(output[:, skip:]))  # [B, T - skip, V]

    def _embedded(self, ids: Tensor, candidates: Tensor | None) -> Tensor:
        x = self.embedding(ids)
        return x + self.memory(candidates) if candidates is not None and self.memory else x

    def _each_alone(self, x: Tensor, segment_ids: Tensor) -> Tensor:
        """The cells' output [B, T, W] where every piece of a row begins with an empty state: each takes a row of its
        own, of which what follows the piece is not looked at."""
        begins = torch.ones_like(segment_ids, dtype=torch.bool)  # [B, T]
        begins[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
        begins = begins.flatten()
        piece = begins.cumsum(0) - 1  # [B * T]
        starts = begins.nonzero().squeeze(1)  # [pieces]
        place = torch.arange(len(begins), device=x.device) - starts[piece]
        longest = int(place.max()) + 1
        where = piece * longest + place
        rows = x.new_zeros(len(starts) * longest, x.shape[-1]).index_copy(0, where, x.flatten(0, 1))
        output, _ = run_cells(self.cells, rows.view(len(starts), longest, -1))
        return output.flatten(0, 1).index_select(0, where).view(*segment_ids.shape, -1)

    def initial_state(self, batch: int, capacity: int) -> State:
        """A recurrent state has one size for any number of tokens: ``capacity`` is not a limit."""
        shape = (self.config.layers, batch, self.config.width)  # [L, B, W]
        parts = 2 if isinstance(self.cells, nn.LSTM) else 1
        tensors = tuple(torch.zeros(shape, device=self.device) for _ in range(parts))
        return State(tensors, torch.zeros(batch, dtype=torch.int64), None)

    @torch.no_grad()
    def decode(self, ids: Tensor, state: State, candidates: Tensor | None = None) -> tuple[Tensor, State]:
        of_lstm = isinstance(self.cells, nn.LSTM)
        memory = state.tensors if of_lstm else state.tensors[0]
        output, memory = run_cells(self.cells, self._embedded(ids, candidates), memory)
        tensors = memory if of_lstm else (memory,)
        return self.head(self.dropout(output)), State(tensors, state.lengths + ids.shape[1], None)
