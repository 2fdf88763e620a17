"""Real and generated music in the one form that every measure takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from music_assets.generation.samples import SampleBatch
from music_assets.tokens.remi import NoteArray, notes
from music_assets.tokens.shards import Shard


@dataclass(frozen=True)
class Piece:
    """A real piece, or a sample; a sample is its own group."""

    name: str  # piece id, or the sample's name
    group: str
    genre: str
    ids: NDArray[np.uint16]
    notes: NoteArray
    seconds: float


def real_pieces(shards: Iterable[Shard], split: str) -> list[Piece]:
    """The pieces of a split in the `original` shards."""
    return [
        Piece(
            shard.piece_ids[row],
            shard.group_ids[row],
            shard.genre,
            shard.document(row),
            notes(shard.document(row)),
            float(shard.seconds[row]),
        )
        for shard in shards
        for row in shard.where(split)
    ]


def sampled_piece(name: str, genre: str, ids: NDArray[np.uint16]) -> Piece:
    """A sample, which may be empty."""
    found = notes(ids)
    return Piece(name, name, genre, ids, found, found.seconds)


def sampled_pieces(batches: Iterable[SampleBatch]) -> list[Piece]:
    """All samples, empty ones too."""
    return [
        sampled_piece(name, batch.genre, ids)
        for batch in batches
        for name, ids in zip(batch.names, batch.ids, strict=True)
    ]


def in_turn(pieces: Iterable[Piece], genres: Sequence[str]) -> list[Piece]:
    """The pieces of some genres that have notes, a genre after the other, so that any first ones are of all."""
    by_genre: dict[str, list[Piece]] = {genre: [] for genre in genres}
    for piece in pieces:
        if piece.genre in by_genre and len(piece.notes):
            by_genre[piece.genre].append(piece)
    return [piece for turn in zip_longest(*by_genre.values()) for piece in turn if piece is not None]
