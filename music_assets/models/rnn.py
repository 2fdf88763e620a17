"""Recurrent network: embedding, LSTM or GRU layers, output layer."""

import torch
from torch import Tensor, nn

from music_assets.models.config import NetworkConfig
from music_assets.models.network import Network, State, run_cells


class RNN(Network):
    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        embedding = config.embedding or config.width
        between_layers = config.dropout if config.layers > 1 else 0.0
        cell = nn.LSTM if config.architecture == "lstm" else nn.GRU
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.cells = cell(embedding, config.width, config.layers, batch_first=True, dropout=between_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor, documents: Tensor | None = None, continued: Tensor | None = None) -> Tensor:
        x = self.embedding(ids)  # [B, T, E]
        output = run_cells(self.cells, x)[0] if documents is None else self._each_alone(x, documents)  # [B, T, W]
        return self.head(self.dropout(output))  # [B, T, V]

    def _each_alone(self, x: Tensor, documents: Tensor) -> Tensor:
        """The cells' output [B, T, W] where every piece of a row begins with an empty state: each takes a row of its
        own, of which what follows the piece is not looked at."""
        begins = torch.ones_like(documents, dtype=torch.bool)  # [B, T]
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        begins = begins.flatten()
        piece = begins.cumsum(0) - 1  # [B * T]
        starts = begins.nonzero().squeeze(1)  # [pieces]
        place = torch.arange(len(begins), device=x.device) - starts[piece]
        longest = int(place.max()) + 1
        where = piece * longest + place
        rows = x.new_zeros(len(starts) * longest, x.shape[-1]).index_copy(0, where, x.flatten(0, 1))
        output, _ = run_cells(self.cells, rows.view(len(starts), longest, -1))
        return output.flatten(0, 1).index_select(0, where).view(*documents.shape, -1)

    def initial_state(self, batch: int, capacity: int) -> State:
        """A recurrent state has one size for any number of tokens: ``capacity`` is not a limit."""
        shape = (self.config.layers, batch, self.config.width)  # [L, B, W]
        parts = 2 if self.config.architecture == "lstm" else 1
        return State(tuple(torch.zeros(shape, device=self.device) for _ in range(parts)), 0, None)

    @torch.no_grad()
    def decode(self, ids: Tensor, state: State, continued: Tensor | None = None) -> tuple[Tensor, State]:
        memory = state.tensors if self.config.architecture == "lstm" else state.tensors[0]
        output, memory = run_cells(self.cells, self.embedding(ids), memory)
        tensors = memory if self.config.architecture == "lstm" else (memory,)
        return self.head(self.dropout(output)), State(tensors, state.length + ids.shape[1], None)
