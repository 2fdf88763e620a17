"""Musical facts of a score and its two identities, vectorised over notes."""

import hashlib
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from symusic.core import ScoreTick

from music_assets.foundation.keys import KEYS, estimate_key
from music_assets.foundation.midi.programs import DRUMS
from music_assets.foundation.midi.timeline import tempo_changes, time_signature_changes

_DEFAULT_TEMPO = 500_000  # microseconds per quarter note
_DEFAULT_TIME_SIGNATURE = 4 * 256 + 4
EXACT_GRID = 960
"""Positions per quarter note of :attr:`ScoreFacts.piece_id`."""
CONTENT_GRID = 24
"""Positions per quarter note of :attr:`ScoreFacts.content_hash`."""


@dataclass(frozen=True)
class ScoreFacts:
    """What a score holds; the annotations say what each field means.

    None stands for what a score does not have: without notes the hashes, densities and velocities, without pitched
    notes the pitches, polyphony and key.
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
    key: Annotated[
        str | None,
        "Estimated key, such as Eb major: the one whose Krumhansl-Kessler profile correlates best with the time that "
        "each pitch class sounds in the whole piece, drums left out.",
    ]
    key_confidence: Annotated[
        float | None,
        "Correlation of the estimated key less that of the next best one, 0..2; near 0 two keys fit alike.",
    ]
    notes_per_beat: Annotated[
        float | None, "Notes, drums included, per quarter note from the first onset to the last end."
    ]
    notes_per_second: Annotated[float | None, "Notes, drums included, per second from the first onset to the last end."]
    velocity_levels: Annotated[int, "Distinct velocities; 1 is a file without dynamics."]
    velocity_std: Annotated[float | None, "Standard deviation of the velocities."]
    lyrics: Annotated[int, "Lyric events, mostly a syllable each; words in plain text events do not count."]
    markers: Annotated[int, "Markers, such as the names of sections."]
    ticks_per_quarter: Annotated[int, "Ticks per quarter note."]
    piece_id: Annotated[
        str | None,
        "Hash of the music: notes with velocity and program, tempos, time signatures. Files that share it are "
        "copies of one piece, whatever their bytes are.",
    ]
    content_hash: Annotated[
        str | None,
        "Hash of the notes alone: onsets (from the first one), durations, pitches and drum flags on a grid of "
        f"{CONTENT_GRID} positions a beat. Other instruments, dynamics and tempo do not change it.",
    ]

    @classmethod
    def types(cls) -> dict[str, Any]:
        """Field name to the type of its values other than None, in the order of the fields."""
        hints = get_type_hints(cls).items()
        return {name: get_args(hint)[0] if isinstance(hint, UnionType) else hint for name, hint in hints}

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
        """Drop of rising events those that are out of force at once or repeat the value before."""
        tick = np.concatenate([[0], tick], dtype=np.int64)
        value = np.concatenate([[default], value], dtype=np.int64)
        last_at_tick = np.append(tick[1:] != tick[:-1], True)
        times, values = tick[last_at_tick], value[last_at_tick]
        differs = np.append(True, values[1:] != values[:-1])
        return cls(times[differs], values[differs])

    def at(self, tick: int) -> int:
        return int(self.value[np.searchsorted(self.tick, tick, side="right") - 1])

    def spans(self, end: int) -> NDArray[np.int64]:
        """Ticks for which each value holds, up to ``end``."""
        return np.diff(np.append(np.minimum(self.tick, end), end))


def facts(score: ScoreTick) -> ScoreFacts:
    """All facts of a score; works on a score without notes too."""
    tracks = [track for track in score.tracks if len(track.notes)]
    columns = [track.notes.numpy() for track in tracks]
    counts = [len(column["time"]) for column in columns]
    onset, duration, pitch, velocity = (
        np.concatenate([np.empty(0, np.int64), *(column[name] for column in columns)], dtype=np.int64)
        for name in ("time", "duration", "pitch", "velocity")
    )
    programs = [DRUMS if track.is_drum else track.program for track in tracks]
    program = np.repeat(np.array(programs, np.int64), counts)
    melodic = program != DRUMS
    melody_onset, melody_duration, melody_pitch = onset[melodic], duration[melodic], pitch[melodic]
    tempos, signatures, tpq = _tempos(score), _time_signatures(score), score.tpq
    first, end = (int(onset.min()), int((onset + duration).max())) if len(onset) else (0, 0)
    seconds = _seconds(tempos, end, tpq)
    key, key_confidence = _key(melody_pitch, melody_duration)
    numerator, denominator = divmod(signatures.at(first), 256)
    return ScoreFacts(
        notes=len(onset),
        drum_notes=len(pitch) - len(melody_pitch),
        tracks=len(tracks),
        programs=sorted(set(programs) - {DRUMS}),
        bars=_bars(signatures, end, tpq),
        beats=end / tpq,
        seconds=seconds,
        tempo=6e7 / tempos.at(first),
        tempo_changes=len(tempos.tick) - 1,
        time_signature=f"{numerator}/{denominator}",
        time_signature_changes=len(signatures.tick) - 1,
        pitch_min=int(melody_pitch.min()) if len(melody_pitch) else None,
        pitch_max=int(melody_pitch.max()) if len(melody_pitch) else None,
        polyphony=_polyphony(melody_onset, melody_duration),
        key=key,
        key_confidence=key_confidence,
        notes_per_beat=_ratio(len(onset), (end - first) / tpq),
        notes_per_second=_ratio(len(onset), seconds - _seconds(tempos, first, tpq)),
        velocity_levels=int(np.count_nonzero(np.bincount(velocity))),
        velocity_std=float(velocity.std()) if len(velocity) else None,
        lyrics=sum(len(track.lyrics) for track in score.tracks),
        markers=len(score.markers),
        ticks_per_quarter=tpq,
        piece_id=_piece_id(onset, duration, pitch, velocity, program, tempos, signatures, tpq) if len(onset) else None,
        content_hash=_content_hash(onset - first, duration, pitch, ~melodic, tpq) if len(onset) else None,
    )


def _tempos(score: ScoreTick) -> _Changes:
    """Microseconds per quarter note."""
    tick, microseconds = tempo_changes(score)
    return _Changes.of(tick, microseconds, _DEFAULT_TEMPO)


def _time_signatures(score: ScoreTick) -> _Changes:
    """Numerator times 256 plus denominator."""
    tick, numerator, denominator = time_signature_changes(score)
    return _Changes.of(tick, numerator * 256 + denominator, _DEFAULT_TIME_SIGNATURE)


def _seconds(tempos: _Changes, end: int, ticks_per_quarter: int) -> float:
    """Seconds from the start of the file to a tick."""
    return float((tempos.spans(end) * tempos.value).sum() / (1e6 * ticks_per_quarter))


def _ratio(amount: float, of: float) -> float | None:
    return amount / of if of > 0 else None


def _bars(signatures: _Changes, end: int, ticks_per_quarter: int) -> int:
    bar = 4 * ticks_per_quarter * (signatures.value // 256) / (signatures.value % 256)
    return int(np.ceil(signatures.spans(end) / bar).sum())


def _polyphony(onset: NDArray[np.int64], duration: NDArray[np.int64]) -> float | None:
    if not duration.any():
        return None
    # silence is where all notes that have begun have ended: the i-th end comes before the next onset
    begins, ends = np.sort(onset), np.sort(onset + duration)
    silence = np.maximum(begins[1:] - ends[:-1], 0).sum()
    return float(duration.sum() / (ends[-1] - begins[0] - silence))


def _key(pitch: NDArray[np.int64], duration: NDArray[np.int64]) -> tuple[str | None, float | None]:
    """The estimated key and its lead; none where all pitch classes sound equally long or nothing sounds."""
    found = estimate_key(np.bincount(pitch % 12, weights=duration, minlength=12).astype(np.float64))
    return (None, None) if found is None else (KEYS[found[0]], found[1])


def _grid(ticks: NDArray[np.int64], ticks_per_quarter: int, positions: int) -> NDArray[np.int64]:
    """Nearest position, halves rounded up, in exact integer arithmetic."""
    return (2 * ticks * positions + ticks_per_quarter) // (2 * ticks_per_quarter)


def _piece_id(
    onset: NDArray[np.int64],
    duration: NDArray[np.int64],
    pitch: NDArray[np.int64],
    velocity: NDArray[np.int64],
    program: NDArray[np.int64],
    tempos: _Changes,
    signatures: _Changes,
    ticks_per_quarter: int,
) -> str:
    onset, duration, tempo_onset, signature_onset = (
        _grid(ticks, ticks_per_quarter, EXACT_GRID) for ticks in (onset, duration, tempos.tick, signatures.tick)
    )
    # a pitch and a velocity have 7 bits, a program 8
    notes = _sorted_rows((onset << 15) + (program << 7) + pitch, (duration << 7) + velocity)
    return _digest(notes, tempo_onset, tempos.value, signature_onset, signatures.value)


def _content_hash(
    onset: NDArray[np.int64],
    duration: NDArray[np.int64],
    pitch: NDArray[np.int64],
    drum: NDArray[np.bool_],
    ticks_per_quarter: int,
) -> str:
    onset, duration = (_grid(ticks, ticks_per_quarter, CONTENT_GRID) for ticks in (onset, duration))
    # all in 64 bits, 19 of them for the duration: 21,845 quarter notes and more are one
    duration = np.minimum(np.maximum(duration, 1), (1 << 19) - 1)
    return _digest(np.sort((onset << 27) + (drum.astype(np.int64) << 26) + (pitch << 19) + duration))


def _sorted_rows(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """(2, n): both columns in the order of ``first``, equal ones in the order of ``second``.

    Few rows have an equal, so that the slow sort by two columns is done for these only.
    """
    order = first.argsort()
    table = np.stack([first[order], second[order]])
    equal = table[0, 1:] == table[0, :-1]
    tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
    table[1, tied] = table[1, tied[np.lexsort(table[::-1, tied])]]
    return table


def _digest(*tables: NDArray[np.int64]) -> str:
    """128 bits of sha1, which is faster than md5 where the processor helps."""
    digest = hashlib.sha1(usedforsecurity=False)
    for table in tables:
        digest.update(table.astype("<i8").tobytes() + b"|")
    return digest.hexdigest()[:32]
