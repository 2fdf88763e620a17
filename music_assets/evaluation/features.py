"""Musical features of an excerpt, one function a metric, and the table of them all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import polars as pl
from numpy.typing import NDArray

from music_assets.evaluation.arrays import Floats, Integers
from music_assets.tokens.remi import NoteArray
from music_assets.tokens.vocabulary import DRUMS

STEPS_PER_BEAT = 4
MAJOR = (0, 2, 4, 5, 7, 9, 11)
NATURAL_MINOR = (0, 2, 3, 5, 7, 8, 10)
FEWEST_NOTES_OF_A_SCALE = 7
NOTE_VALUES = ("1/8", "1/4", "1/3", "1/2", "3/4", "1", "3/2", "2", "3", "4", "8")  # beats
PROGRAM_FAMILIES = (
    *("piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass"),
    *("reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects"),
    "drums",
)
VELOCITY_BIN = 8
POSITIONS = 16

_SCALES = np.array(
    [
        [(pitch_class - root) % 12 in scale for pitch_class in range(12)]
        for scale in (MAJOR, NATURAL_MINOR)
        for root in range(12)
    ]
)
_VALUES = np.array([float(Fraction(value)) for value in NOTE_VALUES])
_VALUE_EDGES = np.sqrt(_VALUES[:-1] * _VALUES[1:])


def excerpt(notes: NoteArray, bars: int, first: int = 0) -> NoteArray:
    """At most ``bars`` bars from bar ``first`` on, as a piece that starts at beat 0.

    Notes belong to the bar they start in and are cut at the excerpt's end. ``seconds`` is the length of
    the bars at the piece's mean tempo. Beyond the last bar the excerpt is empty.
    """
    starts, lengths = notes.bar_starts[first : first + bars], notes.bar_lengths[first : first + bars]
    begin = starts[0] if len(starts) else 0.0
    beats = float(lengths.sum())
    inside = (notes.bar >= first) & (notes.bar < first + bars)
    onset = notes.onset[inside] - begin
    end = (notes.onset + notes.duration).max(initial=0.0)
    return replace(
        notes,
        onset=onset,
        duration=np.minimum(notes.duration[inside], beats - onset),
        pitch=notes.pitch[inside],
        velocity=notes.velocity[inside],
        program=notes.program[inside],
        bar=(notes.bar[inside] - first).astype(notes.bar.dtype),
        bar_starts=starts - begin,
        bar_lengths=lengths,
        seconds=float(notes.seconds * beats / end) if end else 0.0,
    )


def windows(notes: NoteArray, bars: int, most: int | None = None) -> list[NoteArray]:
    """The complete, non-overlapping excerpts of ``bars`` bars that hold a note, the first ``most`` of
    them.
    """
    firsts = range(0, len(notes.bar_starts) - bars + 1, bars)
    found = [window for first in firsts if len(window := excerpt(notes, bars, first))]
    return found[:most]


def pitch_class_histogram(notes: NoteArray) -> Floats:
    """Share of the non-drum notes in each of the 12 pitch classes, C first; all zero without such notes."""
    return _shares(_pitched(notes)[1] % 12, 12)


def pitch_class_entropy(notes: NoteArray, bars: int) -> float:
    """Mean over windows of ``bars`` bars of −Σ p log2 p over pitch classes (Wu and Yang, 2020), in bits,
    0 to 3.58.

    Windows without a non-drum note are left out; NaN where all are. Short windows, because over a whole
    piece a drift from key to key looks like richness.
    """
    mask, pitch = _pitched(notes)
    if not len(pitch):
        return np.nan
    window = notes.bar[mask] // bars
    counts = np.bincount(window * 12 + pitch % 12, minlength=(window.max() + 1) * 12).reshape(-1, 12)
    counts = counts[counts.sum(axis=1) > 0]
    p = counts / counts.sum(axis=1, keepdims=True)
    return abs(float((p * np.log2(p, out=np.zeros_like(p), where=p > 0)).sum(axis=1).mean()))


def scale_consistency(notes: NoteArray) -> float:
    """Largest share of the non-drum notes in one of the 24 major and natural minor scales (Mogren, 2016).

    The natural minor scales are major ones from another root, as in muspy, so 12 of the sets differ. NaN
    under seven notes: a handful always fits some scale, and one note would score 1.
    """
    pitch = _pitched(notes)[1]
    if len(pitch) < FEWEST_NOTES_OF_A_SCALE:
        return np.nan
    return float((_SCALES @ _shares(pitch % 12, 12)).max())


def groove_consistency(notes: NoteArray) -> float:
    """1 − mean over neighbouring bars of Hamming(G_i, G_i+1) / steps (Wu and Yang, 2020), in 0 to 1.

    G_i says which sixteenths of bar i have an onset (16 steps in 4/4; on a finer grid silence against a kick
    drum would look alike). Pairs of unequal length and pairs of two empty bars are left out; NaN without
    a pair.
    """
    steps = np.maximum(np.rint(notes.bar_lengths * STEPS_PER_BEAT).astype(int), 1)
    if len(steps) < 2:
        return np.nan
    grid = np.zeros((len(steps), steps.max()), bool)
    grid[notes.bar, np.minimum(_step_in_bar(notes), steps[notes.bar] - 1)] = True
    pairs = (steps[:-1] == steps[1:]) & (grid[:-1] | grid[1:]).any(axis=1)
    if not pairs.any():
        return np.nan
    differing = (grid[:-1] != grid[1:]).sum(axis=1)[pairs]
    return float(1 - (differing / steps[:-1][pairs]).mean())


def polyphony(notes: NoteArray) -> float:
    """Mean number of different pitches that sound at once, over the time in which any sounds; drums left out.

    Exact in time, no grid: Σ over pitches of the time it sounds / time in which one sounds. NaN without
    notes; 1 for a melody. (muspy's ``polyphony_rate`` is another thing: the share of steps with more than
    two.)
    """
    mask, pitch = _pitched(notes)
    onset, end = notes.onset[mask], (notes.onset + notes.duration)[mask]
    sounding = _covered(onset, end)
    if sounding == 0:
        return np.nan
    apart = pitch * (2 * end.max() + 1)  # one line of time a pitch, end to end
    return float(_covered(onset + apart, end + apart) / sounding)


def notes_per_beat(notes: NoteArray) -> float:
    """Notes, drums included, over beats of all bars; NaN without bars. Compare equal numbers of bars only."""
    return len(notes) / beats if (beats := notes.bar_lengths.sum()) else np.nan


def notes_per_second(notes: NoteArray) -> float:
    """Notes, drums included, over seconds; NaN without length. Compare equal numbers of bars only."""
    return len(notes) / notes.seconds if notes.seconds else np.nan


def pitch_range(notes: NoteArray) -> float:
    """Highest minus lowest non-drum pitch in semitones; 0 for one note, NaN for none."""
    pitch = _pitched(notes)[1]
    return float(np.ptp(pitch)) if len(pitch) else np.nan


def mean_pitch(notes: NoteArray) -> float:
    """Mean non-drum pitch, as a MIDI number; NaN for no note."""
    pitch = _pitched(notes)[1]
    return float(pitch.mean()) if len(pitch) else np.nan


def empty_beat_rate(notes: NoteArray) -> float:
    """Share of the beats in which nothing sounds, drums included; 1 for bars of silence, NaN without bars."""
    beats = int(np.ceil(notes.bar_lengths.sum() - 1e-6))
    if beats == 0:
        return np.nan
    first = np.clip(np.floor(notes.onset + 1e-6).astype(int), 0, beats - 1)
    last = np.ceil(notes.onset + notes.duration - 1e-6).astype(int)
    change = np.bincount(first, minlength=beats + 1) - np.bincount(np.clip(last, first + 1, beats), minlength=beats + 1)
    return float((np.cumsum(change)[:beats] == 0).mean())


def programs_used(notes: NoteArray) -> float:
    """Number of different programs; all drums count as one. 0 without notes."""
    return float(len(np.unique(notes.program)))


def rhythmic_autocorrelation(notes: NoteArray, lag: int) -> float:
    """Pearson's r between the onset vector on the sixteenth grid and itself ``lag`` sixteenths later, −1
    to 1.

    The vector holds 1 where any note starts. Taking the mean away and dividing by r(0) of the overlapping
    parts leaves 0 for chance at any density and 1 for any rhythm that repeats after ``lag``, a stream
    without gaps included; 0 where only one part changes. NaN without notes, or where ``lag`` reaches the
    excerpt's end.
    """
    steps = int(np.rint(notes.bar_lengths.sum() * STEPS_PER_BEAT))
    if not 0 < lag < steps or not len(notes):
        return np.nan
    onsets = np.zeros(steps)
    onsets[np.clip(np.floor(notes.onset * STEPS_PER_BEAT + 1e-6).astype(int), 0, steps - 1)] = 1
    early, late = onsets[:-lag], onsets[lag:]
    if (early == late).all():
        return 1.0
    early, late = early - early.mean(), late - late.mean()
    scale = np.sqrt((early @ early) * (late @ late))
    return float(early @ late / scale) if scale else 0.0


def bar_self_similarity(notes: NoteArray, most: int = 40) -> Floats:
    """Mean over pairs of bars 1..``most`` bars apart of |A ∩ B| / |A ∪ B|; shape (most,).

    A bar is its set of (sixteenth, program, pitch). Pairs of two empty bars are left out; NaN at distances
    without a pair. Compare excerpts of equal length only.
    """
    bars = len(notes.bar_starts)
    similarity = np.full(most, np.nan)
    code = (_step_in_bar(notes) * (DRUMS + 1) + notes.program.astype(int)) * 128 + notes.pitch
    items, item = np.unique(code, return_inverse=True)
    holds = np.zeros((bars, len(items)), np.float32)
    holds[notes.bar, item] = 1
    common = (holds @ holds.T).astype(np.float64)
    size = holds.sum(axis=1)
    union = size[:, None] + size[None, :] - common
    for distance in range(1, min(most, bars - 1) + 1):
        shared, either = np.diagonal(common, distance), np.diagonal(union, distance)
        if (either > 0).any():
            similarity[distance - 1] = (shared[either > 0] / either[either > 0]).mean()
    return similarity


def duration_histogram(notes: NoteArray) -> Floats:
    """Share of the non-drum notes by nearest note value (in log time) of ``NOTE_VALUES`` beats; zeros if
    none.
    """
    return _note_values(notes.duration[_pitched(notes)[0]])


def inter_onset_histogram(notes: NoteArray) -> Floats:
    """Share of the gaps between consecutive onsets by nearest note value of ``NOTE_VALUES`` beats.

    Notes of a chord, drums included, are one onset; all zero under two onsets.
    """
    return _note_values(np.diff(np.unique(np.round(notes.onset, 4))))


def velocity_histogram(notes: NoteArray) -> Floats:
    """Share of all notes in each of 16 velocity bins of 8; all zero without notes."""
    return _shares(notes.velocity // VELOCITY_BIN, 128 // VELOCITY_BIN)


def position_histogram(notes: NoteArray) -> Floats:
    """Share of all notes on each sixteenth of the bar; later than the 16th counts there. All zero if none."""
    return _shares(np.minimum(_step_in_bar(notes), POSITIONS - 1), POSITIONS)


def program_histogram(notes: NoteArray) -> Floats:
    """Share of all notes in each of the 16 General MIDI families and drums; all zero without notes."""
    return _shares(notes.program // 8, len(PROGRAM_FAMILIES))


@dataclass(frozen=True)
class Histogram:
    """A histogram feature: what it counts and the names of its bins."""

    compute: Callable[[NoteArray], Floats]
    bins: tuple[str, ...]
    unit: str


SCALARS: dict[str, Callable[[NoteArray], float]] = {
    "pitch-class entropy, 1 bar (bits)": lambda notes: pitch_class_entropy(notes, 1),
    "pitch-class entropy, 4 bars (bits)": lambda notes: pitch_class_entropy(notes, 4),
    "scale consistency": scale_consistency,
    "groove consistency": groove_consistency,
    "polyphony": polyphony,
    "notes per beat": notes_per_beat,
    "notes per second": notes_per_second,
    "pitch range (semitones)": pitch_range,
    "mean pitch": mean_pitch,
    "empty-beat rate": empty_beat_rate,
    "programs used": programs_used,
    "rhythmic autocorrelation, 1 beat": lambda notes: rhythmic_autocorrelation(notes, STEPS_PER_BEAT),
    "rhythmic autocorrelation, 1 bar": lambda notes: rhythmic_autocorrelation(notes, _bar_steps(notes)),
    "rhythmic autocorrelation, 2 bars": lambda notes: rhythmic_autocorrelation(notes, 2 * _bar_steps(notes)),
    "rhythmic autocorrelation, 4 bars": lambda notes: rhythmic_autocorrelation(notes, 4 * _bar_steps(notes)),
    "bar similarity, 1 apart": lambda notes: float(bar_self_similarity(notes, 4)[0]),
    "bar similarity, 2 apart": lambda notes: float(bar_self_similarity(notes, 4)[1]),
    "bar similarity, 4 apart": lambda notes: float(bar_self_similarity(notes, 4)[3]),
}
HISTOGRAMS: dict[str, Histogram] = {
    "pitch class": Histogram(
        pitch_class_histogram, ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"), ""
    ),
    "duration": Histogram(duration_histogram, NOTE_VALUES, "beats"),
    "inter-onset interval": Histogram(inter_onset_histogram, NOTE_VALUES, "beats"),
    "position in bar": Histogram(position_histogram, tuple(str(step + 1) for step in range(POSITIONS)), "sixteenth"),
    "velocity": Histogram(velocity_histogram, tuple(str(low) for low in range(0, 128, VELOCITY_BIN)), ""),
    "program family": Histogram(program_histogram, PROGRAM_FAMILIES, ""),
}
PROGRAM_FEATURES = ("programs used", "program family")


@dataclass(frozen=True)
class FeatureTable:
    """Features of n excerpts. ``notes`` int64[n]; every scalar float64[n] (NaN where undefined); every
    histogram float64[n, bins], rows summing to 1, or to 0 where undefined.
    """

    notes: Integers
    scalars: dict[str, Floats]
    histograms: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.notes)

    def rows(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "FeatureTable":
        """The excerpts at ``index`` (numbers or a mask)."""
        return FeatureTable(
            self.notes[index],
            {name: values[index] for name, values in self.scalars.items()},
            {name: values[index] for name, values in self.histograms.items()},
        )

    def matrix(self, without: Sequence[str] = ()) -> Floats:
        """One column a scalar and a bin, but for the features named in ``without``; no length, no note
        count.
        """
        parts = [values[:, None] for name, values in self.scalars.items() if name not in without]
        parts += [values for name, values in self.histograms.items() if name not in without]
        return np.hstack(parts)

    def frame(self) -> pl.DataFrame:
        """The same as a table: a column a scalar, and one a bin, named ``<histogram>: <bin>``."""
        return pl.DataFrame(
            {
                "notes": self.notes,
                **self.scalars,
                **{
                    f"{name}: {label}": rows[:, place]
                    for name, rows in self.histograms.items()
                    for place, label in enumerate(HISTOGRAMS[name].bins)
                },
            }
        )


def feature_table(
    excerpts: Sequence[NoteArray],
    scalars: Mapping[str, Callable[[NoteArray], float]] = SCALARS,
    histograms: Mapping[str, Histogram] = HISTOGRAMS,
) -> FeatureTable:
    """Features of every excerpt; an excerpt without notes stays as a row of undefined values."""
    return FeatureTable(
        np.array([len(notes) for notes in excerpts], np.int64),
        {name: np.array([compute(notes) for notes in excerpts], np.float64) for name, compute in scalars.items()},
        {
            name: np.array([histogram.compute(notes) for notes in excerpts]).reshape(-1, len(histogram.bins))
            for name, histogram in histograms.items()
        },
    )


def _pitched(notes: NoteArray) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Mask of the non-drum notes, and their pitches."""
    mask = notes.program != DRUMS
    return mask, notes.pitch[mask].astype(np.int64)


def _shares(index: NDArray[np.integer], bins: int) -> Floats:
    return np.bincount(index, minlength=bins) / max(len(index), 1)


def _note_values(beats: NDArray[np.floating]) -> Floats:
    return _shares(np.searchsorted(_VALUE_EDGES, beats), len(NOTE_VALUES))


def _step_in_bar(notes: NoteArray) -> NDArray[np.int64]:
    """Sixteenth of the bar in which each note starts."""
    return np.floor((notes.onset - notes.bar_starts[notes.bar]) * STEPS_PER_BEAT + 1e-6).astype(np.int64)


def _bar_steps(notes: NoteArray) -> int:
    """Sixteenths of the most frequent bar; 0 without bars."""
    if not len(notes.bar_lengths):
        return 0
    return int(np.bincount(np.rint(notes.bar_lengths * STEPS_PER_BEAT).astype(int)).argmax())


def _covered(start: Floats, end: Floats) -> float:
    """Length of the union of intervals."""
    if not len(start):
        return 0.0
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reached = np.concatenate([[-np.inf], np.maximum.accumulate(end)[:-1]])
    return float(np.maximum(end - np.maximum(start, reached), 0).sum())
