# symusic's arrays are typed in part
# pyright: reportUnknownMemberType=false
"""The piano roll: a grid of 16th notes and the 88 keys of a piano, each cell silent, held or struck.

What it keeps is which key begins and sounds when. It drops drums and pitches outside A0..C8, and folds all
programs into one piano: where several notes sound on one key, the key sounds as long as any of them, and each
step in which one begins is an onset. Velocities, tempo changes and time signatures are not kept.
:func:`roll_loss` counts what that costs a piece.
"""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from symusic.core import NoteTickList, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from music_assets.tokens.grid import TICKS_PER_QUARTER
from music_assets.tokens.remi import NoteArray, TooLong
from music_assets.tokens.vocabulary import DRUMS

STEPS_PER_QUARTER = 4
KEYS = 88
LOWEST_PITCH = 21  # A0
SILENCE, HOLD, ONSET = range(3)
VELOCITY = 80
"""Of every note that is decoded."""
MAX_STEPS = 100_000
"""Longest roll, 6,250 bars of 4/4."""

_TICKS_PER_STEP = TICKS_PER_QUARTER // STEPS_PER_QUARTER


def encode(source: ScoreTick | NoteArray) -> NDArray[np.uint8]:
    """The roll of a score, or of :func:`remi.notes`, uint8[steps, 88] of SILENCE, HOLD and ONSET.

    Onsets and ends go to the nearest step, halves up, and a note is at least one step long. The roll ends with
    the last note's end; it has no step if no note is left. Raises TooLong if it would have more than
    ``MAX_STEPS``.
    """
    return _roll(_notes(source))


def decode(roll: NDArray[np.uint8], tempo: float = 120.0, time_signature: tuple[int, int] = (4, 4)) -> ScoreTick:
    """The score of any roll [steps, 88]: one piano track at ``tempo`` quarter notes a minute, velocity 80.

    An onset sounds until the next cell of its key that is not held; a held cell that follows no sound is silent.
    Silence at the end is lost. ``encode`` gives back the roll of a roll's score.
    """
    steps, key, lengths = struck(roll)
    score = ScoreTick(TICKS_PER_QUARTER)
    score.tempos.append(TempoTick(0, tempo))
    score.time_signatures.append(TimeSignatureTick(0, *time_signature))
    if len(steps):
        track = TrackTick("Piano", 0, False)
        track.notes = NoteTickList.from_numpy(
            (steps * _TICKS_PER_STEP).astype(np.int32),
            (lengths * _TICKS_PER_STEP).astype(np.int32),
            (key + LOWEST_PITCH).astype(np.int8),
            np.full(len(steps), VELOCITY, np.int8),
        )
        score.tracks.append(track)
    return score


def planes(roll: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What a network reads and predicts: onsets, then held cells, bool[steps, 176]."""
    return np.concatenate([roll == ONSET, roll == HOLD], axis=1)


def from_planes(chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The roll of planes [steps, 176], true or not 0 where chosen; an onset outweighs a hold."""
    onset, hold = np.asarray(chosen, dtype=bool).reshape(len(chosen), 2, KEYS).swapaxes(0, 1)
    return np.where(onset, ONSET, np.where(hold, HOLD, SILENCE)).astype(np.uint8)


@dataclass(frozen=True)
class RollLoss:
    """What a roll loses of the notes it was made of; losses of several pieces add up.

    ``notes`` is ``kept + merged + drums + out_of_range``. Errors are those of kept and merged notes, against the
    note that the roll has in their place.
    """

    notes: int = 0  # of the source
    kept: int = 0  # onsets of the roll
    merged: int = 0  # began in one step on one key with another note
    drums: int = 0
    out_of_range: int = 0  # pitched, outside the 88 keys
    shortened: int = 0  # of kept and merged: another note strikes the key before they end
    lengthened: int = 0  # of kept and merged: another note still sounds on the key when they end
    onset_error: float = 0.0  # sum of absolute differences, quarter notes
    duration_error: float = 0.0  # likewise

    def __add__(self, other: "RollLoss") -> "RollLoss":
        return RollLoss(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def mean_onset_error(self) -> float:
        """Quarter notes a note, 0 without notes."""
        return self.onset_error / max(self.kept + self.merged, 1)

    @property
    def mean_duration_error(self) -> float:
        """Quarter notes a note, 0 without notes."""
        return self.duration_error / max(self.kept + self.merged, 1)


def roll_loss(source: ScoreTick | NoteArray) -> RollLoss:
    """What :func:`encode` loses of a source. Raises TooLong as it does."""
    notes = _notes(source)
    steps, key, lengths = struck(_roll(notes))
    length = lengths[np.searchsorted(steps * KEYS + key, notes.begin * KEYS + notes.key)]
    own = notes.end - notes.begin
    quarter = notes.ticks_per_quarter
    onset_error = notes.begin / STEPS_PER_QUARTER - notes.onset / quarter
    duration_error = length / STEPS_PER_QUARTER - notes.duration / quarter
    return RollLoss(
        notes=len(own) + notes.drums + notes.out_of_range,
        kept=len(steps),
        merged=len(own) - len(steps),
        drums=notes.drums,
        out_of_range=notes.out_of_range,
        shortened=int((length < own).sum()),
        lengthened=int((length > own).sum()),
        onset_error=float(np.abs(onset_error).sum()),
        duration_error=float(np.abs(duration_error).sum()),
    )


@dataclass(frozen=True)
class _Notes:
    """The notes that fit the keys, int64[n] each, and how many do not."""

    onset: NDArray[np.int64]  # ticks
    duration: NDArray[np.int64]  # ticks
    ticks_per_quarter: int
    key: NDArray[np.int64]
    begin: NDArray[np.int64]  # steps
    end: NDArray[np.int64]  # steps, above begin
    drums: int
    out_of_range: int


def _notes(source: ScoreTick | NoteArray) -> _Notes:
    if isinstance(source, NoteArray):
        quarter, program, pitch = TICKS_PER_QUARTER, source.program, source.pitch
        onset, duration = (np.rint(beats * quarter).astype(np.int64) for beats in (source.onset, source.duration))
    else:
        quarter = source.tpq
        tracks: list[dict[str, NDArray[np.int32]]] = [track.notes.numpy() for track in source.tracks]
        onset, duration, pitch = (
            np.concatenate([np.empty(0, np.int64), *(track[name] for track in tracks)]).astype(np.int64)
            for name in ("time", "duration", "pitch")
        )
        programs = np.array([DRUMS if track.is_drum else track.program for track in source.tracks], np.int64)
        program = np.repeat(programs, [len(track["time"]) for track in tracks])
    key = pitch.astype(np.int64) - LOWEST_PITCH
    drum, inside = program == DRUMS, (key >= 0) & (key < KEYS)
    chosen = ~drum & inside
    begin, end = (
        (2 * STEPS_PER_QUARTER * ticks[chosen] + quarter) // (2 * quarter) for ticks in (onset, onset + duration)
    )
    return _Notes(
        onset=onset[chosen],
        duration=duration[chosen],
        ticks_per_quarter=quarter,
        key=key[chosen],
        begin=begin,
        end=np.maximum(end, begin + 1),
        drums=int(drum.sum()),
        out_of_range=int((~drum & ~inside).sum()),
    )


def _roll(notes: _Notes) -> NDArray[np.uint8]:
    steps = int(notes.end.max(initial=0))
    if steps > MAX_STEPS:
        raise TooLong(f"The piece lasts {steps:,} 16th notes; the limit of a piano roll is {MAX_STEPS:,}.")
    sounding = np.zeros((steps + 1, KEYS), np.int32)  # first its changes
    np.add.at(sounding, (notes.begin, notes.key), 1)
    np.add.at(sounding, (notes.end, notes.key), -1)
    sounding.cumsum(axis=0, out=sounding)
    roll = np.where(sounding[:-1] > 0, HOLD, SILENCE).astype(np.uint8)
    roll[notes.begin, notes.key] = ONSET
    return roll


def struck(roll: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Step, key and length in steps of every onset and what it holds, by step and key; int64[n] each."""
    # Keys end to end on one time line, each followed by a silent step.
    line = np.pad(roll.T, ((0, 0), (0, 1)), constant_values=SILENCE).ravel()
    begin, stop = np.flatnonzero(line == ONSET), np.flatnonzero(line != HOLD)
    length = stop[np.searchsorted(stop, begin, side="right")] - begin
    key, step = np.divmod(begin, len(roll) + 1)
    order = np.lexsort((key, step))
    return step[order], key[order], length[order]
