"""Musical facts of a score and its two identities, vectorised over notes."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from symusic.core import ScoreTick

_DEFAULT_TEMPO = 500_000  # microseconds per quarter note
_DEFAULT_TIME_SIGNATURE = 4 * 256 + 4
_DRUMS = 128
EXACT_GRID = 960
"""Positions per quarter note of :attr:`Facts.piece_id`."""
CONTENT_GRID = 24
"""Positions per quarter note of :attr:`Facts.content_hash`."""


@dataclass(frozen=True)
class Facts:
    """What a score holds; the annotations say what each field means.

    Of a score without notes the two hashes are None; of one that has drums only, pitches and polyphony.
    """

    notes: Annotated[int, "Notes, drums included."]
    drum_notes: Annotated[int, "Notes of drums."]
    tracks: Annotated[int, "Tracks that hold notes, one for every channel and program of a MIDI track."]
    programs: Annotated[list[int], "General MIDI programs (0..127), rising, drums left out."]
    bars: Annotated[int, "Bars up to the end of the last note; a change of time signature begins a bar."]
    beats: Annotated[float, "Quarter notes from the start of the file to the end of the last note."]
    seconds: Annotated[float, "Seconds from the start of the file to the end of the last note."]
    tempo: Annotated[float, "Quarter notes per minute in force at the first note."]
    tempo_changes: Annotated[int, "How often the tempo differs from the one before."]
    time_signature: Annotated[str, "Time signature in force at the first note, such as 6/8."]
    time_signature_changes: Annotated[int, "How often the time signature differs from the one before."]
    pitch_min: Annotated[int | None, "Lowest MIDI pitch, drums left out."]
    pitch_max: Annotated[int | None, "Highest MIDI pitch, drums left out."]
    polyphony: Annotated[float | None, "Mean number of notes where at least one sounds, drums left out."]
    velocity_levels: Annotated[int, "Distinct velocities."]
    ticks_per_quarter: Annotated[int, "Ticks per quarter note."]
    piece_id: Annotated[
        str | None,
        "md5 of the music: notes with velocity and program, tempos, time signatures. Files that share it are "
        "copies of one piece, whatever their bytes are.",
    ]
    content_hash: Annotated[
        str | None,
        "md5 of the notes alone: onsets (from the first one), durations, pitches and drum flags on a grid of "
        f"{CONTENT_GRID} positions a beat. Other instruments, dynamics and tempo do not change it.",
    ]

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Field name to meaning, in the order of the fields."""
        hints = get_type_hints(cls, include_extras=True)
        return {name: hint.__metadata__[0] for name, hint in hints.items()}


@dataclass(frozen=True)
class _Changes:
    """A step function of time: ``value[i]`` holds from ``tick[i]`` on; ``tick[0]`` is 0."""

    tick: NDArray[np.int64]
    value: NDArray[np.int64]

    @classmethod
    def of(cls, tick: NDArray[np.integer], value: NDArray[np.integer], default: int) -> "_Changes":
        """Drop events that are out of force at once or repeat the value before."""
        order = np.argsort(tick, kind="stable")
        tick = np.concatenate([[0], tick[order]], dtype=np.int64)
        value = np.concatenate([[default], value[order]], dtype=np.int64)
        last_at_tick = np.append(tick[1:] != tick[:-1], True)
        times, values = tick[last_at_tick], value[last_at_tick]
        differs = np.append(True, values[1:] != values[:-1])
        return cls(times[differs], values[differs])

    def at(self, tick: int) -> int:
        return int(self.value[np.searchsorted(self.tick, tick, side="right") - 1])

    def spans(self, end: int) -> NDArray[np.int64]:
        """Ticks for which each value holds, up to ``end``."""
        return np.diff(np.append(np.minimum(self.tick, end), end))


def facts(score: ScoreTick) -> Facts:
    """All facts of a score; works on a score without notes too."""
    tracks = [track for track in score.tracks if len(track.notes)]
    columns = [track.notes.numpy() for track in tracks]
    counts = [len(column["time"]) for column in columns]
    onset, duration, pitch, velocity = (
        np.concatenate([np.empty(0, np.int64), *(column[name] for column in columns)], dtype=np.int64)
        for name in ("time", "duration", "pitch", "velocity")
    )
    programs = [_DRUMS if track.is_drum else track.program for track in tracks]
    program = np.repeat(np.array(programs, np.int64), counts)
    melodic = program != _DRUMS
    tempos, signatures = _tempos(score), _time_signatures(score)
    first, end = (int(onset.min()), int((onset + duration).max())) if len(onset) else (0, 0)
    numerator, denominator = divmod(signatures.at(first), 256)
    tpq = score.tpq
    exact = [_grid(ticks, tpq, EXACT_GRID) for ticks in (onset, duration, tempos.tick, signatures.tick)]
    loose = [_grid(ticks, tpq, CONTENT_GRID) for ticks in (onset - first, duration)]
    return Facts(
        notes=len(onset),
        drum_notes=int((~melodic).sum()),
        tracks=len(tracks),
        programs=sorted(set(programs) - {_DRUMS}),
        bars=_bars(signatures, end, tpq),
        beats=end / tpq,
        seconds=float((tempos.spans(end) * tempos.value).sum() / (1e6 * tpq)),
        tempo=6e7 / tempos.at(first),
        tempo_changes=len(tempos.tick) - 1,
        time_signature=f"{numerator}/{denominator}",
        time_signature_changes=len(signatures.tick) - 1,
        pitch_min=min(pitch[melodic].tolist(), default=None),
        pitch_max=max(pitch[melodic].tolist(), default=None),
        polyphony=_polyphony(onset[melodic], duration[melodic]),
        velocity_levels=len(np.unique(velocity)),
        ticks_per_quarter=tpq,
        # packed columns sort faster: a pitch and a velocity have 7 bits, a program 8
        piece_id=_digest(
            [(exact[0] << 15) + (program << 7) + pitch, (exact[1] << 7) + velocity],
            [exact[2], tempos.value],
            [exact[3], signatures.value],
        )
        if len(onset)
        else None,
        content_hash=_digest([(loose[0] << 8) + (~melodic << 7) + pitch, np.maximum(loose[1], 1)])
        if len(onset)
        else None,
    )


def _tempos(score: ScoreTick) -> _Changes:
    """Microseconds per quarter note; a tempo of zero is no tempo."""
    events = score.tempos.numpy()
    real = events["mspq"] > 0
    return _Changes.of(events["time"][real], events["mspq"][real].astype(np.int64), _DEFAULT_TEMPO)


def _time_signatures(score: ScoreTick) -> _Changes:
    """Numerator times 256 plus denominator; one with a zero is no time signature."""
    events = score.time_signatures.numpy()
    numerator, denominator = events["numerator"].astype(np.int64), events["denominator"].astype(np.int64)
    real = (numerator > 0) & (denominator > 0)
    return _Changes.of(events["time"][real], (numerator * 256 + denominator)[real], _DEFAULT_TIME_SIGNATURE)


def _bars(signatures: _Changes, end: int, ticks_per_quarter: int) -> int:
    bar = 4 * ticks_per_quarter * (signatures.value // 256) / (signatures.value % 256)
    return int(np.ceil(signatures.spans(end) / bar).sum())


def _polyphony(onset: NDArray[np.int64], duration: NDArray[np.int64]) -> float | None:
    order = np.argsort(onset, kind="stable")
    onset, end = onset[order], (onset + duration)[order]
    if not duration.any():
        return None
    reached = np.maximum.accumulate(end)
    silence = np.maximum(onset[1:] - reached[:-1], 0).sum()
    return float(duration.sum() / (reached[-1] - onset[0] - silence))


def _grid(ticks: NDArray[np.int64], ticks_per_quarter: int, positions: int) -> NDArray[np.int64]:
    """Nearest position, halves rounded up, in exact integer arithmetic."""
    return (2 * ticks * positions + ticks_per_quarter) // (2 * ticks_per_quarter)


def _digest(*tables: list[NDArray[Any]]) -> str:
    """md5 of tables, each a list of columns, whose rows have no order."""
    digest = hashlib.md5(usedforsecurity=False)
    for columns in tables:
        table = np.stack(columns)
        digest.update(table[:, np.lexsort(table[::-1])].astype("<i8").tobytes() + b"|")
    return digest.hexdigest()
