# numba has no types
# pyright: standard
"""The next token of each row, compiled: guidance, the grammar's mask, the filters and the draw in one pass."""

from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from music_assets.foundation.compiling import njit
from music_assets.foundation.midi.programs import FAMILIES
from music_assets.tokens.grammar import BEFORE_CONSTRAINTS, ORDER, Grammar
from music_assets.tokens.vocabulary import RANGES, Vocabulary

_BAR, _EOS = RANGES["Bar"].start, Vocabulary().eos
_PROGRAMS = np.array(RANGES["Program"])
_FAMILY = np.arange(len(_PROGRAMS)) // 8
_FAMILIES = len(FAMILIES) + 1  # and the drums
_TIME = np.array([_BAR, _EOS, *RANGES["Position"]])
"""Tokens that end what sounds together."""


@dataclass(frozen=True)
class Filters:
    """What may be drawn of what the grammar allows. Without any, the network's own distribution is drawn from.

    In this order: the logits are divided by the temperature; of the likeliest tokens top-k keeps k (and those as likely
    as the k-th), top-p the smallest set whose probabilities reach p (Holtzman et al. 2020), min-p those at least p
    times as likely as the likeliest (Nguyen et al. 2024).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


def choose(
    logits: NDArray[np.float32],
    unconditional: NDArray[np.float32],
    scales: NDArray[np.float64],
    grammar: Grammar,
    states: NDArray[np.int64],
    filters: Filters,
    penalised: NDArray[np.int64],
    penalty: float,
    uniform: NDArray[np.float64],
) -> NDArray[np.int64]:
    """One token for each row, int64[B], and its grammar's state moved on in place.

    Args:
        logits: float32[B, V].
        unconditional: float32[B, V] without what was asked for; of no rows where nothing is guided.
        scales: float64[B] of guidance: ``unconditional + scale * (logits - unconditional)`` (Ho and Salimans 2022).
        states: int64[automata, B] of the grammar.
        penalised: int64[B, n], tokens that are made ``penalty`` times less likely, -1 for none.
        uniform: float64[B] in [0, 1): where each row's draw falls.

    Where of the bar line and the end just one is allowed, it also stands for the other, so that asking for a number of
    bars does not change where a bar ends.

    What only a constraint forbids leaves its probability to what is nearest, not to all alike, or a chord would go on
    upwards whenever the network would rather hear an instrument that is not asked for: a program leaves it to the
    others of its family that may join in, for families are what the network is told; if there are none, and of all
    other tokens, to those that end what sounds together; if there are none, to the programs that may join in.
    """
    tables = grammar.tables
    tokens = choose_tokens(
        logits, unconditional, scales, tables.allowed, tables.following, tables.first[:, 0], states,
        filters.temperature, filters.top_k, filters.top_p, filters.min_p, penalised, np.log(penalty), uniform,
    )  # fmt: skip
    if (tokens < 0).any():
        raise AssertionError("The grammar leaves no way on.")
    return tokens


@njit(nogil=True)
def _leave_to_nearest(score, legal, may, playing):
    """Add the probabilities of tokens that are ``legal`` but may not follow to others; see :func:`choose`.

    ``playing`` is the program that played last at this position, -1 for none.
    """
    highest = -np.inf
    for token in range(len(score)):
        if legal[token]:
            highest = max(highest, score[token])
    forbidden, joining = np.zeros(_FAMILIES), np.zeros(_FAMILIES)
    others = 0.0
    for token in range(len(score)):
        if legal[token] and not may[token]:
            others += np.exp(score[token] - highest)
    if others == 0:
        return
    for program in range(playing + 1, len(_PROGRAMS)):
        token = _PROGRAMS[program]
        if may[token]:
            joining[_FAMILY[program]] += np.exp(score[token] - highest)
        elif legal[token]:
            forbidden[_FAMILY[program]] += np.exp(score[token] - highest)
    for program in range(playing + 1, len(_PROGRAMS)):
        family = _FAMILY[program]
        if may[_PROGRAMS[program]] and joining[family] > 0:
            score[_PROGRAMS[program]] += np.log1p(forbidden[family] / joining[family])
    for family in range(_FAMILIES):
        if joining[family] > 0:
            others -= forbidden[family]
    if not _share(score, may, _TIME, others, highest):
        _share(score, may, _PROGRAMS[playing + 1 :], others, highest)


@njit(nogil=True)
def _share(score, may, tokens, probability, highest):
    """Add a probability to those of the tokens that may follow, in their proportions; whether there are any."""
    total = 0.0
    for token in tokens:
        if may[token]:
            total += np.exp(score[token] - highest)
    if total == 0:
        return False
    for token in tokens:
        if may[token]:
            score[token] += np.log1p(max(probability, 0.0) / total)
    return True


_FLOATS, _DOUBLES = types.Array(types.float32, 2, "C"), types.float64[::1]
_TABLE = types.int64[:, ::1]


@njit(
    types.int64[::1](
        _FLOATS, _FLOATS, _DOUBLES, types.boolean[:, ::1], types.int16[:, ::1], types.int64[:], _TABLE,
        types.float64, types.int64, types.float64, types.float64, _TABLE, types.float64, _DOUBLES,
    ),
    nogil=True,
)  # fmt: skip
def choose_tokens(
    logits, unconditional, scales, allowed, following, first, states, temperature, top_k, top_p, min_p, penalised,
    penalty, uniform,
):  # fmt: skip
    """See :func:`choose`; ``penalty`` in nats."""
    rows, size = logits.shape
    automata = len(first)
    tokens = np.empty(rows, np.int64)
    legal, may, kept = np.empty(size, np.bool_), np.empty(size, np.bool_), np.empty(size, np.int64)
    score = np.empty(size, np.float64)
    for row in range(rows):
        for token in range(size):
            # The last two automata of a grammar are alternatives.
            may[token] = allowed[states[automata - 2, row], token] | allowed[states[automata - 1, row], token]
        for automaton in range(automata - 2):
            if automaton == BEFORE_CONSTRAINTS:
                legal[:] = may
            table = allowed[states[automaton, row]]
            for token in range(size):
                may[token] &= table[token]
        for token in range(size):
            score[token] = logits[row, token]
        if len(unconditional) and scales[row] != 1:
            for token in range(size):
                score[token] = unconditional[row, token] + scales[row] * (score[token] - unconditional[row, token])
        for place in range(penalised.shape[1]):
            if penalised[row, place] >= 0:
                score[penalised[row, place]] -= penalty
        if may[_BAR] != may[_EOS]:
            high, low = max(score[_BAR], score[_EOS]), min(score[_BAR], score[_EOS])
            score[_BAR if may[_BAR] else _EOS] = high + np.log1p(np.exp(low - high))
            legal[_BAR], legal[_EOS] = may[_BAR], may[_EOS]
        if automata - 2 > BEFORE_CONSTRAINTS:
            _leave_to_nearest(score, legal, may, (states[ORDER, row] - first[ORDER] + 1) // 2 - 1)

        highest = -np.inf
        count = 0
        for token in range(size):
            if may[token]:
                highest = max(highest, score[token])
                kept[count] = token
                count += 1
        if count == 0:
            tokens[row] = -1
            continue
        total = 0.0
        for place in range(count):
            token = kept[place]
            score[token] = np.exp((score[token] - highest) / temperature)
            total += score[token]
        if top_k > 0 or top_p < 1 or min_p > 0:
            # What is below this can be left out by any top-p: all of it together is less than what remains.
            least = 0.0 if top_p >= 1 or top_k > 0 else (1 - top_p) * total / count
            least = max(least, min_p)  # of the likeliest, whose score is 1
            few = 0
            for place in range(count):
                if score[kept[place]] >= least:
                    kept[few] = kept[place]
                    few += 1
            chosen = kept[:few]
            order = np.argsort(-score[chosen], kind="mergesort")
            count = few
            if 0 < top_k < few:
                count = top_k
                while count < few and score[chosen[order[count]]] == score[chosen[order[top_k - 1]]]:
                    count += 1
                total = 0.0
                for place in range(count):
                    total += score[chosen[order[place]]]
            if top_p < 1:
                reached = 0.0
                for place in range(count):
                    reached += score[chosen[order[place]]]
                    if reached >= top_p * total:
                        count = place + 1
                        break
            ranked = chosen[order[:count]]
            total = 0.0
            for place in range(count):
                kept[place] = ranked[place]
                total += score[kept[place]]
        aim, reached = uniform[row] * total, 0.0
        token = kept[count - 1]
        for place in range(count):
            reached += score[kept[place]]
            if reached > aim:
                token = kept[place]
                break
        tokens[row] = token
        for automaton in range(automata):
            states[automaton, row] = following[states[automaton, row], token] + first[automaton]
    return tokens
