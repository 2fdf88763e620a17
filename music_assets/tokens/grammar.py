"""The automaton of canonical documents, as tables that numpy or torch can index for a batch at once."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from music_assets.tokens.automata import Automaton, all_allowed, set_by
from music_assets.tokens.constraints import PITCHES, Constraints
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

MAX_EMPTY_BARS = 256
"""Most bars in a row without a note; the longest such rest of 3,437 real files has 51."""

# Phase -> token -> next phase. A token is its type, except where one type leads to several phases.
_PHASES: dict[str, dict[str, str]] = {
    "start": {"Bar": "first bar"},
    "first bar": {"TimeSig": "first time signature"},
    "first time signature": {"Position_0": "first position"},
    "first position": {"Tempo": "tempo"},
    "bar": {"TimeSig": "time signature"},
    "time signature": {"Bar": "bar", "Position": "position"},
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
BEFORE_CONSTRAINTS, ORDER = 6, 5
"""How many automata come before those of the constraints, and which of them is `order`."""
_FIRST_PHASES = 4  # passed once, at the start; after them the phase depends on the last token alone
_TOKENS = {
    **{name: np.array(ids) for name, ids in RANGES.items()},
    "Pad": np.array([Vocabulary().pad]),
    "Position_0": np.array(RANGES["Position"][:1]),
    "Program": np.array(RANGES["Program"][:DRUMS]),
    "Program_drums": np.array(RANGES["Program"][DRUMS:]),
    "EOS": np.array([Vocabulary().eos]),
}
_PROGRAMS = np.array(RANGES["Program"])
_BAR_LENGTHS = tuple(sorted({numerator * POSITIONS_PER_BEAT for numerator, _ in TIME_SIGNATURES}))


def _after(*parts: tuple[str, Any]) -> NDArray[np.int16]:
    """Id -> the state that it sets, -1 where it sets none; int64[size]."""
    after = np.full(SIZE, -1)
    for token, states in parts:
        after[_TOKENS[token]] = states
    return after


_PHASE_AFTER = _after(
    *(
        (token, _PHASE_NAMES.index(target))
        for transitions in _PHASES.values()  # later phases overwrite the first ones
        for token, target in transitions.items()
    )
)
_TIME_SIGNATURE_AFTER = _after(
    ("TimeSig", [_BAR_LENGTHS.index(numerator * POSITIONS_PER_BEAT) for numerator, _ in TIME_SIGNATURES])
)
_POSITION_AFTER = _after(("TimeSig", 0), ("Position", 1 + np.arange(len(_TOKENS["Position"]))))
_TEMPO_AFTER = _after(("Tempo", 1 + np.arange(len(TEMPOS))))
_PROGRAM_AFTER = _after(("Position", 0), ("Program", 1 + np.arange(DRUMS)), ("Program_drums", PROGRAMS))
_PITCH_AFTER = _after(("Position", 0), ("Pitch", 1 + np.arange(PITCHES)), ("PitchDrum", 1 + np.arange(PITCHES)))
_NOTE_ENDS = _after(("Duration", 0)) == 0
_NOTHING = Constraints()

# Arrays of numpy or of torch, as chosen by whoever made the grammar.
Array = Any


class Grammar:
    """Which ids may follow, such that every sequence that ends in EOS is its own decoding's encoding.

    A note is Program, Pitch or PitchDrum, Velocity, Duration. Positions rise within a bar and stay inside it;
    notes rise in (program, pitch) within a position, so none comes twice. A bar states its time signature first; a
    tempo differs from the one before, and the first one stands at the start. EOS follows the last note and
    stands where the next bar line would: wherever EOS may come, Bar may come too, and the bar that it ends is
    complete. Pad follows EOS. At most ``MAX_EMPTY_BARS`` bars in a row have no note, so that silence cannot go
    on for ever. The encoder has no such limit: a piece with a longer rest has a document, and is not accepted
    here. Nor is the length of a document bounded here: above ``remi.MAX_IDS`` the encoder would refuse it.

    The grammar is the product of eight small automata, each with a row of two tables for each of its states:
    ``allowed`` bool[1126, size], 1.1 MB, and ``following`` int16[1126, size], 2.2 MB.

    ========  ======  ===========================  =========================================================
    name      states  remembers                    forbids
    ========  ======  ===========================  =========================================================
    phase         14  what was written last        tokens of a type that is not next
    signature     12  positions in the bar         positions outside
    position     145  last position in the bar     positions up to it
    tempo         50  last tempo                   that tempo
    rest         258  bars since the last note     one more bar than ``MAX_EMPTY_BARS`` without a note
    order        259  last program here, and       programs below it, and itself once it has its highest pitch
                      whether it is exhausted
    repeat       259  last program here, and       pitches, if it was
                      whether it was so before
    pitch        129  last pitch here              pitches up to it
    ========  ======  ===========================  =========================================================

    What all of them allow is allowed, except that a pitch need only satisfy one of the last two. All begin in
    their first state. A state of the grammar is int64[8, batch], rows of the tables, opaque to the caller but
    for its second dimension: ``state[:, rows]`` chooses rows of a batch.

    ``constraints`` join the product with automata of their own.

    ``convert`` puts a table where it is used: ``Grammar(lambda t: torch.as_tensor(t, device=device))`` gives
    masks and states on that device, and neither ``allowed`` nor ``advance`` leaves it.
    """

    def __init__(
        self, convert: Callable[[NDArray[Any]], Array] = np.asarray, constraints: Constraints = _NOTHING
    ) -> None:
        self._convert = convert
        self.tables = _tables(constraints)
        self.constraints = constraints
        self._allowed, self._following = convert(self.tables.allowed), convert(self.tables.following)
        self._first = convert(self.tables.first)

    def initial_state(self, batch: int) -> Array:
        """The state before the first Bar of a document, that is after BOS or the genre."""
        return self._convert(self.tables.first.repeat(batch, axis=1))

    def state_after(self, prefixes: Sequence[NDArray[np.integer]]) -> Array:
        """The state after the beginning of a document, ids [n] without BOS and genre, one a row.

        The constraints begin behind it. Computed without a loop over ids. Raises ValueError if an id cannot follow
        those before it.
        """
        states: list[NDArray[np.int64]] = []
        for prefix in prefixes:
            if (place := self.first_violation(prefix)) is not None:
                raise ValueError(
                    f"{Vocabulary().name(int(prefix[place]))} cannot stand at place {place} of this document: "
                    "go on from the canonical document of the piece."
                )
            states.append(self._with_constraints(_states(prefix)[:, -1]))
        return self._convert(np.stack(states, axis=1))

    def bar_state(self, batch: int) -> Array:
        """The state before a bar in the middle of a document that is not known."""
        note = _states(np.empty(0, np.int64))[:, -1]
        note[0] += _PHASE_NAMES.index("note")
        return self._convert(self._with_constraints(note)[:, None].repeat(batch, axis=1))

    def _with_constraints(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """A state of the grammar alone, with the first states of the constraints."""
        own = state - _tables(_NOTHING).first[:, 0]
        begun = np.zeros(len(self.tables.first) - len(own), dtype=own.dtype)
        return self.tables.first[:, 0] + np.insert(own, BEFORE_CONSTRAINTS, begun)

    def allowed(self, state: Array) -> Array:
        """Ids that may follow, bool[batch, size]; never empty."""
        *others, repeat, pitch = self._allowed[state]
        allowed = repeat
        allowed |= pitch
        for other in others:
            allowed &= other
        return allowed

    def advance(self, state: Array, tokens: Array) -> Array:
        """The state after one token a row, int64[batch]; undefined for a token that was not allowed."""
        return self._following[state, tokens] + self._first

    def first_violation(self, ids: NDArray[np.integer]) -> int | None:
        """Index of the first id of a document (and EOS, if it is there) that the grammar alone forbids, or None."""
        *others, repeat, pitch = _tables(_NOTHING).allowed[_states(ids)[:, :-1], ids]
        wrong = np.flatnonzero(~np.logical_and.reduce([*others, repeat | pitch]))
        return int(wrong[0]) if len(wrong) else None


class _Tables(NamedTuple):
    allowed: NDArray[np.bool_]  # bool[rows, size]
    following: NDArray[np.int16]  # int16[rows, size], counted from the first row of the same automaton
    first: NDArray[np.int64]  # int64[automata, 1], the first row of each automaton


@lru_cache(maxsize=8)
def _tables(constraints: Constraints) -> _Tables:
    automata = [_phase(), _time_signature(), _position(), _tempo(), _rest(), _order(_exhausts(constraints))]
    automata += [*constraints.automata(), _repeat(), _pitch()]
    allowed, following = (np.concatenate(parts) for parts in zip(*automata, strict=True))
    first = np.cumsum([0, *(len(part) for part, _ in automata[:-1])])[:, None]
    return _Tables(allowed, following.astype(np.int16), first)


def _states(ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """The state before each id of a document and after the last, int64[automata, n + 1]; up to the first id
    that is not allowed.

    What ``advance`` does step by step, said in terms of the last token that has changed each automaton.
    """
    ids = np.asarray(ids, dtype=np.int64)
    tables = _tables(_NOTHING)
    phase = _latest(_PHASE_AFTER[ids])
    for place, token in enumerate(ids[:_FIRST_PHASES]):
        phase[place + 1] = tables.following[phase[place], token]

    bars = np.append(0, np.cumsum(ids == RANGES["Bar"].start))
    bars_at_note = np.append(0, np.maximum.accumulate(np.where(_NOTE_ENDS[ids], bars[1:], 0)))
    rest = np.minimum(bars - bars_at_note, MAX_EMPTY_BARS + 1)

    program = _PROGRAM_AFTER[ids]  # 1 + program, 0 at a position, -1 where nothing
    last = _latest(program)[:-1]
    order = _latest(np.where(_exhausts(_NOTHING)[ids], 2 * last, np.where(program > 0, 2 * program - 1, program)))
    repeat = _latest(np.where(program > 0, 2 * program - 1 + (program == last), program))
    signature, position, tempo, pitch = (
        _latest(after[ids]) for after in (_TIME_SIGNATURE_AFTER, _POSITION_AFTER, _TEMPO_AFTER, _PITCH_AFTER)
    )
    return np.stack([phase, signature, position, tempo, rest, order, repeat, pitch]) + tables.first


def _latest(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """The last value that is not negative, before each place and after the last; 0 until there is one."""
    place = np.where(values >= 0, np.arange(1, len(values) + 1), 0)
    return np.append(0, values)[np.append(0, np.maximum.accumulate(place))]


def _phase() -> Automaton:
    allowed = ~all_allowed(len(_PHASES))
    following = set_by(_PHASE_AFTER, len(_PHASES))
    for phase, transitions in enumerate(_PHASES.values()):
        for token, target in transitions.items():
            allowed[phase, _TOKENS[token]] = True
            following[phase, _TOKENS[token]] = _PHASE_NAMES.index(target)
    return allowed, following


def _time_signature() -> Automaton:
    allowed = all_allowed(len(_BAR_LENGTHS))
    place = np.arange(len(_TOKENS["Position"]))
    allowed[:, _TOKENS["Position"]] = place < np.array(_BAR_LENGTHS)[:, None]
    return allowed, set_by(_TIME_SIGNATURE_AFTER, len(_BAR_LENGTHS))


def _position() -> Automaton:
    """State 0 before any position, 1 + position after it."""
    states = 1 + len(_TOKENS["Position"])
    allowed = all_allowed(states)
    place = np.arange(len(_TOKENS["Position"]))
    allowed[:, _TOKENS["Position"]] = place >= np.arange(states)[:, None]
    return allowed, set_by(_POSITION_AFTER, states)


def _tempo() -> Automaton:
    """State 0 before any tempo, 1 + its index after it."""
    allowed = all_allowed(1 + len(TEMPOS))
    allowed[1 + np.arange(len(TEMPOS)), _TOKENS["Tempo"]] = False
    return allowed, set_by(_TEMPO_AFTER, 1 + len(TEMPOS))


def _rest() -> Automaton:
    """The state is the number of bars begun since the last note; the last state stands for any more."""
    states = MAX_EMPTY_BARS + 2
    allowed = all_allowed(states)
    allowed[-1, _TOKENS["Bar"]] = False
    following = set_by(np.where(_NOTE_ENDS, 0, -1), states)
    following[:, _TOKENS["Bar"]] = np.minimum(np.arange(states) + 1, states - 1)[:, None]
    return allowed, following


def _exhausts(constraints: Constraints) -> NDArray[np.bool_]:
    """Pitches that no higher one of the same program may follow, bool[size]."""
    exhausts = constraints.highest_pitch < _PITCH_AFTER
    exhausts[_TOKENS["PitchDrum"]] = np.arange(PITCHES) == PITCHES - 1
    return exhausts


def _order(exhausts: NDArray[np.bool_]) -> Automaton:
    """State 0 at a new position; 1 + 2 program after a program, one more once it is exhausted."""
    states = 1 + 2 * PROGRAMS
    allowed = all_allowed(states)
    for program in range(PROGRAMS):
        allowed[1 + 2 * program, _PROGRAMS[:program]] = False
        allowed[2 + 2 * program, _PROGRAMS[: program + 1]] = False
    following = set_by(_PROGRAM_AFTER, states)
    following[:, _PROGRAMS] = 1 + 2 * np.arange(PROGRAMS)
    following[1:, exhausts] = (2 + 2 * np.arange(PROGRAMS)).repeat(2)[:, None]
    return allowed, following


def _repeat() -> Automaton:
    """State 0 at a new position; 1 + 2 program after a program, one more if it was the last one already."""
    states = 1 + 2 * PROGRAMS
    allowed = all_allowed(states)
    for pitches in ("Pitch", "PitchDrum"):
        allowed[2::2, _TOKENS[pitches]] = False
    following = set_by(_PROGRAM_AFTER, states)
    following[:, _PROGRAMS] = 1 + 2 * np.arange(PROGRAMS)
    for program in range(PROGRAMS):
        following[1 + 2 * program : 3 + 2 * program, _PROGRAMS[program]] += 1
    return allowed, following


def _pitch() -> Automaton:
    """The state is the lowest pitch that may follow the last one."""
    allowed = all_allowed(PITCHES + 1)
    for pitches in ("Pitch", "PitchDrum"):
        allowed[:, _TOKENS[pitches]] = np.arange(PITCHES) >= np.arange(PITCHES + 1)[:, None]
    return allowed, set_by(_PITCH_AFTER, PITCHES + 1)
