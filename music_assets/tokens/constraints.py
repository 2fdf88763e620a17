"""What may be asked of a document without exception, as automata that join the grammar's.

They never leave a document without a way on: whatever has been written, some id may follow, and the end can be reached.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from music_assets.tokens.automata import Automaton, all_allowed, counted, only
from music_assets.tokens.vocabulary import DRUMS, PROGRAMS, RANGES, SIZE, TEMPOS, Vocabulary

PITCHES = 128
PITCH_CLASSES = 12
_APPEARS_BY = 64
"""Notes by which each instrument has played where the number of notes is fixed."""


@dataclass(frozen=True)
class Constraints:
    """What must hold of what is written from here on; None where nothing is asked."""

    least_bars: int = 1
    most_bars: int | None = None
    time_signatures: tuple[int, ...] | None = None
    """Of each bar, as indices of ``TIME_SIGNATURES``; the last one is that of all further bars."""
    tempos: frozenset[int] | None = None
    """Indices of ``TEMPOS``; of one alone, no change follows it; of none, no tempo is written."""
    instruments: tuple[frozenset[int], ...] | None = None
    """Programs, 128 for drums: nothing else plays, and of each set one does."""
    optional: bool = False
    """Whether each of the instruments may be silent."""
    pitch_classes: frozenset[int] | None = None
    """Of all notes but those of drums."""
    notes: int | None = None
    """How many notes; not together with ``most_bars``."""
    notes_in_bar: int | None = None
    """After so many notes in one bar no further position in it is begun."""

    def __post_init__(self) -> None:
        """Raise ValueError for what no document can keep."""
        if self.most_bars is not None and self.most_bars < self.least_bars:
            raise ValueError(f"At least {self.least_bars} and at most {self.most_bars} bars cannot be.")
        if self.notes is not None and (self.most_bars is not None or self.least_bars > 1):
            raise ValueError("Either the bars are counted or the notes.")
        if self.pitch_classes is not None and not self.pitch_classes:
            raise ValueError("Without pitch classes there are no notes.")

    @property
    def highest_pitch(self) -> int:
        """The highest pitch that is allowed."""
        return max(pitch for pitch in range(PITCHES) if self._may_sound(pitch))

    def automata(self) -> Iterator[Automaton]:
        """The automata; whoever adds no constraint adds none."""
        if self.least_bars > 1 or self.most_bars is not None or self.time_signatures is not None:
            yield self._bars()
        if self.tempos is not None:
            yield only(_all_but("Tempo", np.isin(np.arange(len(TEMPOS)), list(self.tempos))))
        if self.pitch_classes is not None:
            yield only(_all_but("Pitch", np.array([self._may_sound(pitch) for pitch in range(PITCHES)])))
        if self.instruments is not None:
            union = sorted(frozenset[int]().union(*self.instruments))
            yield only(_all_but("Program", np.isin(np.arange(PROGRAMS), union)))
            if not self.optional:
                yield from map(self._appearance, range(len(self.instruments)))
        if self.notes is not None:
            yield self._notes(self.notes)
        if self.notes_in_bar is not None:
            yield _notes_in_bar(self.notes_in_bar)

    def _may_sound(self, pitch: int) -> bool:
        return self.pitch_classes is None or pitch % PITCH_CLASSES in self.pitch_classes

    def _bars(self) -> Automaton:
        """The state is the number of bars begun; before the first nothing but a bar may come."""
        told = 0 if self.time_signatures is None else len(self.time_signatures)
        states = 1 + (max(self.least_bars, told) if self.most_bars is None else self.most_bars)
        allowed = all_allowed(states)
        allowed[0] = _IS["Bar"]
        allowed[: self.least_bars, _EOS] = False
        if self.most_bars is not None:
            allowed[self.most_bars, _BAR] = False
        if self.time_signatures is not None:
            for state in range(1, states):
                signature = self.time_signatures[min(state, told) - 1]
                allowed[state, _ids("TimeSig")] = False
                allowed[state, RANGES["TimeSig"][signature]] = True
        return allowed, counted(_IS["Bar"], states)

    def _appearance(self, index: int) -> Automaton:
        """States 2i and 2i + 1: i bars or notes have come, and the instrument is silent yet or has played.

        While it is silent, the document does not end. In the last bar no program behind it may come before it; where
        notes are counted, at a certain one nothing else may come.
        """
        assert self.instruments is not None
        programs = sorted(self.instruments[index])
        if self.notes is not None:
            room = len(self.instruments)
            due = min(self.notes, max(_APPEARS_BY, room)) - room + index  # notes that may come before it
            steps, step = due + 1, "Duration"
        else:
            steps, step = 1 + (self.most_bars or 0), "Bar"
        allowed = all_allowed(2 * steps)
        allowed[0::2, _EOS] = False
        if self.notes is not None:
            allowed[-2, _ids("Program")] = False
            allowed[-2, _program_ids(programs)] = True
        elif self.most_bars is not None:
            allowed[-2, _program_ids(range(programs[-1] + 1, PROGRAMS))] = False
        following = 2 * counted(_IS[step], steps).repeat(2, axis=0)
        following[1::2] += 1
        plays = _program_ids(programs)
        following[0::2, plays] += 1
        return allowed, following

    def _notes(self, notes: int) -> Automaton:
        """The state is the number of notes."""
        allowed = all_allowed(notes + 1)
        allowed[:-1, _EOS] = False
        allowed[-1] = False
        allowed[-1, [_EOS, Vocabulary().pad]] = True
        return allowed, counted(_IS["Duration"], notes + 1)


def _notes_in_bar(most: int) -> Automaton:
    """The state is the number of notes in the bar."""
    allowed = all_allowed(most + 1)
    allowed[-1, _ids("Position")] = False
    following = counted(_IS["Duration"], most + 1)
    following[:, _BAR] = 0
    return allowed, following


def _ids(kind: str) -> NDArray[np.int64]:
    return np.array(RANGES[kind])


def _program_ids(programs: range | list[int]) -> NDArray[np.int64]:
    return RANGES["Program"].start + np.array(programs, dtype=np.int64)


def _all_but(kind: str, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All ids, bool[size], but those of a type that are not ``allowed``."""
    tokens = np.ones(SIZE, dtype=bool)
    tokens[_ids(kind)] = allowed
    return tokens


_IS = {kind: np.isin(np.arange(SIZE), np.arange(ids.start, ids.stop)) for kind, ids in RANGES.items()}
_BAR, _EOS = RANGES["Bar"].start, Vocabulary().eos
assert DRUMS == PROGRAMS - 1  # drums come last at a position, so that they can always follow
