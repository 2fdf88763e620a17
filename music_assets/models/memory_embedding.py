# torch's functions are typed in part
# pyright: reportUnknownMemberType=false
"""How a network is told what memory foretells."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from music_assets.tokens.memory import COLUMNS, LEVELS, NO_CANDIDATE
from music_assets.tokens.vocabulary import SIZE

ROWS = COLUMNS * (SIZE + LEVELS)
"""Of the table: for each column all ids, then for each column all levels."""


class MemoryEmbedding(nn.Module):
    """The sum over all columns of an embedding of the candidate and one of how sure it is."""

    of_ids: Tensor  # where the rows of each column begin
    of_levels: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ROWS, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        columns = torch.arange(COLUMNS)
        self.register_buffer("of_ids", SIZE * columns, persistent=False)
        self.register_buffer("of_levels", SIZE * COLUMNS + LEVELS * columns, persistent=False)

    def forward(self, candidates: Tensor) -> Tensor:
        """``candidates`` int64[B, T, COLUMNS] of :class:`music_assets.tokens.memory.Memory` to [B, T, width]."""
        known = candidates != NO_CANDIDATE
        ids = torch.where(known, candidates % SIZE + self.of_ids, NO_CANDIDATE)
        levels = torch.where(known, candidates // SIZE + self.of_levels, NO_CANDIDATE)
        rows = torch.cat((ids, levels), -1).flatten(0, 1)  # [B * T, 2 * COLUMNS]
        # Its gradient takes a tenth of the time of an embedding's under torch.compile.
        bags = F.embedding_bag(rows, self.embedding.weight, mode="sum", padding_idx=NO_CANDIDATE)
        return bags.view(*candidates.shape[:2], -1)
