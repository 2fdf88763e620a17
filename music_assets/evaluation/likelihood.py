"""Bits per note of held-out pieces, with their parts, next to what can be said without a network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.mixture import ContextMixture
from music_assets.evaluation.ngram import NGram
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.resampling import percentile_interval
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.models.registry import find_architecture
from music_assets.tokens.vocabulary import TOKEN_TYPES, Vocabulary
from music_assets.training.scoring import token_nats

ALL_GENRES = "all"
NO_TEST_NOTE = "There is no test piece with a note to score: add pieces, so that some fall into the test split."

_FITTING_PIECES = 60  # validation pieces of all genres, at least, that the baseline's weights are fitted on

PARTS: dict[str, tuple[str, ...]] = {
    "onset": ("Bar", "TimeSig", "Tempo", "Position", "Special"),
    "program": ("Program",),
    "pitch": ("Pitch",),
    "drum pitch": ("PitchDrum",),
    "velocity": ("Velocity",),
    "duration": ("Duration",),
}
"""What a note's bits are spent on. The end mark counts as an onset: it says that no other follows."""


@dataclass(frozen=True)
class Likelihood:
    """Totals over some pieces; ``low`` and ``high`` bound bits per note."""

    model: str
    genre: str
    pieces: int
    notes: int
    tokens: int
    bits_per_note: float
    low: float
    high: float
    parts: dict[str, float]  # bits per note by part; they sum to bits_per_note
    bits_per_second: float
    perplexity_per_token: float


@dataclass(frozen=True)
class Likelihoods:
    """A row a model and genre, and one a model over all genres."""

    rows: list[Likelihood]
    baseline: str  # its name
    baseline_share: float  # of the training tokens that the baseline counted

    def row(self, model: str, genre: str = ALL_GENRES) -> Likelihood:
        """One row of the table."""
        return next(row for row in self.rows if (row.model, row.genre) == (model, genre))


def measure_likelihoods(
    checkpoint: Checkpoint,
    training: Sequence[Piece],
    validation: Sequence[Piece],
    held_out: Sequence[Piece],
    settings: EvaluationSettings,
) -> Likelihoods:
    """Score whole held-out pieces by the network and by :func:`train_baseline`, genre given and not scored.

    Both were chosen on the validation pieces: the network's checkpoint, the n-gram's order and the weights of memory.

    Raises:
        NotMeasurable: there is no held-out note, or the network does not read tokens.
    """
    if find_architecture(checkpoint.facts.architecture).reads != "tokens":
        raise NotMeasurable(f"The bits of a {checkpoint.facts.architecture} are not of tokens: see `comparison`.")
    if not sum(len(piece.notes) for piece in held_out):
        raise NotMeasurable(NO_TEST_NOTE)
    vocabulary, genres = checkpoint.vocabulary, sorted({piece.genre for piece in held_out})
    by_network = {
        piece.name: nats
        for genre in genres
        for pieces in [[piece for piece in held_out if piece.genre == genre]]
        for piece, nats in zip(
            pieces,
            token_nats(checkpoint.token_network, vocabulary, [piece.ids for piece in pieces], genre),
            strict=True,
        )
    }
    baseline, share = train_baseline(vocabulary, training, validation, settings)
    models = {
        checkpoint.facts.architecture: by_network,
        baseline.name: {
            piece.name: nats
            for piece, nats in zip(held_out, baseline_nats(baseline, vocabulary, held_out), strict=True)
        },
    }
    return Likelihoods(
        [
            likelihood(model, genre, pieces, [nats[piece.name] for piece in pieces], vocabulary, settings)
            for model, nats in models.items()
            for genre in (ALL_GENRES, *genres)
            for pieces in [[piece for piece in held_out if genre in (ALL_GENRES, piece.genre)]]
        ],
        baseline.name,
        share,
    )


def likelihood(
    model: str,
    genre: str,
    pieces: Sequence[Piece],
    nats: Sequence[NDArray[np.floating]],
    vocabulary: Vocabulary,
    settings: EvaluationSettings,
) -> Likelihood:
    """Micro-averaged bits per note: Σ bits / Σ notes over whole pieces, from the nats of every token and end mark.

    Raises:
        NotMeasurable: no piece, or no note in any.
    """
    notes = np.array([len(piece.notes) for piece in pieces], dtype=np.float64)
    if notes.sum() == 0:
        raise NotMeasurable(NO_TEST_NOTE)
    bits = np.stack([_bits_by_type(piece.ids, of, vocabulary) for piece, of in zip(pieces, nats, strict=True)])
    by_type = dict(zip(TOKEN_TYPES, bits.sum(axis=0).tolist(), strict=True))
    low, high = bits_per_note_bounds(pieces, bits.sum(axis=1), notes, settings)
    total, tokens = float(bits.sum()), sum(len(of) for of in nats)
    return Likelihood(
        model=model,
        genre=genre,
        pieces=len(pieces),
        notes=int(notes.sum()),
        tokens=tokens,
        bits_per_note=total / float(notes.sum()),
        low=low,
        high=high,
        parts={part: sum(by_type[name] for name in names) / float(notes.sum()) for part, names in PARTS.items()},
        bits_per_second=total / sum(piece.seconds for piece in pieces),
        perplexity_per_token=float(2 ** (total / tokens)),
    )


def bits_per_note_bounds(
    pieces: Sequence[Piece], bits: NDArray[np.floating], notes: NDArray[np.floating], settings: EvaluationSettings
) -> tuple[float, float]:
    """Bounds of Σ bits / Σ notes, of some pieces' ``bits`` and ``notes`` [pieces].

    A percentile bootstrap over song groups, never over tokens or pieces of one song. One group gives an interval of no
    width: it says nothing about others.
    """
    _, group = np.unique([piece.group for piece in pieces], return_inverse=True)
    group_bits, group_notes = np.bincount(group, bits), np.bincount(group, notes)
    draws = np.random.default_rng(settings.seed).integers(
        group_bits.size, size=(settings.bootstrap_rounds, group_bits.size)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = group_bits[draws].sum(axis=1) / group_notes[draws].sum(axis=1)
    bounds = percentile_interval(float(bits.sum() / notes.sum()), ratios, settings.confidence)
    return bounds.low, bounds.high


def _bits_by_type(ids: NDArray[np.integer], nats: NDArray[np.floating], vocabulary: Vocabulary) -> NDArray[np.float64]:
    types = vocabulary.token_type[np.append(ids, vocabulary.eos)]
    return np.bincount(types, weights=nats / np.log(2), minlength=len(TOKEN_TYPES)).astype(np.float64)


def train_baseline(
    vocabulary: Vocabulary, training: Sequence[Piece], validation: Sequence[Piece], settings: EvaluationSettings
) -> tuple[ContextMixture, float]:
    """The n-gram of :func:`train_ngram` with the weights of memory that make validation pieces likeliest, and the share
    of the training tokens that it counted.

    Music repeats itself: beside a network that is told what came before, an n-gram alone says little.
    """
    ngram, share = train_ngram(vocabulary, training, validation, settings)
    some = validation[:: max(1, len(validation) // _FITTING_PIECES)]
    return ContextMixture(ngram).fit([_sequence(vocabulary, piece) for piece in some]), share


def train_ngram(
    vocabulary: Vocabulary, training: Sequence[Piece], validation: Sequence[Piece], settings: EvaluationSettings
) -> tuple[NGram, float]:
    """The n-gram of the order that needs the fewest bits on the validation pieces, and the share of the training
    tokens that it counted: ``settings.ngram_tokens`` at most, whole pieces in a fixed random order, to bound memory.
    """
    chosen, total = [], 0
    for index in np.random.default_rng(0).permutation(len(training)):
        if total >= settings.ngram_tokens:
            break
        chosen.append(_sequence(vocabulary, training[index]))
        total += len(training[index].ids)
    longest = NGram(settings.ngram_order, vocabulary.size).fit(chosen)
    if validation:
        costs = longest.nats_by_order([_sequence(vocabulary, piece) for piece in validation])
        longest = longest.shortened(1 + int(costs.argmin()))
    return longest, total / max(1, sum(len(piece.ids) for piece in training))


def baseline_nats(
    model: NGram | ContextMixture, vocabulary: Vocabulary, pieces: Sequence[Piece]
) -> list[NDArray[np.float64]]:
    """The nats of every token and end mark of each piece."""
    scored = model.nats([_sequence(vocabulary, piece) for piece in pieces])
    return [nats[len(vocabulary.prompt(piece.genre)) :] for nats, piece in zip(scored, pieces, strict=True)]


def _sequence(vocabulary: Vocabulary, piece: Piece) -> NDArray[np.int64]:
    return np.concatenate([vocabulary.prompt(piece.genre), piece.ids, [vocabulary.eos]]).astype(np.int64)
