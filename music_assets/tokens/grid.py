# symusic's arrays are typed in part
# pyright: reportUnknownMemberType=false
"""A score on the encoder's grid: what miditok's quantisation makes of it, and what that costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from symusic.core import ScoreTick

from music_assets.foundation.midi.timeline import tempo_changes, time_signature_changes
from music_assets.tokens.vocabulary import DRUMS, DURATIONS, POSITIONS_PER_BEAT, TEMPOS, TIME_SIGNATURES, VELOCITIES

TICKS_PER_QUARTER = 2 * POSITIONS_PER_BEAT
"""Resolution of decoded scores: a position is one tick in x/8 and two in x/4."""
NUMERATORS, DENOMINATORS = np.array(TIME_SIGNATURES).T
TICKS_PER_POSITION: NDArray[np.int64] = 8 // DENOMINATORS
BAR_TICKS: NDArray[np.int64] = NUMERATORS * POSITIONS_PER_BEAT * TICKS_PER_POSITION
COMMON_TIME = TIME_SIGNATURES.index((4, 4))
_MICROSECONDS = 60_000_000 / TEMPOS[::-1]  # a quarter note, ascending
DEFAULT_TEMPO = int(np.argmin(np.abs(TEMPOS - 120)))


class EncodingLoss(NamedTuple):
    """What an encoding does not say of its score; errors are of all the score's notes, in quarter notes.

    Pitches and velocities are never clipped. An onset moves by a 16th of a quarter note at most, so that only a
    length can make a note ``displaced``.
    """

    dropped: int = 0  # notes left out, because one of the same onset, program and pitch stays
    clipped: int = 0  # notes longer than the longest Duration
    displaced: int = 0  # notes whose onset or length changes by more than a 32nd note, an eighth of a quarter note
    onset_error: float = 0.0  # mean change of an onset
    duration_error: float = 0.0  # mean change of a length
    clipped_tempos: int = 0  # tempo changes outside the range of ``TEMPOS``


NO_LOSS = EncodingLoss()


@dataclass(frozen=True)
class Quantised:
    """A score on the grid, times in 1/24 quarter; notes sorted and without duplicates, values as indices."""

    onset: NDArray[np.int64]
    program: NDArray[np.int64]
    pitch: NDArray[np.int64]
    duration: NDArray[np.int64]
    velocity: NDArray[np.int64]
    tempo_time: NDArray[np.int64]
    tempo: NDArray[np.int64]
    section_start: NDArray[np.int64]  # of each stretch of bars with one time signature
    section_time_signature: NDArray[np.int64]
    end: int  # of the last note
    loss: EncodingLoss


def quantise(score: ScoreTick) -> Quantised:
    """A score that has notes, on the grid; of several notes with one onset, program and pitch the shortest stays."""
    grid, section_start, section_time_signature = _time_signature_sections(score)
    ticks_per_position = TICKS_PER_POSITION[section_time_signature]

    def snap(times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ticks of the score -> 1/24 quarter; halves go up, as symusic resamples."""
        ticks = (2 * times.astype(np.int64) * grid + score.tpq) // (2 * score.tpq)
        if grid < TICKS_PER_QUARTER:
            return ticks * 2
        # Where x/4 and x/8 meet, miditok rounds once more in x/4, halves to even.
        coarse = ticks_per_position[section_of(section_start, ticks)] == 2
        return np.where(coarse, np.rint(ticks / 2).astype(np.int64) * 2, ticks)

    columns: list[dict[str, NDArray[np.int32]]] = [track.notes.numpy() for track in score.tracks]
    exact_onset = np.concatenate([column["time"] for column in columns]).astype(np.int64)
    exact_length = np.concatenate([column["duration"] for column in columns]).astype(np.int64)
    onset = snap(exact_onset)
    length = np.maximum((2 * exact_length * grid + score.tpq) // (2 * score.tpq), 1) * (TICKS_PER_QUARTER // grid)
    unit = ticks_per_position[section_of(section_start, onset)]
    duration = np.empty(len(onset), np.int64)
    for size in np.unique(ticks_per_position):
        duration[unit == size] = _closest(DURATIONS * size, length[unit == size])
    velocity = _closest(VELOCITIES, np.concatenate([column["velocity"] for column in columns]))
    pitch = np.concatenate([column["pitch"] for column in columns]).astype(np.int64)
    programs = [DRUMS if track.is_drum else track.program for track in score.tracks]
    program = np.repeat(programs, [len(column["time"]) for column in columns])

    # One integer a note that sorts like (onset, program, pitch, duration, velocity).
    key = np.sort(onset << 27 | program << 19 | pitch << 12 | duration << 5 | velocity)
    key = key[np.diff(key >> 12, prepend=-1) != 0]
    loss = _encoding_loss(score, exact_onset, exact_length, onset, DURATIONS[duration], unit, len(key))
    onset, duration = key >> 27, key >> 5 & 127
    tempo_time, tempo = _tempos(score, snap)
    heard, begun = tempo_time <= onset[-1], section_start <= onset[-1]
    return Quantised(
        onset=onset,
        program=key >> 19 & 255,
        pitch=key >> 12 & 127,
        duration=duration,
        velocity=key & 31,
        tempo_time=tempo_time[heard],
        tempo=tempo[heard],
        section_start=section_start[begun],
        section_time_signature=section_time_signature[begun],
        end=int((onset + DURATIONS[duration] * ticks_per_position[section_of(section_start, onset)]).max()),
        loss=loss,
    )


def _time_signature_sections(score: ScoreTick) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """The sections of one time signature: the grid on which miditok quantises (ticks a quarter: 12, or 24 where an
    x/8 occurs), and each section's start (in 1/24 quarter) and index into ``TIME_SIGNATURES``.

    A time signature outside the vocabulary becomes the one of equal bar length (2/2 -> 4/4); where there is none it is
    ignored, as miditok ignores it.
    """
    changes = [
        (tick, index)
        for tick, *signature in time_signature_changes(score).T.tolist()
        if (index := _TIME_SIGNATURE_INDEX.get(tuple(signature))) is not None
    ]
    if not changes or changes[0][0] != 0:
        changes.insert(0, (0, COMMON_TIME))
    while True:
        fine = any(DENOMINATORS[signature] == 8 for _, signature in changes)
        grid = TICKS_PER_QUARTER if fine else TICKS_PER_QUARTER // 2
        sections = _at_bar_lines([(int(time * (grid / score.tpq)), signature) for time, signature in changes], grid)
        if not fine or any(DENOMINATORS[signature] == 8 for _, signature in sections):
            break
        # No bar is in x/8: such a change must not refine the grid, or decoding would not lead back here.
        changes = [change for change in changes if DENOMINATORS[change[1]] == 4]
    starts, signatures = np.array(sections).T
    return grid, starts * (TICKS_PER_QUARTER // grid), signatures


def _at_bar_lines(changes: list[tuple[int, int]], grid: int) -> list[tuple[int, int]]:
    """Delay changes of time signature to the next bar line; of several at one line the last counts."""
    sections = [changes[0]]
    for time, signature in changes[1:]:
        start, current = sections[-1]
        if signature == current:
            continue
        bar = int(BAR_TICKS[current]) * grid // TICKS_PER_QUARTER
        time = start + -(-max(time - start, 0) // bar) * bar
        if time == start:
            sections.pop()
            if sections and sections[-1][1] == signature:
                continue
        sections.append((time, signature))
    return sections


def closest_tempo(microseconds: Any) -> Any:
    """Index into ``TEMPOS`` of the closest one, of microseconds a quarter note, a number or an array."""
    return len(TEMPOS) - 1 - _closest(_MICROSECONDS, np.asarray(microseconds))


def _tempos(
    score: ScoreTick, snap: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Times (1/24 quarter) and indices into ``TEMPOS`` of the tempo changes; the first is at 0."""
    tick, microseconds = tempo_changes(score)
    time = np.concatenate([[0], snap(tick)])
    tempo = closest_tempo(microseconds)
    tempo = np.concatenate([[DEFAULT_TEMPO], tempo])
    last = np.append(np.diff(time) != 0, True)
    time, tempo = time[last], tempo[last]
    new = np.diff(tempo, prepend=-1) != 0
    return time[new], tempo[new]


def _encoding_loss(
    score: ScoreTick,
    exact_onset: NDArray[np.int64],
    exact_length: NDArray[np.int64],
    onset: NDArray[np.int64],
    positions: NDArray[np.integer],
    unit: NDArray[np.int64],
    kept: int,
) -> EncodingLoss:
    """``exact_*`` in ticks of the score, ``onset`` in 1/24 quarter, lengths in ``positions`` of ``unit``/24 quarter."""
    # In parts of a quarter note so small that errors are whole numbers.
    quarter = TICKS_PER_QUARTER * score.tpq
    position = unit * score.tpq
    exact_onset = exact_onset * TICKS_PER_QUARTER
    exact_length = exact_length * TICKS_PER_QUARTER
    exact_onset -= onset * score.tpq
    clipped = exact_length > DURATIONS[-1] * position
    exact_length -= positions * position
    onset_error, duration_error = np.abs(exact_onset, out=exact_onset), np.abs(exact_length, out=exact_length)
    _, microseconds = tempo_changes(score)
    return EncodingLoss(
        dropped=len(onset) - kept,
        clipped=int(np.count_nonzero(clipped)),
        displaced=int(np.count_nonzero(duration_error > quarter // 8)),
        onset_error=int(onset_error.sum()) / quarter / len(onset),
        duration_error=int(duration_error.sum()) / quarter / len(onset),
        clipped_tempos=int(np.count_nonzero((microseconds < _MICROSECONDS[0]) | (microseconds > _MICROSECONDS[-1]))),
    )


def section_of(starts: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the section that each time lies in; the first starts at 0."""
    return np.searchsorted(starts, times, side="right") - 1


def _closest(values: NDArray[np.number], wanted: NDArray[np.number]) -> NDArray[np.int64]:
    """Index of the closest of some ascending values; the larger one where two are equally close."""
    above = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    below = np.maximum(above - 1, 0)
    return np.where(np.abs(wanted - values[below]) < np.abs(wanted - values[above]), below, above)


def _equal_length(numerator: int, denominator: int) -> int | None:
    """The time signature of the vocabulary with this bar length, in quarters if it can be."""
    for unit in (4, 8):
        if numerator * unit % denominator == 0 and (numerator * unit // denominator, unit) in TIME_SIGNATURES:
            return TIME_SIGNATURES.index((numerator * unit // denominator, unit))
    return None


_TIME_SIGNATURE_INDEX = {
    (numerator, denominator): signature
    for denominator in (1, 2, 4, 8, 16, 32, 64)
    for numerator in range(1, 129)
    if (
        signature := TIME_SIGNATURES.index((numerator, denominator))
        if (numerator, denominator) in TIME_SIGNATURES
        else _equal_length(numerator, denominator)
    )
    is not None
}


def bar_lines(score: ScoreTick, bars: int) -> NDArray[np.int64]:
    """Where the bars of a score's document begin, and where the last of so many ends; ticks, int64[bars + 1].

    There may be more bars than the document has: the last time signature goes on.
    """
    _, starts, signatures = _time_signature_sections(score)
    bars_before = np.concatenate([[0], np.cumsum(np.diff(starts) // BAR_TICKS[signatures[:-1]])])
    bar = np.arange(bars + 1)
    section = section_of(bars_before, bar)
    lines = starts[section] + (bar - bars_before[section]) * BAR_TICKS[signatures[section]]
    return np.rint(lines * (score.tpq / TICKS_PER_QUARTER)).astype(np.int64)
