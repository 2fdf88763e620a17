"""What guidance and temperature buy and cost: samples at several of each, judged like any samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.classifier import Listener, TooFewGenres, generated_excerpts, real_excerpts
from music_assets.evaluation.comparison import compare_excerpts
from music_assets.evaluation.copying import PERCENTILE, copy_report
from music_assets.evaluation.distances import Distance
from music_assets.evaluation.features import excerpt
from music_assets.evaluation.pieces import Piece, sampled_piece
from music_assets.evaluation.resampling import Estimate, bootstrap_weights, proportion, resampled_mean
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.generation.generate import generate
from music_assets.generation.request import Wishes, make_request
from music_assets.models.registry import find_architecture
from music_assets.tokens.remi import NoteArray

GUIDANCES = (1.0, 2.0, 4.0)
TEMPERATURES = (0.8, 0.9, 1.1)
"""What is tried beside the defaults of a request, one at a time."""
RUN = 4
"""Pitches of a run."""
CONSISTENCY, BLIND, BEYOND, COPYING, DISTINCT, SHARED = MEASURES = (
    "genre consistency",
    "genre consistency without programs",
    "distances beyond real music's own",
    "samples that copy",
    "distinct runs in a sample",
    "runs shared with other samples",
)


@dataclass(frozen=True)
class CurvePoint:
    """One measure of samples at one setting, a share; of a consistency, of the way from chance to real music."""

    varied: str  # guidance or temperature; the other is the default
    value: float
    measure: str
    estimate: Estimate


@dataclass(frozen=True)
class GuidanceReport:
    """A row a setting and measure, in the order of the settings; the default setting is in both curves. ``real`` says
    what real music has, by measure: as many beginnings a genre of training pieces, and 1 or what is defined."""

    rows: list[CurvePoint]
    real: dict[str, float]
    samples: int  # at each setting
    defaults: dict[str, float]

    def curve(self, varied: str, measure: str) -> list[CurvePoint]:
        """The readings of one curve, from left to right."""
        found = [row for row in self.rows if (row.varied, row.measure) == (varied, measure)]
        return sorted(found, key=lambda row: row.value)


def pitch_runs(notes: NoteArray) -> NDArray[np.int64]:
    """Every run of four successive pitches of one instrument as one number, int64[n]; notes of a chord follow each
    other from the lowest to the highest. None under four notes."""
    found = [
        np.lib.stride_tricks.sliding_window_view(pitch.astype(np.int64), RUN) @ 128 ** np.arange(RUN)
        for program in np.unique(notes.program)
        for pitch in [notes.pitch[notes.program == program]]
        if len(pitch) >= RUN
    ]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def distinct_share(runs: NDArray[np.int64]) -> float:
    """Different runs over all runs of one sample, in (0, 1] (distinct-n of Li et al., 2016); NaN without a run."""
    return len(np.unique(runs)) / len(runs) if len(runs) else np.nan


def shared_share(runs: NDArray[np.int64], others: Sequence[NDArray[np.int64]]) -> float:
    """Of the different runs of one sample the share that another one has too, in [0, 1]; NaN without a run.

    It grows with the number of others: compare sets of equal size.
    """
    mine = np.unique(runs)
    known = np.unique(np.concatenate(others)) if others else np.zeros(0, np.int64)
    return float(np.isin(mine, known).mean()) if len(mine) else np.nan


def variety(samples: Sequence[Piece], settings: EvaluationSettings) -> dict[str, Estimate]:
    """Means over samples of :func:`distinct_share` and of :func:`shared_share` with the others of their genre, which
    repeat themselves and each other; intervals resample samples."""
    runs = [pitch_runs(sample.notes) for sample in samples]
    weights = bootstrap_weights(
        [sample.group for sample in samples], settings.bootstrap_rounds, np.random.default_rng(settings.seed)
    )
    shared = [
        shared_share(
            own,
            [other for at, other in enumerate(runs) if at != index and samples[at].genre == samples[index].genre],
        )
        for index, own in enumerate(runs)
    ]
    return {
        DISTINCT: resampled_mean([*map(distinct_share, runs)], weights, settings.confidence),
        SHARED: resampled_mean(shared, weights, settings.confidence),
    }


def beyond(distances: Sequence[Distance], settings: EvaluationSettings) -> Estimate:
    """The share of distances that lie beyond real music's own; its interval resamples genres."""
    weights = bootstrap_weights(
        [distance.genre for distance in distances], settings.bootstrap_rounds, np.random.default_rng(settings.seed)
    )
    return resampled_mean([float(distance.is_beyond_floor) for distance in distances], weights, settings.confidence)


def guidance_report(
    checkpoint: Checkpoint,
    training: Sequence[Piece],
    held_out: Sequence[Piece],
    settings: EvaluationSettings,
    progress: Callable[[str], None] = lambda line: None,
) -> GuidanceReport:
    """Sample each genre ``settings.guidance_samples`` times at every one of ``GUIDANCES`` and ``TEMPERATURES``, judge
    the beginnings of ``settings.excerpt_bars`` bars, and say what real music has.

    The same seeds everywhere, and one classifier for all.

    Raises:
        NotMeasurable: the network knows no guidance, or fewer than two genres have training and test pieces.
    """
    facts = checkpoint.facts
    if find_architecture(facts.architecture).reads != "tokens":
        raise NotMeasurable(f"A {facts.architecture} knows no guidance.")
    bars = settings.excerpt_bars
    train = real_excerpts(training, bars, settings.excerpts_per_piece)
    test = real_excerpts(held_out, bars)
    genres = sorted({*facts.genres} & {*train.genres.tolist()} & {*test.genres.tolist()})
    try:
        listeners = {
            name: Listener(train, test, genres, settings, shown)
            for name, shown in ((CONSISTENCY, True), (BLIND, False))
        }
    except TooFewGenres:
        raise NotMeasurable("Guidance is judged by two genres with training and test pieces: add pieces.") from None

    def judge(samples: Sequence[Piece]) -> dict[str, Estimate]:
        generated = generated_excerpts(samples, bars)
        distances = compare_excerpts(test, generated, bars, settings).distances
        return {
            **{name: listener.judge(generated).headline for name, listener in listeners.items()},
            BEYOND: beyond(distances, settings),
            **variety(samples, settings),
        }

    usual = Wishes()
    defaults = {"guidance": usual.guidance, "temperature": usual.temperature}
    tried = [("guidance", value) for value in GUIDANCES] + [("temperature", value) for value in TEMPERATURES]
    samples: dict[tuple[str, float], list[Piece]] = {}
    for varied, value in [("guidance", usual.guidance), *tried]:
        progress(f"{varied} {value:g}")
        samples[varied, value] = _samples(checkpoint, genres, {**defaults, varied: value}, settings)
    copied = _copying(training, held_out, [*samples.values()], settings)
    found = {
        setting: {**judge(made), COPYING: share} for (setting, made), share in zip(samples.items(), copied, strict=True)
    }
    found["temperature", usual.temperature] = found["guidance", usual.guidance]
    rows = [
        CurvePoint(varied, value, measure, estimates[measure])
        for (varied, value), estimates in found.items()
        for measure in MEASURES
    ]
    per_genre = settings.guidance_samples
    real = {CONSISTENCY: 1.0, BLIND: 1.0, COPYING: 1 - PERCENTILE / 100}
    of_pieces = variety(_beginnings(training, genres, per_genre, bars), settings)
    real |= {name: one.value for name, one in of_pieces.items()}
    return GuidanceReport(rows, real, len(genres) * per_genre, defaults)


def _samples(
    checkpoint: Checkpoint, genres: Sequence[str], wishes: dict[str, float], settings: EvaluationSettings
) -> list[Piece]:
    return [
        sampled_piece(f"{genre}-{one.index}", genre, one.ids)
        for genre in genres
        for one in generate(
            checkpoint,
            make_request(
                genre=genre,
                count=settings.guidance_samples,
                max_bars=settings.excerpt_bars,
                seed=settings.seed,
                **wishes,
            ),
        )
    ]


def _copying(
    training: Sequence[Piece],
    held_out: Sequence[Piece],
    samples: Sequence[Sequence[Piece]],
    settings: EvaluationSettings,
) -> list[Estimate]:
    """The share that copies, of each of some sets of as many samples a genre; training pieces are read once for all."""
    report = copy_report(training, held_out, [piece for some in samples for piece in some], settings)
    above = np.concatenate([(one.generated > one.threshold).reshape(len(samples), -1) for one in report.genres], axis=1)
    return [proportion(of_set, settings.confidence) for of_set in above]


def _beginnings(pieces: Sequence[Piece], genres: Sequence[str], count: int, bars: int) -> list[Piece]:
    """The first bars of so many pieces of each genre, each of another song where there are enough."""
    chosen: list[Piece] = []
    for genre in genres:
        songs = {piece.group: piece for piece in reversed(pieces) if piece.genre == genre}
        chosen += [replace(piece, notes=excerpt(piece.notes, bars)) for piece in [*songs.values()][:count]]
    return chosen
