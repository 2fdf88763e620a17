"""What some shards hold, in the numbers that a researcher asks for first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from music_assets.tokens.shards import ROWS_SCHEMA, Shard, ShardContents
from music_assets.tokens.vocabulary import RANGES, TOKEN_TYPES

QUANTILES = {"shortest": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "longest": 1.0}


@dataclass(frozen=True)
class TokenStatistics:
    """Sums and means over pieces. Shares and errors are of all notes in the files, kept or not.

    What the losses mean says :class:`~.grid.EncodingLoss`.
    """

    pieces: int
    tokens: int
    notes: int
    seconds: float
    lengths: dict[str, int]  # tokens of a piece at each of ``QUANTILES``; empty without pieces
    length_histogram: dict[str, int]  # pieces by tokens, in octaves
    token_types: dict[str, int]  # those that occur
    dropped: int
    clipped: int
    displaced: int
    onset_error: float  # mean, in quarter notes
    duration_error: float
    clipped_tempos: int

    @property
    def tokens_per_note(self) -> float:
        """0 without notes."""
        return self.tokens / max(self.notes, 1)

    def share(self, notes: int) -> float:
        """A number of notes as a share of all in the files, 0 without notes."""
        return notes / max(self.notes + self.dropped, 1)


def token_statistics(shards: Sequence[ShardContents]) -> TokenStatistics:
    """Statistics of all pieces of some shards, each counted as often as it occurs."""
    rows = pl.concat([pl.DataFrame(schema=ROWS_SCHEMA), *(shard.rows for shard in shards)])
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(shard.offsets) for shard in shards)])
    columns = ("notes", "dropped", "clipped", "displaced", "clipped_tempos")
    counted = {name: int(rows[name].cast(pl.Int64()).sum()) for name in columns}
    read = (rows["notes"].cast(pl.Int64()) + rows["dropped"]).to_numpy()
    onset_error, duration_error = (
        float(rows[name].to_numpy().astype(np.float64) @ read) / max(int(read.sum()), 1)
        for name in ("onset_error", "duration_error")
    )
    types = rows["token_types"].to_numpy().sum(axis=0, dtype=np.int64).tolist()
    return TokenStatistics(
        pieces=len(rows),
        tokens=int(lengths.sum()),
        seconds=float(rows["seconds"].cast(pl.Float64()).sum()),
        lengths=_quantiles(lengths),
        length_histogram=_octaves(lengths),
        token_types={name: count for name, count in zip(TOKEN_TYPES, types, strict=True) if count},
        onset_error=onset_error,
        duration_error=duration_error,
        **counted,
    )


def _quantiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    if not len(lengths):
        return {}
    values = np.quantile(lengths, list(QUANTILES.values()), method="nearest")
    return {name: int(value) for name, value in zip(QUANTILES, values, strict=True)}


def _octaves(lengths: NDArray[np.int64]) -> dict[str, int]:
    """Number of values from each power of two to the next, by its name; those between the ends also if empty."""
    if not len(lengths):
        return {}
    octave = np.log2(np.maximum(lengths, 1)).astype(np.int64)
    counts = np.bincount(octave - octave.min())
    return {f"from {2 ** (octave.min() + index):,}": int(count) for index, count in enumerate(counts)}


def programs_played(shards: Sequence[Shard]) -> list[int]:
    """The programs in the training pieces of some shards, rising, 128 for drums."""
    seen = np.zeros(RANGES["Program"].stop, dtype=bool)
    read = set[str]()
    for shard in shards:
        for row in map(int, shard.where("train")):
            if (piece := shard.piece_ids[row]) not in read:  # transposition changes none
                read.add(piece)
                ids = shard.document(row)
                seen[ids[ids < len(seen)]] = True
    return np.flatnonzero(seen[RANGES["Program"].start :]).tolist()
