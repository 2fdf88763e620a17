"""What a candidate goes on from, and which part of it the network sees when its room is used up."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from music_assets.tokens.infill import cut
from music_assets.tokens.vocabulary import RANGES, Vocabulary

_BAR, _FILL = RANGES["Bar"].start, Vocabulary().fill


class Context(Protocol):
    """Ids before what is written. The network sees a prompt and a window of them and of what has been written."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """All ids before what is written; the memory of repeats reaches over them."""
        ...

    @property
    def bars_behind(self) -> int:
        """Bars that follow what is to be written."""
        ...

    def window(self, ids: NDArray[np.int64], room: int) -> NDArray[np.int64]:
        """Places in ``ids``, int64[n], that the network is to see.

        ``ids`` are the context's own and those written since. Of the ``room`` some is left for what comes.
        """
        ...


@dataclass(frozen=True)
class Passage:
    """Music that goes on from what is before it, if anything is."""

    ids: NDArray[np.int64]
    bars_behind: int = 0

    def window(self, ids: NDArray[np.int64], room: int) -> NDArray[np.int64]:
        """From the first bar line on of the last half of the room; as rows begin in training."""
        first = max(len(ids) - room // 2, 0)
        if first:
            lines = np.flatnonzero(ids[first:] == _BAR)
            first += int(lines[0]) if len(lines) else 0
        return np.arange(first, len(ids))


@dataclass(frozen=True)
class Gap:
    """Bars, or a program in them, that are taken out of a document, as :mod:`music_assets.tokens.infill` writes it."""

    ids: NDArray[np.int64]
    begin: int  # where the gap is in ``ids``, up to ``end``
    end: int
    bars_behind: int

    @classmethod
    def of(cls, document: NDArray[np.integer], first: int, bars: int, program: int | None = None) -> "Gap":
        """The gap of some bars. Raises BadInfill if the document has no such bars."""
        ids = cut(document, first, bars, program)
        ids = ids[: int(np.flatnonzero(ids == _FILL)[0]) + 1].astype(np.int64)
        lines = np.append(np.flatnonzero(document == _BAR), len(document))
        behind = len(document) - int(lines[first + bars])
        return cls(ids, int(lines[first]), len(ids) - 1 - behind, len(lines) - 1 - first - bars)

    def window(self, ids: NDArray[np.int64], room: int) -> NDArray[np.int64]:
        """The gap, what has been written of the filling, and as many bars before and behind the gap as fit."""
        room = 3 * room // 4
        fill = len(self.ids) - 1 + Passage(ids).window(ids[len(self.ids) - 1 :], room)
        gap = np.arange(self.begin, self.end)[-max(room - len(fill), 0) :]
        room -= len(gap) + len(fill)
        before = np.append(np.flatnonzero(ids[: self.begin] == _BAR), self.begin)[::-1]
        behind = np.append(self.end + np.flatnonzero(ids[self.end : len(self.ids) - 1] == _BAR), len(self.ids) - 1)
        first, last = 0, 0
        while True:
            earlier = before[first] - before[first + 1] if first + 1 < len(before) else room + 1
            later = behind[last + 1] - behind[last] if last + 1 < len(behind) else room + 1
            take_earlier = earlier <= room and (first <= last or later > room)
            if not take_earlier and later > room:
                break
            room -= earlier if take_earlier else later
            first, last = first + take_earlier, last + (not take_earlier)
        begin = int(before[first]) if len(gap) else self.begin
        return np.concatenate([np.arange(begin, self.begin), gap, np.arange(self.end, int(behind[last])), fill])
