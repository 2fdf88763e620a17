"""Networks beside each other, and beside an n-gram with memory: one table."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.likelihood import (
    NO_TEST_NOTE,
    baseline_nats,
    bits_per_note_bounds,
    likelihood,
    train_baseline,
)
from music_assets.evaluation.pieces import Piece, real_pieces
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.models.registry import find_architecture
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.representation import representation
from music_assets.training.scoring import PieceScore, bits_per_note


@dataclass(frozen=True)
class Row:
    """One model; ``low`` and ``high`` bound its bits per note, of either kind, by a bootstrap over song groups."""

    model: str
    bits_per_note: float | None  # none for a piano roll
    bits_per_roll_note: float | None  # of a piano roll alone, which says less than the tokens
    low: float
    high: float
    unit: str  # what is counted as tokens
    tokens_per_second: float | None  # in training; none for the n-gram
    parameters: int | None
    minutes: float | None
    tokens: int | None  # seen in training
    remark: str = ""


def require_comparable(architectures: Sequence[str], shards: Sequence[Shard]) -> None:
    """Refuse, before any training, a comparison that would come to nothing.

    Raises:
        NotMeasurable: no test piece has a note that all of the architectures can be scored on.
    """
    documents = [shard.document(row) for shard in shards for row in shard.where("test")]
    if not any(len(document) for document in documents):
        raise NotMeasurable(NO_TEST_NOTE)
    for read in map(representation, architectures):
        if not any(map(read.has_note, documents)):
            raise NotMeasurable(read.no_note)


def compare_architectures(
    trained: Sequence[tuple[Checkpoint, float]], shards: Sequence[Shard], config: EvaluationSettings
) -> list[Row]:
    """Each network with its training speed in tokens/s, and an n-gram with memory, on the same whole test pieces.

    Raises:
        NotMeasurable: there is no held-out note.
    """
    training, validation, held_out = (real_pieces(shards, split) for split in ("train", "valid", "test"))
    rows = [_row(checkpoint, speed, held_out, config) for checkpoint, speed in trained]
    vocabulary = trained[0][0].vocabulary if trained else Vocabulary(tuple(sorted({piece.genre for piece in training})))
    model, share = train_baseline(vocabulary, training, validation, config)
    found = likelihood("", "all", held_out, baseline_nats(model, vocabulary, held_out), vocabulary, config)
    rows.append(
        Row(
            model=model.name,
            bits_per_note=found.bits_per_note,
            bits_per_roll_note=None,
            low=found.low,
            high=found.high,
            unit="tokens",
            tokens_per_second=None,
            parameters=None,
            minutes=None,
            tokens=round(share * sum(len(piece.ids) for piece in training)),
        )
    )
    return sorted(rows, key=lambda row: (row.bits_per_note is None, row.bits_per_note, row.bits_per_roll_note))


def _row(checkpoint: Checkpoint, speed: float, held_out: Sequence[Piece], config: EvaluationSettings) -> Row:
    facts = checkpoint.facts
    read = representation(facts.architecture)
    ordered, scores = _scored(checkpoint, held_out)
    notes = np.array([score.notes for score in scores], dtype=np.float64)
    if notes.sum() == 0:
        raise NotMeasurable(read.no_note)
    nats = [score.nats for score in scores]
    bits = np.array([of.sum(dtype=np.float64) for of in nats]) / np.log(2)
    low, high = bits_per_note_bounds(ordered, bits, notes, config)
    found = bits_per_note(nats, notes)
    return Row(
        model=facts.architecture,
        bits_per_note=found if read.comparable else None,
        bits_per_roll_note=None if read.comparable else found,
        low=low,
        high=high,
        unit=find_architecture(facts.architecture).unit,
        tokens_per_second=speed,
        parameters=facts.parameters,
        minutes=facts.minutes,
        tokens=facts.tokens,
        remark=read.remark,
    )


def _scored(checkpoint: Checkpoint, held_out: Sequence[Piece]) -> tuple[list[Piece], list[PieceScore]]:
    """The pieces by genre, each with its score given the genre, if the vocabulary has it."""
    network, vocabulary = checkpoint.network, checkpoint.vocabulary
    score = representation(network.config.architecture).scores
    ordered, scores = [], []
    for genre in sorted({piece.genre for piece in held_out}):
        pieces = [piece for piece in held_out if piece.genre == genre]
        known = genre if genre in vocabulary.genres else None
        ordered += pieces
        scores += score(network, vocabulary, [piece.ids for piece in pieces], known)
    return ordered, scores


def markdown(rows: Sequence[Row]) -> str:
    """The table for people, with the rows' remarks below it."""
    with_rolls = any(row.bits_per_roll_note is not None for row in rows)
    head = [
        "model",
        "bits per note (95%)",
        *(["bits per note of the roll (95%)"] if with_rolls else []),
        "training tokens/s",
        "weights",
        "minutes",
        "training tokens",
    ]
    lines = [
        [
            row.model,
            _bits(row.bits_per_note, row),
            *([_bits(row.bits_per_roll_note, row)] if with_rolls else []),
            _number(row.tokens_per_second, row.unit, "/s"),
            _number(row.parameters),
            "" if row.minutes is None else f"{row.minutes:.1f}",
            _number(row.tokens, row.unit),
        ]
        for row in rows
    ]
    table = "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]) + "\n"
    return "\n".join([table, *(f"{remark}\n" for remark in sorted({row.remark for row in rows} - {""}))])


def _bits(value: float | None, row: Row) -> str:
    return "" if value is None else f"{value:.3f} ({row.low:.3f} to {row.high:.3f})"


def _number(value: float | None, unit: str = "tokens", per: str = "") -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" + ("" if unit == "tokens" else f" {unit}{per}")


def as_json(rows: Sequence[Row], settings: EvaluationSettings) -> str:
    """The table for programs, with the settings that it was made with."""
    stored = {"settings": settings.model_dump(), "rows": [dataclasses.asdict(row) for row in rows]}
    return json.dumps(stored, indent=2) + "\n"
