"""Networks beside each other, and beside an n-gram that remembers the piece: one table."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from music_assets.evaluation.config import EvaluationConfig
from music_assets.evaluation.likelihood import likelihood, ngram_nats, train_ngram
from music_assets.evaluation.ngram import CachedNGram
from music_assets.evaluation.pieces import Piece, real_pieces
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.checkpoints import Checkpoint
from music_assets.training.scoring import token_nats

NGRAM_ORDER = 5
_CACHE_ORDERS = (4, 6, 8)
_CACHE_WEIGHTS = (0.2, 0.4, 0.6, 0.8, 0.95)
_CHOOSING_PIECES = 60  # validation pieces that the cache's order and weight are chosen on


@dataclass(frozen=True)
class Row:
    """One model; ``low`` and ``high`` bound its bits per note, by a bootstrap over song groups."""

    model: str
    bits_per_note: float
    low: float
    high: float
    tokens_per_second: float | None  # in training; none for the n-gram
    parameters: int | None
    minutes: float | None
    tokens: int | None  # seen in training


def compare_architectures(
    trained: Sequence[tuple[Checkpoint, float]], shards: Sequence[Shard], config: EvaluationConfig
) -> list[Row]:
    """Each network with its training speed in tokens/s, and an n-gram with a cache, on the same whole test pieces.

    Raises:
        ValueError: there is no held-out note.
    """
    training, validation, held_out = (real_pieces(shards, split) for split in ("train", "valid", "test"))
    rows = []
    for checkpoint, speed in trained:
        facts = checkpoint.facts
        scored: dict[str, np.ndarray] = {}
        for genre in sorted({piece.genre for piece in held_out}):
            pieces = [piece for piece in held_out if piece.genre == genre]
            known = genre if genre in checkpoint.vocabulary.genres else None
            nats = token_nats(checkpoint.network, checkpoint.vocabulary, [piece.ids for piece in pieces], known)
            scored |= {piece.name: of for piece, of in zip(pieces, nats, strict=True)}
        found = likelihood(
            facts.architecture,
            "all",
            held_out,
            [scored[piece.name] for piece in held_out],
            checkpoint.vocabulary,
            config,
        )
        rows.append(
            Row(
                facts.architecture,
                found.bits_per_note,
                found.low,
                found.high,
                speed,
                facts.parameters,
                facts.minutes,
                facts.tokens,
            )
        )
    vocabulary = trained[0][0].vocabulary if trained else Vocabulary(tuple(sorted({piece.genre for piece in training})))
    model, tokens = cached_ngram(vocabulary, training, validation, config)
    found = likelihood("", "all", held_out, ngram_nats(model, vocabulary, held_out), vocabulary, config)
    name = f"{NGRAM_ORDER}-gram with cache"
    rows.append(Row(name, found.bits_per_note, found.low, found.high, None, None, None, tokens))
    return sorted(rows, key=lambda row: row.bits_per_note)


def cached_ngram(
    vocabulary: Vocabulary, training: Sequence[Piece], validation: Sequence[Piece], config: EvaluationConfig
) -> tuple[CachedNGram, int]:
    """The n-gram whose cache needs the fewest bits on validation pieces, and the training tokens that it counted."""
    fixed, share = train_ngram(vocabulary, training, [], config.model_copy(update={"ngram_order": NGRAM_ORDER}))
    some = validation[:_CHOOSING_PIECES]
    models = [CachedNGram(fixed, order, weight) for order in _CACHE_ORDERS for weight in _CACHE_WEIGHTS]
    best = min(models, key=lambda model: sum(nats.sum() for nats in ngram_nats(model, vocabulary, some)))
    return best, round(share * sum(len(piece.ids) for piece in training))


def markdown(rows: Sequence[Row]) -> str:
    """The table for people."""
    head = ["model", "bits per note (95%)", "training tokens/s", "weights", "minutes", "training tokens"]
    lines = [
        [
            row.model,
            f"{row.bits_per_note:.3f} ({row.low:.3f} to {row.high:.3f})",
            _number(row.tokens_per_second),
            _number(row.parameters),
            "" if row.minutes is None else f"{row.minutes:.1f}",
            _number(row.tokens),
        ]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def as_json(rows: Sequence[Row]) -> str:
    """The table for programs."""
    return json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n"
