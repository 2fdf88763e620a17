"""The automaton of canonical documents, as tables that numpy or torch can index for a batch at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from music_assets.tokens.vocabulary import (
    DRUMS,
    POSITIONS_PER_BEAT,
    PROGRAMS,
    RANGES,
    SIZE,
    TEMPOS,
    TIME_SIGNATURES,
    Vocabulary,
)

# Phase -> token -> next phase. A token is its type, except where one type leads to several phases.
_PHASES: dict[str, dict[str, str]] = {
    "start": {"Bar": "first bar"},
    "first bar": {"TimeSig": "first metre"},
    "first metre": {"Position_0": "first position"},
    "first position": {"Tempo": "tempo"},
    "bar": {"TimeSig": "metre"},
    "metre": {"Bar": "bar", "Position": "position"},
    "position": {"Tempo": "tempo", "Program": "program", "Program_drums": "drums"},
    "tempo": {"Bar": "bar", "Position": "position", "Program": "program", "Program_drums": "drums"},
    "program": {"Pitch": "pitch"},
    "drums": {"PitchDrum": "pitch"},
    "pitch": {"Velocity": "velocity"},
    "velocity": {"Duration": "note"},
    "note": {
        "Bar": "bar",
        "Position": "position",
        "Program": "program",
        "Program_drums": "drums",
        "EOS": "end",
    },
    "end": {"Pad": "end"},
}
_PHASE_NAMES = tuple(_PHASES)
_TOKENS = {
    **{name: np.array(ids) for name, ids in RANGES.items()},
    "Pad": np.array([Vocabulary().pad]),
    "Position_0": np.array(RANGES["Position"][:1]),
    "Program": np.array(RANGES["Program"][:DRUMS]),
    "Program_drums": np.array(RANGES["Program"][DRUMS:]),
    "EOS": np.array([Vocabulary().eos]),
}
_ALL_PITCHES = 128

# Arrays of numpy or of torch, as chosen by whoever made the grammar.
Array = Any


class GrammarState(NamedTuple):
    """Where each row of a batch stands; five integer arrays [batch], opaque to the caller."""

    phase: Array  # index of the phase
    time: Array  # bar length and last position in the bar, as row of the position table
    tempo: Array  # last tempo, or one past the last of them
    program: Array  # last program at this position
    floor: Array  # lowest pitch that may follow with this program


class Grammar:
    """Which ids may follow, such that every sequence that ends in EOS is its own decoding's encoding.

    A note is Program, Pitch or PitchDrum, Velocity, Duration. Positions rise within a bar and stay inside it;
    notes rise in (program, pitch) within a position, so none comes twice. A bar states its metre first; a
    tempo differs from the one before, and the first one stands at the start. EOS follows a note, Pad follows
    EOS.

    The state is a product of small automata; what is allowed is what all of them allow:

    ========  ====================  ===========================================
    table     rows                  allows
    ========  ====================  ===========================================
    phase     14                    the order of token types
    time      948 (length, last)    positions above the last and inside the bar
    tempo     50                    any tempo but the last
    program   2 x 129               programs from the last on, or above it once it has its highest pitch
    pitch     129                   pitches from the floor on
    ========  ====================  ===========================================

    ``convert`` puts a table where it is used: ``Grammar(lambda t: torch.as_tensor(t, device=device))`` gives
    masks and states on that device, and no call leaves it.
    """

    def __init__(self, convert: Callable[[np.ndarray], Array] = np.asarray) -> None:
        self._convert = convert
        phase_allowed, phase_next = _phase_tables()
        time_allowed, empty_bar, empty_bar_of = _time_tables()
        self._phase_allowed, self._phase_next = convert(phase_allowed), convert(phase_next)
        self._time_allowed, self._empty_bar = convert(time_allowed), convert(empty_bar)
        self._tempo_allowed = convert(_tempo_table())
        self._program_allowed = convert(_program_table())
        self._pitch_allowed = convert(_pitch_table())
        # What a token says about one part of the state, -1 where nothing.
        self._empty_bar_of = convert(empty_bar_of)
        self._position_of = convert(_value_of("Position"))
        self._tempo_of = convert(_value_of("Tempo"))
        self._program_of = convert(_value_of("Program"))
        self._pitch_of = convert(np.maximum(_value_of("Pitch"), _value_of("PitchDrum")))

    def initial_state(self, batch: int) -> GrammarState:
        """The state before the first Bar of a document, that is after BOS or the genre."""
        first = {"tempo": len(TEMPOS)}
        return GrammarState(
            *(self._convert(np.full(batch, first.get(name, 0), np.int64)) for name in GrammarState._fields)
        )

    def allowed(self, state: GrammarState) -> Array:
        """Ids that may follow, bool[batch, size]; never empty."""
        full = state.floor == _ALL_PITCHES
        return (
            self._phase_allowed[state.phase]
            & self._time_allowed[state.time]
            & self._tempo_allowed[state.tempo]
            & self._program_allowed[2 * state.program + full]
            & self._pitch_allowed[state.floor]
        )

    def advance(self, state: GrammarState, tokens: Array) -> GrammarState:
        """The state after one token a row, int64[batch]; undefined for a token that was not allowed."""
        position, bar = self._position_of[tokens], self._empty_bar_of[tokens]
        tempo, program, pitch = self._tempo_of[tokens], self._program_of[tokens], self._pitch_of[tokens]
        moved = position >= 0
        restarted = moved | ((program >= 0) & (program != state.program))
        time = _either(moved, self._empty_bar[state.time] + 1 + position, state.time)
        return GrammarState(
            phase=self._phase_next[state.phase, tokens],
            time=_either(bar >= 0, bar, time),
            tempo=_either(tempo >= 0, tempo, state.tempo),
            program=_either(program >= 0, program, state.program) * ~moved,
            floor=_either(pitch >= 0, pitch + 1, state.floor) * ~restarted,
        )

    def first_violation(self, ids: np.ndarray) -> int | None:
        """Index of the first id of a document (and EOS, if it is there) that is not allowed, or None.

        For grammars on numpy.
        """
        state = self.initial_state(1)
        for index, token in enumerate(np.asarray(ids, dtype=np.int64)[:, None]):
            if not self.allowed(state)[0, token[0]]:
                return index
            state = self.advance(state, token)
        return None


def _either(condition: Array, yes: Array, no: Array) -> Array:
    """``where`` in operators that numpy and torch share."""
    return yes * condition + no * ~condition


def _phase_tables() -> tuple[np.ndarray, np.ndarray]:
    allowed = np.zeros((len(_PHASES), SIZE), dtype=bool)
    following = np.zeros((len(_PHASES), SIZE), dtype=np.int64)
    for phase, transitions in enumerate(_PHASES.values()):
        for token, target in transitions.items():
            allowed[phase, _TOKENS[token]] = True
            following[phase, _TOKENS[token]] = _PHASE_NAMES.index(target)
    return allowed, following


def _time_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row is a bar length and the last position in it, the bar without any first: what each row allows, the
    row of its empty bar, and the empty bar that each TimeSig id begins."""
    lengths = sorted({numerator * POSITIONS_PER_BEAT for numerator, _ in TIME_SIGNATURES})
    rows = np.array([(length, last) for length in lengths for last in range(-1, length)])
    place = np.arange(len(_TOKENS["Position"]))
    allowed = np.ones((len(rows), SIZE), dtype=bool)
    allowed[:, _TOKENS["Position"]] = (place > rows[:, 1:]) & (place < rows[:, :1])
    empty = {int(rows[row, 0]): int(row) for row in np.flatnonzero(rows[:, 1] == -1)}
    empty_bar = np.array([empty[int(length)] for length in rows[:, 0]])
    empty_bar_of = np.full(SIZE, -1)
    empty_bar_of[_TOKENS["TimeSig"]] = [empty[numerator * POSITIONS_PER_BEAT] for numerator, _ in TIME_SIGNATURES]
    return allowed, empty_bar, empty_bar_of


def _tempo_table() -> np.ndarray:
    allowed = np.ones((len(TEMPOS) + 1, SIZE), dtype=bool)
    allowed[np.arange(len(TEMPOS)), _TOKENS["Tempo"]] = False
    return allowed


def _program_table() -> np.ndarray:
    programs = np.array(RANGES["Program"])
    allowed = np.ones((PROGRAMS, 2, SIZE), dtype=bool)
    for last in range(PROGRAMS):
        allowed[last, 0, programs[:last]] = False
        allowed[last, 1, programs[: last + 1]] = False
    return allowed.reshape(2 * PROGRAMS, SIZE)


def _pitch_table() -> np.ndarray:
    allowed = np.ones((_ALL_PITCHES + 1, SIZE), dtype=bool)
    for floor in range(_ALL_PITCHES + 1):
        allowed[floor, _TOKENS["Pitch"][:floor]] = False
        allowed[floor, _TOKENS["PitchDrum"][:floor]] = False
    return allowed


def _value_of(name: str) -> np.ndarray:
    """Id -> place within its range, -1 for ids of other types; int64[size]."""
    ids = np.array(RANGES[name])
    values = np.full(SIZE, -1, dtype=np.int64)
    values[ids] = ids - ids[0]
    return values
