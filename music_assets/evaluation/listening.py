"""Blind listening tests: real and generated music under neutral names, what people say of it, and what that tells."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from symusic.core import ScoreSecond, TextMetaTick

from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.resampling import Estimate, bootstrap_weights, percentile_interval, resampled_mean
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.evaluation.subject import Subject
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.locks import locked
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.foundation.publishing import publish, restore
from music_assets.foundation.settings import Settings
from music_assets.paths import ListeningFiles
from music_assets.rendering.audio import OGG_RATE, PEAK, RenderError, encode_ogg, render_signal
from music_assets.tokens.grid import TICKS_PER_QUARTER
from music_assets.tokens.remi import decode
from music_assets.tokens.vocabulary import RANGES

T = TypeVar("T")

ENDS = {
    "musicality": ("noise", "I would hear it again"),
    "coherence": ("falls apart", "of one piece"),
    "creativity": ("trite", "full of ideas"),
}
"""What 1 and 5 mean on each scale."""
SCALES = tuple(ENDS)
"""What is rated, from 1 to 5."""
CHANCE = 0.5
"""Share of right guesses of one who cannot tell real from generated: a session has as many of both."""
FADE_SECONDS = 0.5
LOUDNESS = 0.1
"""Root mean square of every excerpt, where full scale is 1; less where a peak would be above ``PEAK``."""
_AUDIBLE = 1e-3  # root mean square that its beginning must reach: 60 dB below full scale
_BAR = RANGES["Bar"].start


class BadMaterial(MusicAssetsError):
    """There is no such session of a listening test, or what says the truth about it is damaged."""


class ListeningSettings(Settings):
    """What a session of a listening test is made of."""

    count: int = Field(default=5, ge=1, le=100, description="Real excerpts, and generated ones.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of the choice of pieces and of their order.")
    bars: int = Field(default=8, ge=1, le=64, description="Most that is heard of a piece, from its beginning.")
    least_seconds: float = Field(default=4, ge=1, description="Pieces whose bars sound for less are left out.")
    most_seconds: float = Field(default=20, ge=1, description="Longest excerpt.")


class Excerpt(BaseModel):
    """What is heard under a name, in truth."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="File without .ogg")
    is_real: bool
    genre: str
    piece: str = Field(description="Piece id, or the sample's name")
    group: str = Field(description="Song, or a hash of the sample: drawn as one in resampling")


class Material(BaseModel):
    """The truth about a session, kept beside the folder that its raters open."""

    model_config = ConfigDict(frozen=True)

    session: str
    architecture: str
    run: str = Field(description="Of the checkpoint that made the samples")
    settings: ListeningSettings
    seconds: float = Field(description="Of every excerpt")
    excerpts: list[Excerpt] = Field(description="In the order in which they are heard")
    short_pieces: int = Field(description="Real pieces of the genres that have too few bars, or no note in them")
    short_samples: int = Field(description="The same of the samples")


Rater = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_Grade = Annotated[int, Field(ge=1, le=5, strict=True)]


class Rating(BaseModel):
    """What one person says of one excerpt."""

    model_config = ConfigDict(frozen=True)

    session: str
    excerpt: str
    rater: Rater
    musicality: _Grade
    coherence: _Grade
    creativity: _Grade
    is_real: bool = Field(strict=True, description="What the rater takes it for")
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class StoredRatings:
    """The ratings of a file in the order in which they were given, and the lines, counted from 1, that hold none."""

    ratings: list[Rating]
    damaged: list[int]


@dataclass(frozen=True)
class ScaleReport:
    """One scale: mean ratings, their difference generated − real, and how far the raters agree."""

    scale: str
    real: Estimate
    generated: Estimate
    difference: Estimate
    alpha: float  # Krippendorff's, of intervals; NaN where nothing defines it


@dataclass(frozen=True)
class ListeningReport:
    """What the ratings of one checkpoint say. Shares of right guesses are to be held against ``CHANCE``; those of one
    kind alone show who takes most things for real, or for generated.
    """

    scales: list[ScaleReport]
    right: Estimate
    right_of_real: Estimate
    right_of_generated: Estimate
    ratings: int
    raters: int
    real_pieces: int  # that were rated
    generated_pieces: int
    gone: int  # ratings left out because what was rated is not known any more
    of_other_runs: int  # ratings left out because they are of another checkpoint

    def scale(self, name: str) -> ScaleReport:
        """One row of the table."""
        return next(row for row in self.scales if row.scale == name)


def prepare_session(subject: Subject, settings: ListeningSettings) -> Material:
    """Make a session of a blind test: as many real test pieces as samples of a checkpoint, of each genre as many of
    both, a piece of a song at most, in random order.

    Both are rendered from token ids, so that they differ in nothing but notes. An excerpt is of the first
    ``settings.bars`` bars, begins with their first note and is cut, with a fade-out, to the length of the shortest; all
    have the same root mean square before they are compressed. Pieces of fewer bars, or with too little to be heard in
    them, are left out, real and generated alike.

    The same samples, pieces and settings make the same session again: one that is there is left as it is.

    Raises:
        NotMeasurable: too few pieces or samples can be heard.
        StaleSamples: the samples are of another checkpoint.
    """
    random = np.random.default_rng(settings.seed)
    facts = subject.facts
    real, samples = subject.real("test"), subject.samples()
    long_real, long_samples = ([piece for piece in of if _fits(piece, settings.bars)] for of in (real, samples))
    pairs = _pairs(long_real, long_samples, settings, random)
    if len(pairs) < settings.count:
        raise NotMeasurable(
            f"Only {len(pairs)} pairs of a test piece and a sample of its genre have {settings.bars} bars that can be "
            f"heard, and {settings.count} are asked for: ask for fewer, add pieces, or generate more samples."
        )
    heard = _shuffled([one for pair in pairs for one in pair], random)
    signals = levelled([one.signal for one in heard])
    excerpts = [
        Excerpt(
            name=f"{number:02d}", is_real=one.is_real, genre=one.piece.genre, piece=one.piece.name,
            group=_group(one.piece, one.is_real),
        )
        for number, one in enumerate(heard, 1)
    ]  # fmt: skip
    told = [facts.run, settings.model_dump_json(), *(excerpt.model_dump_json() for excerpt in excerpts)]
    material = Material(
        session=hexdigest("\n".join(told), *(one.piece.ids.tobytes() for one in heard), size=4),
        architecture=facts.architecture,
        run=facts.run,
        settings=settings,
        seconds=signals.shape[1] / OGG_RATE,
        excerpts=excerpts,
        short_pieces=len(real) - len(long_real),
        short_samples=len(samples) - len(long_samples),
    )
    _write(ListeningFiles(subject.paths.listening(facts.architecture)), material, signals)
    return material


def _write(files: ListeningFiles, material: Material, signals: NDArray[np.float32]) -> None:
    """The truth first: who finds a folder can rate it."""
    folder = restore(files.session(material.session))
    if folder.exists() and files.material(material.session).exists():
        return
    with publish(files.material(material.session)) as fresh:
        fresh.write_text(material.model_dump_json(indent=1), encoding="utf-8")
    with publish(folder) as fresh:
        fresh.mkdir()
        for excerpt, signal in zip(material.excerpts, signals, strict=True):
            (fresh / f"{excerpt.name}.ogg").write_bytes(encode_ogg(signal))


def _fits(piece: Piece, bars: int) -> bool:
    """Whether a piece has so many bars, and a note in them."""
    return len(piece.notes.bar_lengths) >= bars and bool((piece.notes.bar < bars).any())


def _group(piece: Piece, is_real: bool) -> str:
    """The song of a real piece; a sample is told by its ids, for names come again when it is sampled anew."""
    return piece.group if is_real else hexdigest(piece.ids.tobytes())


class _Heard(NamedTuple):
    piece: Piece
    is_real: bool
    signal: NDArray[np.float32]


def _pairs(
    real: Sequence[Piece], samples: Sequence[Piece], settings: ListeningSettings, random: np.random.Generator
) -> list[tuple[_Heard, _Heard]]:
    """At most ``settings.count`` samples that can be heard, each with a real piece of its genre; genres take turns."""
    genres = sorted({piece.genre for piece in real} & {piece.genre for piece in samples})
    turns: list[Iterator[tuple[_Heard, _Heard]]] = []
    for genre in _shuffled(genres, random):
        generated, true = ([piece for piece in pieces if piece.genre == genre] for pieces in (samples, real))
        turns.append(
            zip(_heard(generated, False, settings, random), _heard(true, True, settings, random), strict=False)
        )
    found: list[tuple[_Heard, _Heard]] = []
    while turns and len(found) < settings.count:
        turn = turns.pop(0)
        if (pair := next(turn, None)) is not None:
            found.append(pair)
            turns.append(turn)
    return found


def _heard(
    pieces: Sequence[Piece], is_real: bool, settings: ListeningSettings, random: np.random.Generator
) -> Iterator[_Heard]:
    """Those that can be heard, one of a group, in random order; each is rendered when it is asked for."""
    seen: set[str] = set()
    for piece in _shuffled(pieces, random):
        group = _group(piece, is_real)
        if group not in seen and (signal := _sound(piece, settings)) is not None:
            seen.add(group)
            yield _Heard(piece, is_real, signal)


def _shuffled(items: Sequence[T], random: np.random.Generator) -> list[T]:
    order: list[int] = random.permutation(len(items)).tolist()
    return [items[index] for index in order]


def _sound(piece: Piece, settings: ListeningSettings) -> NDArray[np.float32] | None:
    """The first bars of a piece from its first note on, float32[frames] at ``OGG_RATE``, not longer than the settings
    allow; None where they are too short or too soft to be judged."""
    lines = np.append(np.flatnonzero(piece.ids == _BAR), len(piece.ids))
    score = decode(piece.ids[: lines[settings.bars]])
    beats = piece.notes.bar_starts[settings.bars - 1] + piece.notes.bar_lengths[settings.bars - 1]
    timed = score.copy()
    timed.markers.append(TextMetaTick(round(beats * TICKS_PER_QUARTER), ""))
    seconds = cast("ScoreSecond", timed.to("second"))
    begin = min(track.start() for track in seconds.tracks)
    length = min(seconds.markers[0].time - begin, settings.most_seconds)
    if length < min(settings.least_seconds, settings.most_seconds):
        return None
    try:
        signal = render_signal(midi_bytes(score), math.inf)
    except RenderError:
        return None
    signal = signal[round(begin * OGG_RATE) :][: round(length * OGG_RATE)]
    if _loudness(signal[: round(settings.least_seconds * OGG_RATE)]) < _AUDIBLE:
        return None
    return np.pad(signal, (0, round(length * OGG_RATE) - len(signal)))


def _loudness(signal: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) if len(signal) else 0.0


def levelled(signals: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Sounds at ``OGG_RATE`` cut to the shortest and faded out over their last half second, float32[n, frames].

    All have the same root mean square: ``LOUDNESS`` or, where a peak would be above ``PEAK``, as much as that allows.
    None may be silent in what is left of it.
    """
    frames = min(map(len, signals))
    cut = np.stack([signal[:frames] for signal in signals]).astype(np.float64)
    fade = min(frames, round(FADE_SECONDS * OGG_RATE))
    cut[:, frames - fade :] *= np.linspace(1, 0, fade)
    cut /= np.sqrt(np.mean(cut**2, axis=1, keepdims=True))
    return (cut * min(LOUDNESS, PEAK / np.abs(cut).max())).astype(np.float32)


def read_material(files: ListeningFiles, session: str) -> Material:
    """The truth about a session.

    Raises:
        BadMaterial: there is no such session, or what says the truth is damaged.
    """
    path = files.material(session)
    try:
        return Material.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        known = sorted(found.stem for found in files.folder.glob("*.json"))
        there = f"there are {', '.join(known)}" if known else "prepare one with music-assets listen prepare"
        raise BadMaterial(f"There is no session {session} in {files.folder}: {there}.") from None
    except ValidationError as error:
        raise BadMaterial(
            f"{path} is damaged ({error.errors()[0]['msg']}): delete it, and what was said of it is left out."
        ) from None


def read_materials(files: ListeningFiles) -> dict[str, Material]:
    """The truth about every session, by its name.

    Raises:
        BadMaterial: that about one is damaged.
    """
    return {path.stem: read_material(files, path.stem) for path in sorted(files.folder.glob("*.json"))}


def append_rating(path: Path, rating: Rating) -> None:
    """Add a rating to a file, which is made if there is none; it is on the disk when this returns.

    Several processes may do so at once. What a killed one left of a line becomes a line of its own.

    Raises:
        OSError: it cannot be written; the file then holds what it held before, and perhaps a damaged line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, create=True, wait=True) as held:
        size = os.fstat(held).st_size
        torn = size > 0 and os.pread(held, 1, size - 1) != b"\n"
        line = b"\n" * torn + rating.model_dump_json().encode() + b"\n"
        appending = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            while line:
                line = line[os.write(appending, line) :]
            os.fsync(appending)
        finally:
            os.close(appending)
        if not size:
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A new file outlives a power cut only if its folder's entry does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_ratings(path: Path) -> StoredRatings:
    """All that :func:`append_rating` added; none where there is no file."""
    try:
        with locked(path, wait=True):
            lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return StoredRatings([], [])
    ratings: list[Rating] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                ratings.append(Rating.model_validate_json(line))
            except ValidationError:
                damaged.append(number)
    return StoredRatings(ratings, damaged)


def not_rated_yet(files: ListeningFiles, material: Material, rater: str) -> list[str]:
    """The excerpts of a session that a rater has said nothing of, in their order."""
    ratings = read_ratings(files.ratings).ratings
    rated = {one.excerpt for one in ratings if (one.session, one.rater) == (material.session, rater)}
    return [excerpt.name for excerpt in material.excerpts if excerpt.name not in rated]


def latest(ratings: Sequence[Rating]) -> list[Rating]:
    """Of what a rater said of an excerpt, the last; ratings are in the order in which they were given."""
    return [*{(one.session, one.excerpt, one.rater): one for one in ratings}.values()]


def report_so_far(
    files: ListeningFiles, settings: EvaluationSettings, run: str, warn: Callable[[str], None] = lambda sentence: None
) -> ListeningReport:
    """:func:`listening_report` of all that is kept in ``files``; ``warn`` is told of ratings that are damaged.

    Raises:
        NotMeasurable: there is no rating of this checkpoint.
    """
    stored = read_ratings(files.ratings)
    if stored.damaged:
        lines = ", ".join(map(str, stored.damaged))
        warn(f"{files.ratings} is damaged in line {lines}, which is left out.")
    return listening_report(stored.ratings, read_materials(files), settings, run)


def listening_report(
    ratings: Sequence[Rating], materials: Mapping[str, Material], settings: EvaluationSettings, run: str
) -> ListeningReport:
    """What the latest ratings of the excerpts of the checkpoint ``run`` say; others are left out and counted.

    A mean is over ratings. Its interval resamples raters and pieces, see :func:`crossed_weights`: it tells how far
    other people and other pieces might differ, as far as there are several of either; with one rater it is of pieces
    alone.

    Args:
        ratings: in the order in which they were given.
        materials: by session.

    Raises:
        NotMeasurable: there is no rating of this checkpoint.
    """
    given = latest(ratings)
    known = [(one, materials[one.session], truth) for one in given if (truth := _truth(one, materials)) is not None]
    kept = [(one, truth) for one, material, truth in known if material.run == run]
    gone, of_other_runs = len(given) - len(known), len(known) - len(kept)
    if not kept:
        others = f" ({gone} of excerpts that are gone, {of_other_runs} of other checkpoints)" if given else ""
        raise NotMeasurable(
            f"There are no ratings yet of the checkpoint {run}{others}: make a session with music-assets listen "
            "prepare, and rate it with music-assets listen rate."
        )
    is_real = np.array([truth.is_real for _, truth in kept])
    pieces = [f"{truth.is_real} {truth.group}" for _, truth in kept]
    raters = [one.rater for one, _ in kept]
    random = np.random.default_rng(settings.seed)
    weights = crossed_weights(raters, pieces, is_real, settings.bootstrap_rounds, random)
    confidence = settings.confidence
    scales: list[ScaleReport] = []
    for scale in SCALES:
        values = np.array([getattr(one, scale) for one, _ in kept], np.float64)
        real, generated, difference = _compared(values, is_real, weights, confidence)
        table = ratings_table([one for one, _ in kept], values)
        scales.append(ScaleReport(scale, real, generated, difference, krippendorff_alpha(table)))
    right = np.array([one.is_real == truth.is_real for one, truth in kept], np.float64)
    right_of_real, right_of_generated, _ = _compared(right, is_real, weights, confidence)
    return ListeningReport(
        scales=scales,
        right=resampled_mean(right.tolist(), weights, confidence),
        right_of_real=right_of_real,
        right_of_generated=right_of_generated,
        ratings=len(kept),
        raters=len(set(raters)),
        real_pieces=len({piece for piece, real in zip(pieces, is_real, strict=True) if real}),
        generated_pieces=len({piece for piece, real in zip(pieces, is_real, strict=True) if not real}),
        gone=gone,
        of_other_runs=of_other_runs,
    )


def _truth(rating: Rating, materials: Mapping[str, Material]) -> Excerpt | None:
    material = materials.get(rating.session)
    excerpts = material.excerpts if material else []
    return next((excerpt for excerpt in excerpts if excerpt.name == rating.excerpt), None)


def _compared(
    values: NDArray[np.float64], is_real: NDArray[np.bool_], weights: NDArray[np.float64], confidence: float
) -> tuple[Estimate, Estimate, Estimate]:
    """The mean of the real ones, of the generated ones, and how much higher the latter is; NaN without ratings."""
    means = [_means(values[of], weights[:, of]) for of in (is_real, ~is_real)]
    (real, real_rounds), (generated, generated_rounds) = means
    return (
        percentile_interval(real, real_rounds, confidence),
        percentile_interval(generated, generated_rounds, confidence),
        percentile_interval(generated - real, generated_rounds - real_rounds, confidence),
    )


def _means(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The mean, and float64[rounds] of the weighted ones; NaN in rounds that draw none."""
    if not len(values):
        return np.nan, np.full(len(weights), np.nan)
    with np.errstate(invalid="ignore"):
        return float(values.mean()), weights @ values / weights.sum(axis=1)


def crossed_weights(
    raters: Sequence[str],
    pieces: Sequence[str],
    is_real: NDArray[np.bool_],
    rounds: int,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """How much each of n ratings weighs in each round of a bootstrap over raters and pieces, float64[rounds, n].

    Raters and pieces are drawn with replacement and independently of each other, and a rating counts as often as its
    rater times as often as its piece: the pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", Annals of Applied
    Statistics 1, 2007), which does not understate the variance where both are random. Real and generated pieces are
    drawn each among themselves, for a session has as many of both. Where no rater that is drawn has rated a piece that
    is, a round weighs nothing.
    """
    weights = bootstrap_weights(raters, rounds, random)
    for kind in (True, False):
        of = np.flatnonzero(is_real == kind).tolist()
        if of:
            weights[:, of] *= bootstrap_weights([pieces[index] for index in of], rounds, random)
    return weights


def ratings_table(ratings: Sequence[Rating], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One value of each rating as float64[raters, excerpts], NaN where a rater did not rate an excerpt."""
    raters = {rater: row for row, rater in enumerate(dict.fromkeys(one.rater for one in ratings))}
    heard = [(one.session, one.excerpt) for one in ratings]
    excerpts = {excerpt: column for column, excerpt in enumerate(dict.fromkeys(heard))}
    table = np.full((len(raters), len(excerpts)), np.nan)
    table[[raters[one.rater] for one in ratings], [excerpts[excerpt] for excerpt in heard]] = values
    return table


def krippendorff_alpha(table: NDArray[np.float64]) -> float:
    """Agreement of raters on a scale of equal steps: float64[raters, units], NaN where a rater did not rate.

    1 − D_o/D_e, the mean squared difference of two values of one unit against that of any two values (Krippendorff,
    "Computing Krippendorff's Alpha-Reliability", 2011, with the interval metric): 1 where all agree, 0 where they agree
    as by chance, below where less. Units with one value do not count. NaN where no unit has two values, or where none
    differs from another: nothing shows then that anything is told apart.
    """
    count = np.isfinite(table).sum(axis=0)
    paired = table[:, count >= 2]
    count = count[count >= 2]
    total = int(count.sum())
    if not total:
        return float("nan")
    centred = paired - np.nanmean(paired)
    # over ordered pairs of m values, Σ (x − y)² = 2 (m Σ x² − (Σ x)²)
    squares, sums = np.nansum(centred**2, axis=0), np.nansum(centred, axis=0)
    observed = float((2 * (count * squares - sums**2) / (count - 1)).sum() / total)
    expected = float(2 * (total * squares.sum() - sums.sum() ** 2) / (total * (total - 1)))
    return 1 - observed / expected if expected > 1e-12 else float("nan")
