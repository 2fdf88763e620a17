# numba has no types
# pyright: standard
"""What followed the last time that the music stood as it does now, and how sure that is.

A network of this size cannot look back far, and music repeats itself: over a bar, a phrase, a voice, a beat. So it is
told, at each token, the token that came next when the same *context* was there last. A context is a part of what is
known: the last 4, 8, 16 and 32 tokens, and 12 in music's own terms, such as an instrument's last two notes and its
place in the bar, its rhythm, or the bar's place in a phrase of 4, 8 or 16 bars. Compressors call these context models.
One of them foretells no pitch but an interval, from the instrument's last note: what is told is the pitch there.
Before a pitch it is also told the key of the notes so far, and how far that leads: else music that is made strays.

The contexts of a token are of its kind, for what comes next differs: after a program a pitch, after a pitch a velocity.
Memory reads a document token by token and looks at nothing that comes later. Prompts are not read; the marks of an
infill are, so that its bars are counted as the document's.
"""

from collections.abc import Sequence

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from music_assets.foundation.compiling import njit
from music_assets.foundation.keys import KEYS, PROFILES
from music_assets.tokens.vocabulary import (
    CONTROL_RANGES,
    DRUMS,
    PROGRAMS,
    RANGES,
    SIZE,
    TOKEN_TYPE,
    TOKEN_TYPES,
    Vocabulary,
)

CONTEXTS = 16
"""At a token, each with a column of its own."""
KEY = CONTEXTS
"""The column behind them. Before a pitch it has the control id of the key so far, a level for each ``KEY_LEAD`` of its
lead; nothing where no key leads, or all notes have faded."""
COLUMNS = CONTEXTS + 1
NO_CANDIDATE = Vocabulary().pad
"""Stands for no id: it is in no document."""
LEVELS = 7
"""How sure, of a context: it was followed by the candidate 0, 1, 2 to 3, 4 to 7, ... times in a row before."""
RUNS = (4, 8, 16, 32)
"""How many last tokens the first contexts are."""

KEY_LEAD = 0.05
"""In correlation, see :func:`~music_assets.foundation.keys.estimate_key`."""
FADING = 7 / 8
"""Each bar line multiplies the weight of the notes before it by this."""
AUDIBLE = 1e-9
"""Weight below which notes say nothing of the key."""

INTERVAL = len(RUNS) + 10
"""The column that foretells an interval where a pitch is next."""

_LONGEST = RUNS[-1]
_UNISON = SIZE // 2  # stands for an interval of 0: 0 is for what is no interval
_MOST = 1 << (LEVELS - 2)
_NOTES = 8  # of each program that are remembered

_KIND = TOKEN_TYPE.astype(np.int64)
_BAR, _PITCH, _VELOCITY, _DURATION, _POSITION, _DRUM, _TEMPO, _PROGRAM, _SIGNATURE = (
    TOKEN_TYPES.index(name)
    for name in ("Bar", "Pitch", "Velocity", "Duration", "Position", "PitchDrum", "Tempo", "Program", "TimeSig")
)
_FIRST_PROGRAM, _FIRST_PITCH, _FIRST_KEY = RANGES["Program"].start, RANGES["Pitch"].start, CONTROL_RANGES["key"].start
_MASK, _FILL = Vocabulary().mask, Vocabulary().fill

_STATE = np.dtype(
    [
        ("read", np.int64),  # tokens
        ("recent", np.int64, (_LONGEST,)),  # the last tokens, each at its number modulo so many
        ("bar", np.int64),  # number
        ("gap", np.int64),  # number of the first bar that is missing
        ("position", np.int64),
        ("position_before", np.int64),
        ("program", np.int64),
        ("pitch", np.int64),
        ("velocity", np.int64),
        # Hashes of what has come so far, in its order:
        ("onsets", np.int64),  # positions of the bar
        ("onsets_before", np.int64),  # of the bar before
        ("notes", np.int64),  # positions, programs and pitches of the bar
        ("programs_here", np.int64),  # at the position
        ("notes_here", np.int64),
        ("first_note_here", np.int64),
        ("note_here", np.int64),  # the last one
        # Of each program:
        ("notes_of", np.int64, (PROGRAMS, _NOTES)),  # pitch and position of its last ones, the latest first
        ("velocity_of", np.int64, (PROGRAMS,)),
        ("duration_of", np.int64, (PROGRAMS,)),
        ("heard", np.float64, (12,)),  # notes of each pitch class, faded
        # Of the contexts of the last token:
        ("entries", np.int64, (CONTEXTS,)),  # where they are in the table, or -1
        ("origin", np.int64),  # the pitch from which intervals are told, or 0
    ]
)


class Memory:
    """What is known of rows that grow token by token, each on its own.

    Of a row of n tokens ``candidates`` are int64[n, COLUMNS]: ids that followed each token's contexts last, plus
    ``SIZE`` times their level; ``NO_CANDIDATE`` where a context is new. In column ``KEY`` they say the key.
    """

    def __init__(self, rows: Sequence[NDArray[np.integer]]) -> None:
        """Rows with the ids that they begin with."""
        self.lengths = np.zeros(len(rows), np.int64)
        """Ids of each row so far."""
        self._ids = np.zeros((len(rows), 0), np.int64)
        self._candidates = np.zeros((len(rows), 0, COLUMNS), np.int64)
        self._make_room(max((len(ids) for ids in rows), default=0) + _SMALLEST_ROOM, rows)

    def ids(self, row: int) -> NDArray[np.int64]:
        """All ids of a row so far."""
        return self._ids[row, : self.lengths[row]]

    def candidates(self, row: int) -> NDArray[np.int64]:
        """What the network is told at each of them."""
        return self._candidates[row, : self.lengths[row]]

    def append(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """One token more of each of some rows."""
        if (self.lengths[rows] == self._ids.shape[1]).any():
            self._make_room(2 * self._ids.shape[1], [self.ids(row) for row in range(len(self.lengths))])
        _append(rows, tokens, self.lengths, self._ids, self._states, self._tables, self._candidates)

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Tell nothing but the key at the last token of each of some rows."""
        self._candidates[rows, self.lengths[rows] - 1, :CONTEXTS] = NO_CANDIDATE

    def latest(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The last token of each of some rows, int64[n], and its candidates, int64[n, COLUMNS]."""
        last = self.lengths[rows] - 1
        return self._ids[rows, last], self._candidates[rows, last]

    def _make_room(self, room: int, rows: Sequence[NDArray[np.integer]]) -> None:
        """Room for so many tokens a row; all are read anew, and what is forgotten stays so."""
        told = self._candidates
        self._ids = np.zeros((len(rows), room), np.int64)
        self._candidates = np.full((len(rows), room, COLUMNS), NO_CANDIDATE, np.int64)
        self._states = _begin(len(rows))
        self._tables = np.zeros((len(rows), _slots(room), 2), np.int64)
        for row, ids in enumerate(rows):
            self._ids[row, : len(ids)] = ids
            self.lengths[row] = len(ids)
            _remember(
                self._ids[row], 0, len(ids), self._states[row : row + 1], self._tables[row], self._candidates[row]
            )
        self._candidates[:, : told.shape[1]] = told


def candidates_of(ids: NDArray[np.integer], first: int = 0) -> NDArray[np.int64]:
    """The candidates of a document's tokens from place ``first`` on, int64[n - first, COLUMNS]; see :class:`Memory`."""
    ids = np.ascontiguousarray(ids, dtype=np.int64)
    found = np.full((len(ids), COLUMNS), NO_CANDIDATE, np.int64)
    _remember(ids, 0, len(ids), _begin(1), np.zeros((_slots(len(ids)), 2), np.int64), found)
    return found[first:]


_SMALLEST_ROOM = 512


def _begin(rows: int) -> NDArray[np.void]:
    states = np.zeros(rows, _STATE)
    states["entries"] = -1
    states["program"] = _FIRST_PROGRAM
    return states


def _slots(tokens: int) -> int:
    """Of a table that stays half empty."""
    return 1 << (2 * CONTEXTS * max(tokens, 1) - 1).bit_length()


_INTS, _TABLE, _TABLES = (types.Array(types.int64, dimensions, "C") for dimensions in (1, 2, 3))
_STATES = types.Array(from_dtype(_STATE), 1, "C")


@njit(types.int64(types.int64, types.int64), nogil=True, inline="always")
def _mixed(key, value):
    """A hash of a hash and one value more; never 0."""
    key = (key * 6364136223846793005 + value) * 1442695040888963407 + 1
    return (key ^ (key >> 29)) | 1


@njit(types.void(_STATES, types.int64), nogil=True)
def _hear(states, token):
    """Let the state be that after a token."""
    s = states[0]
    kind = _KIND[token]
    before = s.recent[(s.read - 1) % _LONGEST] if s.read else 0
    s.recent[s.read % _LONGEST] = token
    s.read += 1
    if kind == _BAR:
        s.bar += 1
        for pitch_class in range(12):
            s.heard[pitch_class] *= FADING
        s.onsets_before, s.onsets = s.onsets, 0
        s.notes = s.notes_here = s.programs_here = s.first_note_here = s.note_here = 0
        s.position = s.position_before = 0
    elif kind == _POSITION:
        s.position_before, s.position = s.position, token
        s.onsets = _mixed(s.onsets, token)
        s.notes = _mixed(s.notes, token)
        s.notes_here = s.programs_here = s.first_note_here = s.note_here = 0
    elif kind == _PROGRAM:
        if before == _MASK:  # not a note's: it says whose notes are missing in the bar that follows
            s.bar -= 1
        elif token != s.program or s.programs_here == 0:
            s.programs_here = _mixed(s.programs_here, token)
        s.program = token
    elif kind in (_PITCH, _DRUM):
        s.pitch = token
        if kind == _PITCH:
            s.heard[(token - _FIRST_PITCH) % 12] += 1
        s.note_here = _mixed(s.program, token)
        if s.first_note_here == 0:
            s.first_note_here = s.note_here
        s.notes_here = _mixed(s.notes_here, s.note_here)
        s.notes = _mixed(s.notes, s.note_here)
    elif kind == _VELOCITY:
        s.velocity = token
    elif kind == _DURATION:
        voice = s.program - _FIRST_PROGRAM
        last = s.notes_of[voice]
        for place in range(_NOTES - 1, 0, -1):
            last[place] = last[place - 1]
        last[0] = s.pitch * SIZE + s.position
        s.velocity_of[voice], s.duration_of[voice] = s.velocity, token
    elif token == _MASK:  # a bar that is missing
        s.bar += 1
        if before != _MASK and s.gap == 0:
            s.gap = s.bar
    elif token == _FILL:
        s.bar = s.gap - 1
        s.onsets = 0


@njit(types.void(_STATES, types.int64, _INTS), nogil=True)
def _contexts(states, token, keys):
    """The hashes of a token's contexts, 0 where there is none; and the pitch from which intervals are told."""
    s = states[0]
    s.origin = 0
    key, length = 0, 0
    for column in range(len(RUNS)):
        while length < RUNS[column]:
            length += 1
            key = _mixed(key, s.recent[(s.read - length) % _LONGEST])
        keys[column] = _mixed(key, column) if s.read >= length else 0
    keys[len(RUNS) :] = 0
    own = keys[len(RUNS) :]
    kind = _KIND[token]
    if kind == _PROGRAM:
        last = s.notes_of[token - _FIRST_PROGRAM]
        here = _mixed(token, s.position)
        own[0] = here
        own[1] = key1 = _mixed(here, last[0])
        own[2] = key2 = _mixed(key1, last[1])
        own[3] = key4 = _mixed(_mixed(key2, last[2]), last[3])
        own[4] = _mixed(_mixed(_mixed(_mixed(key4, last[4]), last[5]), last[6]), last[7])
        own[5] = _mixed(token, s.note_here)
        own[6] = _mixed(here, s.notes_here)
        latest, before = last[0] // SIZE, last[1] // SIZE
        own[7] = _mixed(_mixed(token, latest), before)
        own[8] = _mixed(here, s.bar & 3)
        own[9] = _mixed(_mixed(token, s.first_note_here), latest)
        if _KIND[latest] == _PITCH and _KIND[before] == _PITCH:
            s.origin = latest
            own[INTERVAL - len(RUNS)] = _mixed(here, latest - before)
        own[11] = _mixed(own[6], s.bar & 7)
    elif kind in (_PITCH, _DRUM):
        voice = s.program - _FIRST_PROGRAM
        last = s.notes_of[voice]
        own[0] = note = _mixed(s.program, token)
        own[1] = _mixed(s.program, s.position)
        own[2] = here = _mixed(note, s.position)
        own[3] = key2 = _mixed(_mixed(here, last[0]), last[1])
        own[4] = _mixed(_mixed(key2, last[2]), last[3])
        own[5] = _mixed(s.program, s.velocity_of[voice])
        own[6] = _mixed(own[1], s.velocity_of[voice])
        own[7] = _mixed(note, last[0])
        own[8] = _mixed(here, s.bar & 3)
        own[9] = _mixed(own[6], s.bar & 3)
        own[10] = _mixed(here, s.bar & 7)
        own[11] = _mixed(here, s.first_note_here)
    elif kind == _VELOCITY:
        voice = s.program - _FIRST_PROGRAM
        last = s.notes_of[voice]
        own[0] = note = _mixed(s.program, s.pitch)
        own[1] = at = _mixed(s.program, s.position)
        own[2] = here = _mixed(note, s.position)
        own[3] = key2 = _mixed(_mixed(here, last[0]), last[1])
        own[4] = _mixed(_mixed(key2, last[2]), last[3])
        own[5] = _mixed(at, token)
        own[6] = _mixed(_mixed(at, last[0]), s.duration_of[voice])
        own[7] = _mixed(note, s.duration_of[voice])
        own[8] = _mixed(here, s.bar & 3)
        own[9] = _mixed(at, s.duration_of[voice])
        own[10] = _mixed(here, s.bar & 7)
        own[11] = _mixed(here, s.duration_of[voice])
    elif kind == _DURATION:
        last = s.notes_of[s.program - _FIRST_PROGRAM]
        own[0] = _mixed(s.position, s.program)
        own[1] = note = _mixed(own[0], s.pitch)
        own[2] = key1 = _mixed(note, last[1])
        own[3] = _mixed(_mixed(_mixed(key1, last[2]), last[3]), last[4])
        own[4] = _mixed(s.position, s.programs_here)
        own[5] = _mixed(s.onsets, s.programs_here)
        own[6] = _mixed(s.position, s.notes_here)
        own[7] = s.notes
        own[8] = _mixed(own[4], s.bar & 3)
        own[9] = _mixed(own[6], s.bar & 3)
        own[10] = _mixed(_mixed(_mixed(s.program, last[0] % SIZE), last[1] % SIZE), last[2] % SIZE)
        own[11] = _mixed(own[5], s.bar & 3)
    elif kind in (_POSITION, _TEMPO):
        own[0] = _mixed(s.position, 0)
        own[1] = _mixed(s.position, s.position_before)
        own[2] = _mixed(s.position, s.bar & 1)
        own[3] = _mixed(s.position, s.bar & 3)
        own[4] = s.onsets
        own[5] = _mixed(s.onsets, s.onsets_before)
        own[6] = _mixed(s.onsets, s.bar & 3)
        own[7] = s.notes
        own[8] = _mixed(s.position, s.bar & 7)
        own[9] = _mixed(s.onsets, s.bar & 7)
        own[10] = _mixed(s.position, s.bar & 15)
        own[11] = _mixed(s.onsets, s.bar & 15)
    elif kind in (_BAR, _SIGNATURE):
        own[0] = _mixed(0, token)
        own[1] = _mixed(token, s.bar & 1)
        own[2] = _mixed(token, s.bar & 3)
        own[3] = _mixed(token, s.bar & 7)
        own[4] = _mixed(token, s.onsets_before)
        own[5] = _mixed(token, s.bar & 15)
        own[6] = _mixed(own[4], s.bar & 3)
    for column in range(len(own)):
        if own[column]:
            own[column] = _mixed(_mixed(own[column], kind), len(RUNS) + column)


@njit(types.int64(types.int64, types.int64), nogil=True)
def _interval(origin, token):
    """From a pitch to another, never 0; 0 if that is none."""
    return token - origin + _UNISON if _KIND[token] == _PITCH else 0


@njit(types.int64(types.int64, types.int64), nogil=True)
def _at_interval(origin, interval):
    """The pitch there, or ``NO_CANDIDATE``."""
    token = origin + interval - _UNISON
    return token if interval and _KIND[token] == _PITCH else NO_CANDIDATE


@njit(types.int64(_STATES), nogil=True)
def _key(states):
    """What column ``KEY`` has, by :func:`~music_assets.foundation.keys.estimate_key`'s rule."""
    heard = states[0].heard
    centred = heard - heard.mean()
    length = np.sqrt((centred * centred).sum())
    if length < AUDIBLE:
        return NO_CANDIDATE
    best, next_best, key = -np.inf, -np.inf, 0
    for number in range(len(KEYS)):
        fit = np.rint((PROFILES[number] * centred).sum() / length * 1e9)
        if fit > best:
            best, next_best, key = fit, best, number
        elif fit > next_best:
            next_best = fit
    if best == next_best:
        return NO_CANDIDATE
    return _FIRST_KEY + key + SIZE * min(int((best - next_best) / 1e9 / KEY_LEAD), LEVELS - 1)


@njit(types.void(_INTS, types.int64, types.int64, _STATES, _TABLE, _TABLE), nogil=True)
def _remember(ids, start, stop, states, table, candidates):
    """Read the ids from ``start`` to ``stop`` and write their candidates.

    ``table`` int64[slots, 2] has the hash of each context so far, 0 where a slot is free, and what followed it last,
    plus SIZE times how often in a row it had been right; contexts are the same if their hashes are.
    """
    mask = len(table) - 1
    s = states[0]
    keys = np.empty(CONTEXTS, np.int64)
    for place in range(start, stop):
        token = ids[place]
        for column in range(CONTEXTS):
            entry = s.entries[column]
            if entry >= 0:
                came = _interval(s.origin, token) if column == INTERVAL and s.origin else token
                known = table[entry, 1]
                times = known // SIZE
                if known - times * SIZE != came:
                    table[entry, 1] = came
                elif times < _MOST:
                    table[entry, 1] = known + SIZE
        _hear(states, token)
        _contexts(states, token, keys)
        if _KIND[token] == _PROGRAM and token != _FIRST_PROGRAM + DRUMS:
            candidates[place, KEY] = _key(states)
        for column in range(CONTEXTS):
            key = keys[column]
            if key == 0:
                s.entries[column] = -1
                continue
            slot = (key ^ (key >> 32)) & mask
            while table[slot, 0] != 0 and table[slot, 0] != key:
                slot = (slot + 1) & mask
            table[slot, 0] = key
            s.entries[column] = slot
            known = table[slot, 1]
            if known:
                times, level = known // SIZE, 0
                while times >> level:
                    level += 1
                foretold = known - times * SIZE
                if column == INTERVAL and s.origin:
                    foretold = _at_interval(s.origin, foretold)
                if foretold != NO_CANDIDATE:
                    candidates[place, column] = foretold + SIZE * level


@njit(types.void(_INTS, _INTS, _INTS, _TABLE, _STATES, _TABLES, _TABLES), nogil=True)
def _append(rows, tokens, lengths, ids, states, tables, candidates):
    for index in range(len(rows)):
        row = rows[index]
        place = lengths[row]
        ids[row, place] = tokens[index]
        lengths[row] = place + 1
        _remember(ids[row], place, place + 1, states[row : row + 1], tables[row], candidates[row])
