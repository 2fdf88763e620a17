"""REMI encoder and decoder in numpy: miditok's ids for ``REMI_CONFIG``, without its event objects.

A document is a sequence of bars, each ``Bar TimeSig``, then positions that rise, each ``Position``, a
``Tempo`` if it changes, and its notes ``Program Pitch Velocity Duration`` by rising program (drums last) and
pitch.

Three choices make an encoding canonical, that is equal to the encoding of its own decoding:
tracks are taken in order of program; of several notes with one onset, program and pitch the shortest stays
(of equally short ones the softest); and nothing follows the last note.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from symusic.core import (
    NoteTickList,
    ScoreTick,
    TempoTickList,
    TimeSignatureTick,
    TrackTick,
)

from music_assets.foundation.errors import MusicAssetsError
from music_assets.tokens.grid import (
    BAR_TICKS,
    COMMON_TIME,
    DEFAULT_TEMPO,
    NO_LOSS,
    NUMERATORS,
    TICKS_PER_POSITION,
    TICKS_PER_QUARTER,
    EncodingLoss,
    Quantised,
    quantise,
    section_of,
)
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


@dataclass(frozen=True)
class NoteArray:
    """The notes of a document by onset, as arrays of equal length, and its bars. A beat is a quarter note."""

    onset: NDArray[np.float64]  # float64[n], beats from the start
    duration: NDArray[np.float64]  # float64[n], beats
    pitch: NDArray[np.int16]  # int16[n], MIDI pitch
    velocity: NDArray[np.int16]  # int16[n], 1..127
    program: NDArray[np.int16]  # int16[n], MIDI program, 128 for drums
    bar: NDArray[np.int32]  # int32[n], index into the bars
    bar_starts: NDArray[np.float64]  # float64[bars], beats
    bar_lengths: NDArray[np.float64]  # float64[bars], beats
    seconds: float  # to the end of the last note, 0 without notes
    tempo: float  # beats a minute at the start

    def __len__(self) -> int:
        return len(self.onset)


class TooLong(MusicAssetsError):
    """A piece that is longer than its encoding may be."""


class Encoding(NamedTuple):
    """The document of a score, and what became of it."""

    ids: NDArray[np.uint16]  # uint16[n]
    notes: int
    seconds: float  # to the end of the last note, 0 without notes
    loss: EncodingLoss


def encode(score: ScoreTick) -> NDArray[np.uint16]:
    """The canonical document of a score, uint16[n]; empty if it has no notes.

    Raises TooLong if it would have more than ``MAX_IDS``.
    """
    return encode_measured(score).ids


def encode_measured(score: ScoreTick) -> Encoding:
    """As :func:`encode`, with the losses counted."""
    if not any(len(track.notes) for track in score.tracks):
        return Encoding(np.empty(0, np.uint16), 0, 0.0, NO_LOSS)
    quantised = quantise(score)
    seconds = _seconds(quantised.tempo_time, quantised.tempo, quantised.end)
    return Encoding(_written(quantised), len(quantised.onset), seconds, quantised.loss)


def decode(ids: NDArray[np.integer]) -> ScoreTick:
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
    signature = parsed.bar_time_signature if len(parsed.bar_time_signature) else np.array([COMMON_TIME])
    for bar in map(int, np.flatnonzero(np.diff(signature, prepend=-1))):
        start = int(parsed.bar_start[bar]) if bar else 0
        score.time_signatures.append(TimeSignatureTick(start, *TIME_SIGNATURES[int(signature[bar])]))
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


def canonical(ids: NDArray[np.integer]) -> NDArray[np.uint16]:
    """The document of what :func:`decode` reads in a generated sequence, uint16[n], perhaps empty."""
    return encode(decode(ids))


def notes(ids: NDArray[np.integer]) -> NoteArray:
    """The notes of any sequence of ids, as :func:`decode` reads it."""
    parsed = _parse(ids)
    tempo_time = np.concatenate([[0], parsed.tempo_time])
    tempo = np.concatenate([[DEFAULT_TEMPO], parsed.tempo])
    return NoteArray(
        onset=parsed.onset / TICKS_PER_QUARTER,
        duration=parsed.duration / TICKS_PER_QUARTER,
        pitch=parsed.pitch.astype(np.int16),
        velocity=parsed.velocity.astype(np.int16),
        program=parsed.program.astype(np.int16),
        bar=parsed.bar.astype(np.int32),
        bar_starts=parsed.bar_start / TICKS_PER_QUARTER,
        bar_lengths=BAR_TICKS[parsed.bar_time_signature] / TICKS_PER_QUARTER,
        seconds=_seconds(tempo_time, tempo, int((parsed.onset + parsed.duration).max(initial=0))),
        tempo=float(TEMPOS[tempo[tempo_time == 0][-1]]),
    )


def _written(score: Quantised) -> NDArray[np.uint16]:
    """The ids. A token's place is the number of tokens before it, which sorted arrays give by counting."""
    onset, tempo_time = score.onset, score.tempo_time
    moments = np.union1d(onset, tempo_time)
    starts, signatures = score.section_start, score.section_time_signature
    bars_before = np.concatenate([[0], np.cumsum(np.diff(starts) // BAR_TICKS[signatures[:-1]])])
    bars = int(bars_before[-1] + (onset[-1] - starts[-1]) // BAR_TICKS[signatures[-1]]) + 1
    count = 2 * bars + len(moments) + len(tempo_time) + 4 * len(onset)
    if count > MAX_IDS:
        raise TooLong(
            f"The piece has {len(onset):,} notes in {bars:,} bars and would take {count:,} token ids; "
            f"the limit is {MAX_IDS:,}."
        )
    section = section_of(bars_before, np.arange(bars))
    signature = signatures[section]
    bar_start = starts[section] + (np.arange(bars) - bars_before[section]) * BAR_TICKS[signature]
    bar = section_of(bar_start, moments)
    position = (moments - bar_start[bar]) // TICKS_PER_POSITION[signature[bar]]
    moment = np.searchsorted(moments, onset)

    ids = np.empty(count, np.uint16)
    place = (
        2 * np.arange(bars, dtype=np.int64)
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


def _seconds(tempo_time: NDArray[np.int64], tempo: NDArray[np.int64], end: int) -> float:
    """Length of a piece that ends at ``end`` (1/24 quarter) and whose tempo changes begin at 0."""
    until = np.minimum(np.append(tempo_time[1:], end), end)
    quarters = np.maximum(until - tempo_time, 0) / TICKS_PER_QUARTER
    return float((quarters * 60 / TEMPOS[tempo]).sum())


@dataclass(frozen=True)
class _Parsed:
    """What a sequence of ids says, in ticks of 1/24 quarter; notes by onset."""

    onset: NDArray[np.int64]
    duration: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.integer]
    program: NDArray[np.int64]
    bar: NDArray[np.int64]
    bar_start: NDArray[np.int64]
    bar_time_signature: NDArray[np.int64]
    tempo_time: NDArray[np.int64]
    tempo: NDArray[np.int64]


def _parse(ids: NDArray[np.integer]) -> _Parsed:
    ids = np.asarray(ids, dtype=np.int64)
    kind = TOKEN_TYPE[np.where((ids >= 0) & (ids < SIZE), ids, 0)]
    bar_place = np.flatnonzero(kind == _BAR)
    if not len(bar_place):
        return _Parsed(*(np.empty(0, np.int64) for _ in range(10)))

    following = np.minimum(bar_place + 1, len(ids) - 1)
    stated = kind[following] == _TIME_SIGNATURE
    last_stated = np.maximum.accumulate(np.where(stated, np.arange(len(bar_place)), -1))
    bar_time_signature = np.where(last_stated < 0, COMMON_TIME, ids[following][last_stated] - _FIRST[_TIME_SIGNATURE])
    bar_start = np.concatenate([[0], np.cumsum(BAR_TICKS[bar_time_signature])[:-1]])

    bar = np.cumsum(kind == _BAR) - 1
    clock = np.maximum.accumulate(np.where((kind == _BAR) | (kind == _POSITION), np.arange(len(ids)), 0))
    position = np.where(kind[clock] == _POSITION, ids[clock] - _FIRST[_POSITION], 0)
    placed = (bar >= 0) & (position < NUMERATORS[bar_time_signature[bar]] * POSITIONS_PER_BEAT)
    time = bar_start[bar] + position * TICKS_PER_POSITION[bar_time_signature[bar]]

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
        duration=DURATIONS[ids[begin + 3] - _FIRST[_DURATION]] * TICKS_PER_POSITION[bar_time_signature[bar[begin]]],
        pitch=np.where(pitch >= _FIRST[_DRUM], pitch - _FIRST[_DRUM], pitch - _FIRST[_PITCH]),
        velocity=VELOCITIES[ids[begin + 2] - _FIRST[_VELOCITY]],
        program=ids[begin] - _FIRST[_PROGRAM],
        bar=bar[begin],
        bar_start=bar_start,
        bar_time_signature=bar_time_signature,
        tempo_time=time[tempo_place],
        tempo=ids[tempo_place] - _FIRST[_TEMPO],
    )


def _overlapping(onset: NDArray[np.int64], duration: NDArray[np.int64], pitch: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which notes begin before an earlier one of the same pitch has ended; bool[n]."""
    order = np.lexsort((onset, pitch))
    # Pitches lie end to end on one time line, so that one running maximum serves all.
    shift = pitch[order].astype(np.int64) * (int((onset + duration).max()) + 1)
    ends = np.maximum.accumulate(onset[order] + duration[order] + shift)
    late = np.zeros(len(onset), dtype=bool)
    late[order[1:]] = onset[order[1:]] + shift[1:] < ends[:-1]
    return late
