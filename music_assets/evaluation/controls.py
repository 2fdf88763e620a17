"""Whether wishes are obeyed: asked for what real pieces have, a network makes music that is measured the same way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.features import excerpt
from music_assets.evaluation.pieces import Piece, in_turn, sampled_piece
from music_assets.evaluation.resampling import Estimate, bootstrap_weights, percentile_interval, resampled_mean
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.keys import KEYS, estimate_key, parse_key
from music_assets.foundation.midi.programs import DRUMS, instrument_name
from music_assets.generation.generate import each_in_threads, generate
from music_assets.generation.request import make_request
from music_assets.models.registry import find_architecture
from music_assets.tokens.controls import control_class
from music_assets.tokens.grid import closest_tempo
from music_assets.tokens.remi import NoteArray
from music_assets.tokens.vocabulary import RANGES, TEMPOS, TIME_SIGNATURES

LENGTHS = (2, 4, 8)
"""Bars that are asked for, in turn."""
_DENSITY, _LEAST = (0.01, 64.0), 2  # notes a beat that can be asked for; requests behind a correlation
_BAR, _SIGNATURES = RANGES["Bar"].start, RANGES["TimeSig"].start


class Facts(NamedTuple):
    """What music has of all that can be asked for."""

    instruments: frozenset[int]  # programs
    tempo: int  # index in ``TEMPOS``, at the start
    density: float  # notes a beat
    bars: int
    key: int | None  # index in ``KEYS``, None where none is heard
    time_signatures: tuple[str, ...]  # of each bar
    pitch_classes: NDArray[np.int64]  # notes of each, without drums; int64[12]

    @classmethod
    def of(cls, piece: Piece, bars: int | None = None) -> "Facts":
        """Of the first bars of a piece, or of all; a beat is a quarter note."""
        notes = piece.notes if bars is None else excerpt(piece.notes, bars)
        count = len(notes.bar_lengths)
        signatures = piece.ids[np.flatnonzero(piece.ids == _BAR)[:count] + 1].astype(int) - _SIGNATURES
        pitched = notes.program != DRUMS
        return cls(
            instruments=frozenset(notes.program.tolist()),
            tempo=closest_tempo(round(60e6 / notes.tempo)),
            density=len(notes) / max(float(notes.bar_lengths.sum()), 1.0),
            bars=count,
            key=key_of(notes),
            time_signatures=tuple("/".join(map(str, TIME_SIGNATURES[index])) for index in signatures),
            pitch_classes=np.bincount(notes.pitch[pitched] % 12, minlength=12),
        )

    @property
    def wishes(self) -> dict[str, dict[str, Any]]:
        """Fields of a request by control, of those that can be asked for."""
        wishes: dict[str, dict[str, Any]] = {
            "instruments": {"instruments": [*map(instrument_name, sorted(self.instruments))]},
            "tempo": {"tempo": float(TEMPOS[self.tempo])},
            "density": {"density": float(np.clip(self.density, *_DENSITY))},
            "bars": {"bars": self.bars},
            "time signature": {"time_signature": self.time_signatures[0]},
        }
        if self.key is not None:
            wishes["key"] = {"key": KEYS[self.key]}
        return wishes


@dataclass(frozen=True)
class Obedience:
    """One measure of one control, between 0 and 1, and -1 and 1 for a correlation; NaN where nothing defines it."""

    control: str
    measure: str
    always: bool  # the grammar lets nothing else be written
    requests: int  # that name the control
    without: Estimate  # of samples of which nothing but the genre is asked: the floor
    alone: Estimate | None  # asked for this alone, where it may be disobeyed
    together: Estimate  # asked for all at once


@dataclass(frozen=True)
class ControlReport:
    """A row a measure."""

    rows: list[Obedience]

    def row(self, measure: str) -> Obedience:
        """One row of the table."""
        return next(row for row in self.rows if row.measure == measure)


def f1(asked: frozenset[int], made: frozenset[int]) -> float:
    """Harmonic mean of precision and recall of the instruments that play, in [0, 1]; of two empty sets 1."""
    return 2 * len(asked & made) / (len(asked) + len(made)) if asked or made else 1.0


def share_in_scale(key: int | None, pitch_classes: NDArray[np.int64]) -> float:
    """Of the notes but drums the share whose pitch is of the scale of ``KEYS[key]``; NaN without key or notes."""
    if key is None or not pitch_classes.sum():
        return float("nan")
    inside = list(parse_key(KEYS[key]).pitch_classes)
    return float(pitch_classes[inside].sum() / pitch_classes.sum())


def _density_classes(asked: Facts, made: Facts) -> int:
    return abs(control_class("density", asked.density) - control_class("density", made.density))


class _Measure(NamedTuple):
    control: str
    name: str
    always: bool
    of: Callable[[Facts, Facts], float]  # what is asked for, what is made


MEASURES = (
    _Measure("instruments", "F1 of the instruments", True, lambda asked, made: f1(asked.instruments, made.instruments)),
    _Measure("tempo", "tempo as asked", True, lambda asked, made: asked.tempo == made.tempo),
    _Measure(
        "time signature",
        "bars in the time signature",
        True,
        lambda asked, made: float(np.mean([one == asked.time_signatures[0] for one in made.time_signatures or [""]])),
    ),
    _Measure("bars", "as many bars", True, lambda asked, made: asked.bars == made.bars),
    _Measure("key", "notes in the scale", True, lambda asked, made: share_in_scale(asked.key, made.pitch_classes)),
    _Measure(
        "key",
        "heard in the key",
        False,
        lambda asked, made: float("nan") if asked.key is None else float(asked.key == made.key),
    ),
    _Measure("density", "density in the class", False, lambda asked, made: _density_classes(asked, made) == 0),
    _Measure("density", "within one class", False, lambda asked, made: _density_classes(asked, made) <= 1),
)
CORRELATION = "correlation of the density"


def control_report(checkpoint: Checkpoint, held_out: Sequence[Piece], settings: EvaluationSettings) -> ControlReport:
    """Ask for what the beginnings of ``settings.control_requests`` held-out pieces have, of each genre about as many:
    for their genre alone, for each control that can be disobeyed alone, and for all at once; and measure what comes.

    The correlation is Pearson's of the logarithms of the densities asked for and made. Intervals resample the songs
    asked after. The key of music is the one that fits best by :func:`~music_assets.foundation.keys.estimate_key`.

    Raises:
        NotMeasurable: the network does not read tokens or was trained without controls, or no piece has a note.
    """
    facts = checkpoint.facts
    if find_architecture(facts.architecture).reads != "tokens":
        raise NotMeasurable(f"A {facts.architecture} is told no wishes but the key, which it cannot leave.")
    if facts.training.get("control_share") == 0:
        raise NotMeasurable("The network was trained without controls: it is told no wishes.")
    heard = frozenset(facts.programs)
    asked = [
        (piece, found)
        for index, piece in enumerate(in_turn(held_out, facts.genres)[: settings.control_requests])
        for found in [Facts.of(piece, LENGTHS[index % len(LENGTHS)])]
        if found.instruments and (not heard or found.instruments <= heard)
    ]
    if not asked:
        raise NotMeasurable("No test piece begins with a note that the network has heard: there is nothing to ask for.")
    may_disobey = sorted({measure.control for measure in MEASURES if not measure.always})
    named: dict[str, Callable[[Facts], list[dict[str, Any]]]] = {
        "without": lambda found: [],
        "together": lambda found: [*found.wishes.values()],
        **{control: lambda found, name=control: [found.wishes.get(name, {})] for control in may_disobey},
    }
    made = {name: _made(checkpoint, asked, wishes, settings.seed) for name, wishes in named.items()}
    wanted = [found for _, found in asked]
    weights = bootstrap_weights(
        [piece.group for piece, _ in asked], settings.bootstrap_rounds, np.random.default_rng(settings.seed)
    )
    rows = []
    for measure in MEASURES:
        estimates = {
            name: resampled_mean(
                [measure.of(*pair) for pair in zip(wanted, made[name], strict=True)], weights, settings.confidence
            )
            for name in ("without", "together", *(() if measure.always else (measure.control,)))
        }
        count = sum(measure.control in found.wishes for found in wanted)
        rows.append(_row(measure.control, measure.name, measure.always, count, estimates))
    estimates = {
        name: _correlation(wanted, made[name], weights, settings) for name in ("without", "together", "density")
    }
    return ControlReport([*rows, _row("density", CORRELATION, False, len(wanted), estimates)])


def _row(control: str, measure: str, always: bool, requests: int, found: Mapping[str, Estimate]) -> Obedience:
    return Obedience(control, measure, always, requests, found["without"], found.get(control), found["together"])


def _made(
    checkpoint: Checkpoint,
    asked: Sequence[tuple[Piece, Facts]],
    wishes: Callable[[Facts], list[dict[str, Any]]],
    seed: int,
) -> list[Facts]:
    """What a sample has for each of those asked for; several are written at once on a CPU."""

    def make(index: int) -> Facts:
        piece, found = asked[index]
        fields: dict[str, Any] = {"max_bars": max(LENGTHS)}
        for wish in wishes(found):
            fields |= wish
        request = make_request(genre=piece.genre, count=1, seed=seed + index, **fields)
        (made,) = generate(checkpoint, request)
        return Facts.of(sampled_piece(piece.name, piece.genre, made.ids))

    return each_in_threads(checkpoint, make, len(asked))


def _correlation(
    asked: Sequence[Facts], made: Sequence[Facts], weights: NDArray[np.float64], settings: EvaluationSettings
) -> Estimate:
    x, y = (np.log([max(one.density, _DENSITY[0]) for one in of]) for of in (asked, made))
    if len(x) < _LEAST:
        return Estimate(np.nan, np.nan, np.nan)
    resampled = np.array([pearson(x, y, row) for row in weights])
    return percentile_interval(pearson(x, y, np.ones(len(x))), resampled, settings.confidence)


def pearson(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Pearson's correlation of weighted pairs, in [-1, 1]; NaN where either does not vary."""
    share = weights / weights.sum()
    x, y = x - share @ x, y - share @ y
    spread = np.sqrt((share @ x**2) * (share @ y**2))
    return float(share @ (x * y) / spread) if spread > 1e-12 else float("nan")


def key_of(notes: NoteArray, some: NDArray[np.bool_] | None = None) -> int | None:
    """The index in ``KEYS`` of the estimated key of all notes but drums, or of ``some`` bool[n], its pitch classes
    weighed by how long they sound; None where there is none."""
    pitched = notes.program != DRUMS
    if some is not None:
        pitched &= some
    found = estimate_key(np.bincount(notes.pitch[pitched] % 12, weights=notes.duration[pitched], minlength=12))
    return None if found is None else found[0]
