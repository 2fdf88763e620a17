"""What followed the last time that the same ids stood here: music repeats itself, over longer stretches than a network
of this size can look back.

A network is told, for each id, which id came next after the latest earlier place with the same last 4, 8, 16 and 32
ids. It costs no attention, so a repeat is seen however long ago the original was. Compressors call this a match model.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from music_assets.tokens.vocabulary import Vocabulary

NO_CANDIDATE = Vocabulary().pad
"""Stands for no id: it is in no document."""
MATCH_LENGTHS = (4, 8, 16, 32)
"""How many ids must be the same: about one note to eight."""

FACTOR = 6364136223846793005
"""Knuth's, for hashes of runs of ids modulo 2**64."""


def are_match_lengths(lengths: Sequence[int]) -> bool:
    """Whether these are rising powers of two, or none."""
    return list(lengths) == sorted(set(lengths)) and all(n > 1 and n.bit_count() == 1 for n in lengths)


def repeat_candidates(
    ids: NDArray[np.integer], first: int = 0, match_lengths: Sequence[int] = MATCH_LENGTHS
) -> NDArray[np.int64]:
    """What followed the latest earlier occurrence of the last ids, int64[n - first, M], of ids [n] from ``first``, for
    each of M ``match_lengths``.

    NO_CANDIDATE where as many ids have not stood together before. The id at a place itself is one of the last
    ids; what comes after it is not looked at.
    """
    ids = np.asarray(ids, dtype=np.int64)
    found = np.full((len(ids) - first, len(match_lengths)), NO_CANDIDATE, dtype=np.int64)
    with np.errstate(over="ignore"):
        for column, (length, keys) in enumerate(_keys(ids, match_lengths)):
            begin = max(first - length + 1, 0)  # keys[i] is of ids[i : i + length], which end at i + length - 1
            last = _last_equal(keys, begin)
            places = np.arange(begin, len(keys))[last >= 0]
            found[places + length - 1 - first, column] = ids[last[last >= 0] + length]
    return found


def _keys(ids: NDArray[np.integer], match_lengths: Sequence[int]) -> Iterator[tuple[int, NDArray[np.integer]]]:
    """Every length with the hashes of all runs of so many ids, int64[n - length + 1]; empty where ids are fewer."""
    keys, length, factor = ids + 1, 1, np.int64(FACTOR)
    while length < max(match_lengths, default=0):
        keys = keys[:-length] * factor + keys[length:] if len(keys) > length else keys[:0]
        length, factor = 2 * length, factor * factor
        if length in match_lengths:
            yield length, keys


def _last_equal(keys: NDArray[np.integer], first: int) -> NDArray[np.int64]:
    """For each key from ``first`` on the latest earlier place with the same one, or -1, int64[n - first]."""
    asked = keys[first:]
    order = np.argsort(asked, kind="stable")
    ordered = asked[order]
    same = ordered[1:] == ordered[:-1]
    last = np.full(len(asked), -1)
    last[order[1:][same]] = order[:-1][same] + first
    if first and len(asked):
        # Most of the keys before are of no interest: a table of 16 bits of a hash tells which may be.
        table = np.zeros(1 << 16, dtype=bool)
        table[asked & 0xFFFF] = True
        places = np.flatnonzero(table[keys[:first] & 0xFFFF])
        wanted = np.searchsorted(ordered, keys[places]).clip(max=len(ordered) - 1)
        hit = ordered[wanted] == keys[places]
        before = np.full(len(asked), -1)  # by rank among the asked ones, the first of equal ones
        before[wanted[hit]] = places[hit]  # places rise, and the last one stays
        ranked = before[np.searchsorted(ordered, ordered)]
        of_asked = np.empty_like(ranked)
        of_asked[order] = ranked
        last = np.where(last >= 0, last, of_asked)
    return last
