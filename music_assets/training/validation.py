"""A fixed set of whole held-out pieces, and a network's bits per note on it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.hashing import hexdigest
from music_assets.models.network import Network
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.progress import Score
from music_assets.training.representation import representation
from music_assets.training.scoring import PieceScore, bits_per_note
from music_assets.training.settings import Precision

BEGINNING = 200
"""Tokens of a piece's beginning."""


@dataclass(frozen=True)
class ValidationSet:
    """Held-out pieces by genre; ``hash`` tells one set from another."""

    documents: dict[str, list[NDArray[np.uint16]]]
    hash: str

    @property
    def pieces(self) -> int:
        return sum(map(len, self.documents.values()))


def validation_set(shards: Sequence[Shard], tokens: int) -> ValidationSet:
    """Whole pieces of split 'valid' in their original key, in the order of their ids (which are hashes).

    Every genre gives pieces until it has an equal part of ``tokens``, at least one; a genre without held-out
    pieces gives none. The set depends on the pieces alone, not on which networks are scored.
    """
    originals = sorted((s for s in shards if s.transposition == "original"), key=lambda shard: shard.genre)
    documents: dict[str, list[NDArray[np.uint16]]] = {}
    hashed: list[str | bytes] = []
    for shard in originals:
        total = 0
        for row in shard.where("valid"):
            if total * len(originals) >= tokens:
                break
            document = shard.document(row)
            documents.setdefault(shard.genre, []).append(document)
            hashed += [f"{shard.genre} {shard.piece_ids[row]} ", document.tobytes()]
            total += len(document)
    return ValidationSet(documents, hexdigest(*hashed))


def validate(
    network: Network, vocabulary: Vocabulary, pieces: ValidationSet, precision: Precision = "auto"
) -> Score | None:
    """The network's score, given each piece's genre if its vocabulary has it; None if there is no piece.

    Of one over tokens it also has ``genre_saves``, see :func:`bits_saved_by_genre`.
    """
    if not pieces.documents:
        return None
    read = representation(network.config.architecture)
    score = read.scores
    by_genre = {
        genre: score(network, vocabulary, documents, genre if genre in vocabulary.genres else None, precision)
        for genre, documents in pieces.documents.items()
    }
    every = [*chain(*by_genre.values())]
    measures = {name: _mean(one.measures[name] for one in every) for name in every[0].measures}
    saved = bits_saved_by_genre(network, vocabulary, pieces, precision) if read.comparable else None
    return Score(
        _bits_per_note(every),
        {genre: _bits_per_note(scores) for genre, scores in by_genre.items()},
        measures if saved is None else {**measures, "genre_saves": saved},
    )


def bits_saved_by_genre(
    network: Network, vocabulary: Vocabulary, pieces: ValidationSet, precision: Precision = "auto"
) -> float | None:
    """How many bits of the first ``BEGINNING`` tokens of a piece it saves to be told the genre, on average; negative
    where that misleads, None where no piece is of a known genre."""
    score = representation(network.config.architecture).scores
    saved = [
        float((untold.nats - told.nats)[:BEGINNING].sum()) / math.log(2)
        for genre, documents in pieces.documents.items()
        if genre in vocabulary.genres
        for parts in [[document[:BEGINNING] for document in documents]]
        for told, untold in zip(
            score(network, vocabulary, parts, genre, precision),
            score(network, vocabulary, parts, None, precision),
            strict=True,
        )
    ]
    return float(np.mean(saved)) if saved else None


def _bits_per_note(scores: Sequence[PieceScore]) -> float:
    return bits_per_note([one.nats for one in scores], [one.notes for one in scores])


def _mean(values: Iterable[NDArray[np.float32]]) -> float:
    return float(np.concatenate([*values]).mean(dtype=np.float64))
