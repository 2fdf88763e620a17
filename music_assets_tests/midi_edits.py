"""What people do to a MIDI file before they pass it on under another name; each edit gives a new score."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from symusic.core import NoteTickList, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

Columns = dict[str, NDArray[np.int64]]
"""``time``, ``duration``, ``pitch`` and ``velocity`` of a track's notes."""


def transposed(score: ScoreTick, semitones: int) -> ScoreTick:
    """All but the drums shifted; notes that leave the range of MIDI are lost."""

    def shift(notes: Columns, track: TrackTick) -> Columns:
        moved = notes | {"pitch": notes["pitch"] + (0 if track.is_drum else semitones)}
        return _where(moved, (moved["pitch"] >= 0) & (moved["pitch"] <= 127))

    return _edited(score, shift)


def retimed(score: ScoreTick, factor: float) -> ScoreTick:
    """Faster by other tempo events; a score without any gets one."""
    tempos = [(tempo.time, tempo.qpm) for tempo in score.tempos] or [(0, 120.0)]
    return _edited(score, tempos=[(time, qpm * factor) for time, qpm in tempos])


def stretched(score: ScoreTick, numerator: int, denominator: int = 1, *, tpq: int | None = None) -> ScoreTick:
    """All times multiplied and rounded: the same music in longer or shorter notes, or at another resolution."""

    def scale(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        return (2 * ticks * numerator + denominator) // (2 * denominator)

    def stretch(notes: Columns, _: TrackTick) -> Columns:
        time = scale(notes["time"])
        ends = scale(notes["time"] + notes["duration"])
        return notes | {"time": time, "duration": np.maximum(ends - time, 1)}

    tempos = [(int(scale(np.array(tempo.time))), tempo.qpm) for tempo in score.tempos]
    return _edited(score, stretch, tempos=tempos, tpq=tpq)


def resampled(score: ScoreTick, tpq: int) -> ScoreTick:
    """The same music at ``tpq`` ticks a quarter note, rounded."""
    return stretched(score, tpq, score.tpq, tpq=tpq)


def without_track(score: ScoreTick, number: int) -> ScoreTick:
    """The score without the track of this number."""
    edited = _edited(score)
    edited.tracks.pop(number)
    return edited


def merged(score: ScoreTick) -> ScoreTick:
    """Tracks of one instrument made into one."""
    edited = ScoreTick(score.tpq)
    tracks: dict[tuple[int, bool], TrackTick] = {}
    for track in score.tracks:
        one = tracks.setdefault((track.program, track.is_drum), TrackTick(track.name, track.program, track.is_drum))
        one.notes.extend(track.notes)
    for track in tracks.values():
        track.notes.sort(inplace=True)
        edited.tracks.append(track)
    return edited


def without_intro(score: ScoreTick, ticks: int) -> ScoreTick:
    """The score from a tick on."""

    def cut(notes: Columns, _: TrackTick) -> Columns:
        return _where(notes | {"time": notes["time"] - ticks}, notes["time"] >= ticks)

    return _edited(score, cut)


def with_velocities(score: ScoreTick, seed: int) -> ScoreTick:
    """Every note as loud as chance will have it."""
    chance = np.random.default_rng(seed)
    return _edited(score, lambda notes, _: notes | {"velocity": chance.integers(20, 120, len(notes["time"]))})


def humanised(score: ScoreTick, milliseconds: float, seed: int) -> ScoreTick:
    """Every onset moved by a normal deviate of this standard deviation, at the score's first tempo."""
    chance = np.random.default_rng(seed)
    qpm = score.tempos[0].qpm if len(score.tempos) else 120.0
    deviation = milliseconds / 60_000 * qpm * score.tpq

    def move(notes: Columns, _: TrackTick) -> Columns:
        moved = notes["time"] + chance.normal(0, deviation, len(notes["time"]))
        return notes | {"time": np.maximum(np.rint(moved).astype(np.int64), 0)}

    return _edited(score, move)


def _edited(
    score: ScoreTick,
    change: Callable[[Columns, TrackTick], Columns] = lambda notes, track: notes,
    *,
    tempos: list[tuple[int, float]] | None = None,
    tpq: int | None = None,
) -> ScoreTick:
    edited = ScoreTick(tpq or score.tpq)
    for time, qpm in tempos or [(tempo.time, tempo.qpm) for tempo in score.tempos]:
        edited.tempos.append(TempoTick(time, qpm))
    for signature in score.time_signatures:
        edited.time_signatures.append(TimeSignatureTick(signature.time, signature.numerator, signature.denominator))
    for track in score.tracks:
        notes = change({name: column.astype(np.int64) for name, column in track.notes.numpy().items()}, track)
        copy = TrackTick(track.name, track.program, track.is_drum)
        copy.notes = NoteTickList.from_numpy(
            notes["time"].astype(np.int32),
            notes["duration"].astype(np.int32),
            notes["pitch"].astype(np.int8),
            notes["velocity"].astype(np.int8),
        )
        edited.tracks.append(copy)
    return edited


def _where(notes: Columns, kept: NDArray[np.bool_]) -> Columns:
    return {name: column[kept] for name, column in notes.items()}
