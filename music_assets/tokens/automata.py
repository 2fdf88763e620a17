"""Small automata over ids, as tables; what a document must keep is their product."""

import numpy as np
from numpy.typing import NDArray

from music_assets.tokens.vocabulary import SIZE

Automaton = tuple[NDArray[np.bool_], NDArray[np.integer]]
"""What the states allow, bool[states, size], and the states that follow, int[states, size]; the first begins."""


def all_allowed(states: int) -> NDArray[np.bool_]:
    """States that forbid nothing, bool[states, size]."""
    return np.ones((states, SIZE), dtype=bool)


def set_by(after: NDArray[np.integer], states: int) -> NDArray[np.integer]:
    """What follows where tokens, int[size], set the state or leave it (-1)."""
    return np.where(after >= 0, after, np.arange(states)[:, None])


def counted(tokens: NDArray[np.bool_], states: int) -> NDArray[np.integer]:
    """What follows where some tokens, bool[size], raise the state by one up to the last."""
    state = np.arange(states)[:, None]
    return np.where(tokens, np.minimum(state + 1, states - 1), state)


def only(tokens: NDArray[np.bool_]) -> Automaton:
    """Nothing but some tokens, bool[size], ever."""
    return tokens[None], np.zeros((1, SIZE), dtype=np.int64)
