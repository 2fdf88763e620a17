"""REMI encoder and decoder in numpy: miditok's ids for ``REMI_CONFIG``, without its event objects.

A document is a sequence of bars, each ``Bar TimeSig``, then positions that rise, each ``Position``, a
``Tempo`` if it changes, and its notes ``Program Pitch Velocity Duration`` by rising program (drums last) and
pitch.

Three choices make an encoding canonical, that is equal to the encoding of its own decoding:
tracks are taken in order of program; of several notes with one onset, program and pitch the shortest stays
(of equally short ones the softest); and nothing follows the last note.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from symusic.core import (
    NoteTickList,
    ScoreTick,
    TempoTickList,
    TimeSignatureTick,
    TrackTick,
)

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.midi.timeline import tempo_changes, time_signature_changes
from music_assets.tokens.vocabulary import (
    DRUMS,
    DURATIONS,
    POSITIONS_PER_BEAT,
    RANGES,
    SIZE,
    TEMPOS,
    TIME_SIGNATURES,
    TOKEN_TYPE,
    TOKEN_TYPES,
    VELOCITIES,
)

TICKS_PER_QUARTER = 2 * POSITIONS_PER_BEAT
"""Resolution of decoded scores: a position is one tick in x/8 and two in x/4."""
MAX_IDS = 1_000_000
"""Longest document that is encoded."""

_BAR, _PITCH, _VELOCITY, _DURATION, _POSITION, _DRUM, _TEMPO, _PROGRAM, _TIME_SIGNATURE = (
    TOKEN_TYPES.index(name)
    for name in (
        "Bar",
        "Pitch",
        "Velocity",
        "Duration",
        "Position",
        "PitchDrum",
        "Tempo",
        "Program",
        "TimeSig",
    )
)
_FIRST = {TOKEN_TYPES.index(name): ids.start for name, ids in RANGES.items()}
_NUMERATORS, _DENOMINATORS = np.array(TIME_SIGNATURES).T
_TICKS_PER_POSITION = 8 // _DENOMINATORS
_BAR_TICKS = _NUMERATORS * POSITIONS_PER_BEAT * _TICKS_PER_POSITION
_COMMON_TIME = TIME_SIGNATURES.index((4, 4))
_MICROSECONDS = 60_000_000 / TEMPOS[::-1]  # a quarter note, ascending
_DEFAULT_TEMPO = int(np.argmin(np.abs(TEMPOS - 120)))


@dataclass(frozen=True)
class NoteArray:
    """The notes of a document by onset, as arrays of equal length, and its bars. A beat is a quarter note."""

    onset: np.ndarray  # float64[n], beats from the start
    duration: np.ndarray  # float64[n], beats
    pitch: np.ndarray  # int16[n], MIDI pitch
    velocity: np.ndarray  # int16[n], 1..127
    program: np.ndarray  # int16[n], MIDI program, 128 for drums
    bar: np.ndarray  # int32[n], index into the bars
    bar_starts: np.ndarray  # float64[bars], beats
    bar_lengths: np.ndarray  # float64[bars], beats
    seconds: float  # to the end of the last note, 0 without notes
    tempo: float  # beats a minute at the start

    def __len__(self) -> int:
        return len(self.onset)


class Losses(NamedTuple):
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


NO_LOSSES = Losses()


class TooLong(MusicAssetsError):
    """A piece that is longer than its encoding may be."""


class Encoding(NamedTuple):
    """The document of a score, and what became of it."""

    ids: np.ndarray  # uint16[n]
    notes: int
    seconds: float  # to the end of the last note, 0 without notes
    losses: Losses


def encode(score: ScoreTick) -> np.ndarray:
    """The canonical document of a score, uint16[n]; empty if it has no notes.

    Raises TooLong if it would have more than ``MAX_IDS``.
    """
    return encode_measured(score).ids


def encode_measured(score: ScoreTick) -> Encoding:
    """As :func:`encode`, with the losses counted."""
    if not any(len(track.notes) for track in score.tracks):
        return Encoding(np.empty(0, np.uint16), 0, 0.0, NO_LOSSES)
    quantised = _quantised(score)
    seconds = _seconds(quantised.tempo_time, quantised.tempo, quantised.end)
    return Encoding(_written(quantised), len(quantised.onset), seconds, quantised.losses)


def decode(ids: np.ndarray) -> ScoreTick:
    """The score of any sequence of ids, 24 ticks a quarter note; what breaks the grammar is skipped.

    One track a program, in order of program, drums last. A note that begins while another of the same
    program and pitch sounds goes to a further track of that program: in one track a MIDI file could not tell
    which of them ends.
    """
    parsed = _parse(ids)
    score = ScoreTick(TICKS_PER_QUARTER)
    score.tempos = TempoTickList.from_numpy(
        parsed.tempo_time.astype(np.int32), np.rint(60_000_000 / TEMPOS[parsed.tempo]).astype(np.int32)
    )
    signature = parsed.bar_time_signature if len(parsed.bar_time_signature) else np.array([_COMMON_TIME])
    for bar in np.flatnonzero(np.diff(signature, prepend=-1)):
        start = int(parsed.bar_start[bar]) if bar else 0
        score.time_signatures.append(TimeSignatureTick(start, *TIME_SIGNATURES[signature[bar]]))
    for program in np.unique(parsed.program):
        chosen = np.flatnonzero(parsed.program == program)
        while len(chosen):
            late = _overlapping(parsed.onset[chosen], parsed.duration[chosen], parsed.pitch[chosen])
            track = TrackTick("Drums", 0, True) if program == DRUMS else TrackTick("", int(program), False)
            kept = chosen[~late]
            track.notes = NoteTickList.from_numpy(
                parsed.onset[kept].astype(np.int32),
                parsed.duration[kept].astype(np.int32),
                parsed.pitch[kept].astype(np.int8),
                parsed.velocity[kept].astype(np.int8),
            )
            score.tracks.append(track)
            chosen = chosen[late]
    return score


def bar_lines(score: ScoreTick, bars: int) -> np.ndarray:
    """Where the bars of a score's document begin, and where the last of so many ends; ticks, int64[bars + 1].

    There may be more bars than the document has: the last time signature goes on.
    """
    _, starts, signatures = _time_signature_sections(score)
    bars_before = np.concatenate([[0], np.cumsum(np.diff(starts) // _BAR_TICKS[signatures[:-1]])])
    bar = np.arange(bars + 1)
    section = _section(bars_before, bar)
    lines = starts[section] + (bar - bars_before[section]) * _BAR_TICKS[signatures[section]]
    return np.rint(lines * (score.tpq / TICKS_PER_QUARTER)).astype(np.int64)


def canonical(ids: np.ndarray) -> np.ndarray:
    """The document of what :func:`decode` reads in a generated sequence, uint16[n], perhaps empty."""
    return encode(decode(ids))


def notes(ids: np.ndarray) -> NoteArray:
    """The notes of any sequence of ids, as :func:`decode` reads it."""
    parsed = _parse(ids)
    tempo_time = np.concatenate([[0], parsed.tempo_time])
    tempo = np.concatenate([[_DEFAULT_TEMPO], parsed.tempo])
    return NoteArray(
        onset=parsed.onset / TICKS_PER_QUARTER,
        duration=parsed.duration / TICKS_PER_QUARTER,
        pitch=parsed.pitch.astype(np.int16),
        velocity=parsed.velocity.astype(np.int16),
        program=parsed.program.astype(np.int16),
        bar=parsed.bar.astype(np.int32),
        bar_starts=parsed.bar_start / TICKS_PER_QUARTER,
        bar_lengths=_BAR_TICKS[parsed.bar_time_signature] / TICKS_PER_QUARTER,
        seconds=_seconds(tempo_time, tempo, int((parsed.onset + parsed.duration).max(initial=0))),
        tempo=float(TEMPOS[tempo[tempo_time == 0][-1]]),
    )


@dataclass(frozen=True)
class _Quantised:
    """A score on the grid, times in 1/24 quarter; notes sorted and without duplicates, values as indices."""

    onset: np.ndarray
    program: np.ndarray
    pitch: np.ndarray
    duration: np.ndarray
    velocity: np.ndarray
    tempo_time: np.ndarray
    tempo: np.ndarray
    section_start: np.ndarray  # of each stretch of bars with one time signature
    section_time_signature: np.ndarray
    end: int  # of the last note
    losses: Losses


def _quantised(score: ScoreTick) -> _Quantised:
    grid, section_start, section_time_signature = _time_signature_sections(score)
    ticks_per_position = _TICKS_PER_POSITION[section_time_signature]

    def snap(times: np.ndarray) -> np.ndarray:
        """Ticks of the score -> 1/24 quarter; halves go up, as symusic resamples."""
        ticks = (2 * times.astype(np.int64) * grid + score.tpq) // (2 * score.tpq)
        if grid < TICKS_PER_QUARTER:
            return ticks * 2
        # Where x/4 and x/8 meet, miditok rounds once more in x/4, halves to even.
        coarse = ticks_per_position[_section(section_start, ticks)] == 2
        return np.where(coarse, np.rint(ticks / 2).astype(np.int64) * 2, ticks)

    columns = [track.notes.numpy() for track in score.tracks]
    exact_onset = np.concatenate([column["time"] for column in columns]).astype(np.int64)
    exact_length = np.concatenate([column["duration"] for column in columns]).astype(np.int64)
    onset = snap(exact_onset)
    length = np.maximum((2 * exact_length * grid + score.tpq) // (2 * score.tpq), 1) * (TICKS_PER_QUARTER // grid)
    unit = ticks_per_position[_section(section_start, onset)]
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
    losses = _losses(score, exact_onset, exact_length, onset, DURATIONS[duration], unit, len(key))
    onset, duration = key >> 27, key >> 5 & 127
    tempo_time, tempo = _tempos(score, snap)
    heard, begun = tempo_time <= onset[-1], section_start <= onset[-1]
    return _Quantised(
        onset=onset,
        program=key >> 19 & 255,
        pitch=key >> 12 & 127,
        duration=duration,
        velocity=key & 31,
        tempo_time=tempo_time[heard],
        tempo=tempo[heard],
        section_start=section_start[begun],
        section_time_signature=section_time_signature[begun],
        end=int((onset + DURATIONS[duration] * ticks_per_position[_section(section_start, onset)]).max()),
        losses=losses,
    )


def _written(score: _Quantised) -> np.ndarray:
    """The ids. A token's place is the number of tokens before it, which sorted arrays give by counting."""
    onset, tempo_time = score.onset, score.tempo_time
    moments = np.union1d(onset, tempo_time)
    starts, signatures = score.section_start, score.section_time_signature
    bars_before = np.concatenate([[0], np.cumsum(np.diff(starts) // _BAR_TICKS[signatures[:-1]])])
    bars = int(bars_before[-1] + (onset[-1] - starts[-1]) // _BAR_TICKS[signatures[-1]]) + 1
    count = 2 * bars + len(moments) + len(tempo_time) + 4 * len(onset)
    if count > MAX_IDS:
        raise TooLong(
            f"The piece has {len(onset):,} notes in {bars:,} bars and would take {count:,} token ids; "
            f"the limit is {MAX_IDS:,}."
        )
    section = _section(bars_before, np.arange(bars))
    signature = signatures[section]
    bar_start = starts[section] + (np.arange(bars) - bars_before[section]) * _BAR_TICKS[signature]
    bar = _section(bar_start, moments)
    position = (moments - bar_start[bar]) // _TICKS_PER_POSITION[signature[bar]]
    moment = np.searchsorted(moments, onset)

    ids = np.empty(count, np.uint16)
    place = (
        2 * np.arange(bars)
        + np.searchsorted(moments, bar_start)
        + np.searchsorted(tempo_time, bar_start)
        + 4 * np.searchsorted(onset, bar_start)
    )
    ids[place] = _FIRST[_BAR]
    ids[place + 1] = _FIRST[_TIME_SIGNATURE] + signature
    place = (
        2 * (bar + 1)
        + np.arange(len(moments))
        + np.searchsorted(tempo_time, moments)
        + 4 * np.searchsorted(onset, moments)
    )
    ids[place] = _FIRST[_POSITION] + position
    ids[place[np.searchsorted(moments, tempo_time)] + 1] = _FIRST[_TEMPO] + score.tempo
    place = (
        2 * (bar[moment] + 1)
        + (moment + 1)
        + np.searchsorted(tempo_time, onset, side="right")
        + 4 * np.arange(len(onset))
    )
    ids[place] = _FIRST[_PROGRAM] + score.program
    ids[place + 1] = np.where(score.program == DRUMS, _FIRST[_DRUM], _FIRST[_PITCH]) + score.pitch
    ids[place + 2] = _FIRST[_VELOCITY] + score.velocity
    ids[place + 3] = _FIRST[_DURATION] + score.duration
    return ids


def _time_signature_sections(score: ScoreTick) -> tuple[int, np.ndarray, np.ndarray]:
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
        changes.insert(0, (0, _COMMON_TIME))
    while True:
        fine = any(_DENOMINATORS[signature] == 8 for _, signature in changes)
        grid = TICKS_PER_QUARTER if fine else TICKS_PER_QUARTER // 2
        sections = _at_bar_lines([(int(time * (grid / score.tpq)), signature) for time, signature in changes], grid)
        if not fine or any(_DENOMINATORS[signature] == 8 for _, signature in sections):
            break
        # No bar is in x/8: such a change must not refine the grid, or decoding would not lead back here.
        changes = [change for change in changes if _DENOMINATORS[change[1]] == 4]
    starts, signatures = np.array(sections).T
    return grid, starts * (TICKS_PER_QUARTER // grid), signatures


def _at_bar_lines(changes: list[tuple[int, int]], grid: int) -> list[tuple[int, int]]:
    """Delay changes of time signature to the next bar line; of several at one line the last counts."""
    sections = [changes[0]]
    for time, signature in changes[1:]:
        start, current = sections[-1]
        if signature == current:
            continue
        bar = int(_BAR_TICKS[current]) * grid // TICKS_PER_QUARTER
        time = start + -(-max(time - start, 0) // bar) * bar
        if time == start:
            sections.pop()
            if sections and sections[-1][1] == signature:
                continue
        sections.append((time, signature))
    return sections


def _tempos(score: ScoreTick, snap: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Times (1/24 quarter) and indices into ``TEMPOS`` of the tempo changes; the first is at 0."""
    tick, microseconds = tempo_changes(score)
    time = np.concatenate([[0], snap(tick)])
    tempo = len(TEMPOS) - 1 - _closest(_MICROSECONDS, microseconds)
    tempo = np.concatenate([[_DEFAULT_TEMPO], tempo])
    last = np.append(np.diff(time) != 0, True)
    time, tempo = time[last], tempo[last]
    new = np.diff(tempo, prepend=-1) != 0
    return time[new], tempo[new]


def _losses(
    score: ScoreTick,
    exact_onset: np.ndarray,
    exact_length: np.ndarray,
    onset: np.ndarray,
    positions: np.ndarray,
    unit: np.ndarray,
    kept: int,
) -> Losses:
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
    return Losses(
        dropped=len(onset) - kept,
        clipped=int(np.count_nonzero(clipped)),
        displaced=int(np.count_nonzero(duration_error > quarter // 8)),
        onset_error=int(onset_error.sum()) / quarter / len(onset),
        duration_error=int(duration_error.sum()) / quarter / len(onset),
        clipped_tempos=int(np.count_nonzero((microseconds < _MICROSECONDS[0]) | (microseconds > _MICROSECONDS[-1]))),
    )


def _seconds(tempo_time: np.ndarray, tempo: np.ndarray, end: int) -> float:
    """Length of a piece that ends at ``end`` (1/24 quarter) and whose tempo changes begin at 0."""
    until = np.minimum(np.append(tempo_time[1:], end), end)
    quarters = np.maximum(until - tempo_time, 0) / TICKS_PER_QUARTER
    return float((quarters * 60 / TEMPOS[tempo]).sum())


@dataclass(frozen=True)
class _Parsed:
    """What a sequence of ids says, in ticks of 1/24 quarter; notes by onset."""

    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    program: np.ndarray
    bar: np.ndarray
    bar_start: np.ndarray
    bar_time_signature: np.ndarray
    tempo_time: np.ndarray
    tempo: np.ndarray


def _parse(ids: np.ndarray) -> _Parsed:
    ids = np.asarray(ids, dtype=np.int64)
    kind = TOKEN_TYPE[np.where((ids >= 0) & (ids < SIZE), ids, 0)]
    bar_place = np.flatnonzero(kind == _BAR)
    if not len(bar_place):
        return _Parsed(*(np.empty(0, np.int64) for _ in range(10)))

    following = np.minimum(bar_place + 1, len(ids) - 1)
    stated = kind[following] == _TIME_SIGNATURE
    last_stated = np.maximum.accumulate(np.where(stated, np.arange(len(bar_place)), -1))
    bar_time_signature = np.where(last_stated < 0, _COMMON_TIME, ids[following][last_stated] - _FIRST[_TIME_SIGNATURE])
    bar_start = np.concatenate([[0], np.cumsum(_BAR_TICKS[bar_time_signature])[:-1]])

    bar = np.cumsum(kind == _BAR) - 1
    clock = np.maximum.accumulate(np.where((kind == _BAR) | (kind == _POSITION), np.arange(len(ids)), 0))
    position = np.where(kind[clock] == _POSITION, ids[clock] - _FIRST[_POSITION], 0)
    placed = (bar >= 0) & (position < _NUMERATORS[bar_time_signature[bar]] * POSITIONS_PER_BEAT)
    time = bar_start[bar] + position * _TICKS_PER_POSITION[bar_time_signature[bar]]

    begin = np.flatnonzero((kind[:-3] == _PROGRAM) & placed[:-3])
    drum = ids[begin] == _FIRST[_PROGRAM] + DRUMS
    begin = begin[
        (kind[begin + 1] == np.where(drum, _DRUM, _PITCH))
        & (kind[begin + 2] == _VELOCITY)
        & (kind[begin + 3] == _DURATION)
    ]
    begin = begin[np.argsort(time[begin], kind="stable")]
    tempo_place = np.flatnonzero((kind == _TEMPO) & placed)
    tempo_place = tempo_place[np.argsort(time[tempo_place], kind="stable")]
    pitch = ids[begin + 1]
    return _Parsed(
        onset=time[begin],
        duration=DURATIONS[ids[begin + 3] - _FIRST[_DURATION]] * _TICKS_PER_POSITION[bar_time_signature[bar[begin]]],
        pitch=np.where(pitch >= _FIRST[_DRUM], pitch - _FIRST[_DRUM], pitch - _FIRST[_PITCH]),
        velocity=VELOCITIES[ids[begin + 2] - _FIRST[_VELOCITY]],
        program=ids[begin] - _FIRST[_PROGRAM],
        bar=bar[begin],
        bar_start=bar_start,
        bar_time_signature=bar_time_signature,
        tempo_time=time[tempo_place],
        tempo=ids[tempo_place] - _FIRST[_TEMPO],
    )


def _overlapping(onset: np.ndarray, duration: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Which notes begin before an earlier one of the same pitch has ended; bool[n]."""
    order = np.lexsort((onset, pitch))
    # Pitches lie end to end on one time line, so that one running maximum serves all.
    shift = pitch[order].astype(np.int64) * (int((onset + duration).max()) + 1)
    ends = np.maximum.accumulate(onset[order] + duration[order] + shift)
    late = np.zeros(len(onset), dtype=bool)
    late[order[1:]] = onset[order[1:]] + shift[1:] < ends[:-1]
    return late


def _section(starts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Index of the section that each time lies in; the first starts at 0."""
    return np.searchsorted(starts, times, side="right") - 1


def _closest(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
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
