# numba has no types
# pyright: standard
"""The :mod:`music_assets.tokens.repeats` of a piece that grows, compiled: each id is read once."""

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from music_assets.tokens.repeats import FACTOR, NO_CANDIDATE

_INTS, _TABLE = types.int64[::1], types.int64[:, ::1]
_SMALLEST = 1024


class RepeatMemory:
    """Ids so far and what followed the latest earlier occurrence of the last ids at each place.

    ``candidates`` int64[n, M] are :func:`music_assets.tokens.repeats.repeat_candidates` of ``ids`` int64[n].
    """

    def __init__(self, match_lengths: tuple[int, ...], ids: NDArray[np.integer] | None = None) -> None:
        self._lengths = np.array(match_lengths, dtype=np.int64)
        self._read = 0
        self._make_room(_SMALLEST)
        if ids is not None:
            self.extend(ids)

    @property
    def ids(self) -> NDArray[np.int64]:
        """All ids so far."""
        return self._ids[: self._read]

    @property
    def candidates(self) -> NDArray[np.int64]:
        """What the network is told at each of them."""
        return self._candidates[: self._read]

    def __len__(self) -> int:
        return self._read

    def extend(self, ids: NDArray[np.integer]) -> None:
        """More ids, int[n]."""
        if self._read + len(ids) > len(self._ids):
            self._make_room(2 * (self._read + len(ids)))
        self._ids[self._read : self._read + len(ids)] = ids
        self._remember(self._read, self._read + len(ids))

    def copy(self) -> "RepeatMemory":
        """One that goes on by itself."""
        other = RepeatMemory(tuple(self._lengths.tolist()))
        other._read = self._read
        other._ids, other._candidates, other._hashes, other._places = (
            array.copy() for array in (self._ids, self._candidates, self._hashes, self._places)
        )
        return other

    def _make_room(self, room: int) -> None:
        ids = self._ids[: self._read] if self._read else np.empty(0, np.int64)
        columns = len(self._lengths)
        slots = 1 << (2 * room).bit_length()
        self._ids = np.zeros(room, np.int64)
        self._candidates = np.full((room, columns), NO_CANDIDATE, dtype=np.int64)
        self._hashes, self._places = np.zeros((columns, slots), np.int64), np.full((columns, slots), -1, np.int64)
        self._ids[: len(ids)] = ids
        self._remember(0, len(ids))

    def _remember(self, start: int, stop: int) -> None:
        remember(self._ids, start, stop, self._lengths, self._candidates, self._hashes, self._places)
        self._read = stop


@njit(types.void(_INTS, types.int64, types.int64, _INTS, _TABLE, _TABLE, _TABLE), cache=True, nogil=True)
def remember(ids, start, stop, lengths, candidates, hashes, places):
    """Read the ids from ``start`` to ``stop``: write their candidates, and where each run of ids was last.

    ``hashes`` and ``places`` int64[M, slots] are a table a length, open addressing, a place of -1 where nothing is;
    runs are the same if their hashes modulo 2**64 are.
    """
    mask = hashes.shape[1] - 1
    for column in range(len(lengths)):
        length = lengths[column]
        for end in range(max(start, length - 1), stop):
            key = np.int64(0)
            for i in range(end - length + 1, end + 1):
                key = key * FACTOR + ids[i] + 1
            slot = (key ^ (key >> 32)) & mask
            while places[column, slot] >= 0 and hashes[column, slot] != key:
                slot = (slot + 1) & mask
            if places[column, slot] >= 0:
                candidates[end, column] = ids[places[column, slot] + 1]
            hashes[column, slot], places[column, slot] = key, end
