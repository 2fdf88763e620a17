"""Which pieces are the same music in another dress, and whether a split has torn such pieces apart.

Candidates by locality-sensitive hashing: two pieces that agree in any one of their fingerprints' words, which is two
bins, are looked at. Pieces of similarity J agree in a word with probability J², in at least one with
1 - (1 - J²)^``WORDS``: 99.97% at ``THRESHOLD``. Each is then verified by all bins.

Leaks are searched without words or buckets: for every held-out piece all bins that agree with those of any training
piece are counted.

Measured on 3,437 files of 20 genres by ``python -m benchmarks.duplicates``. Recall: of the copies of 573 of them,
edited as said, how many came into the cluster of their original.

| edit | recall | edit | recall |
|---|---|---|---|
| transposed by 1 to 6 | 0.995 | first 10% cut | 0.991 |
| other tempo or velocities | 0.995 | first 25% cut | 0.981 |
| ticks doubled or halved | 0.995 | onsets moved by 3 ms | 0.984 |
| ticks times 3/4 | 0.990 | onsets moved by 8 ms | 0.976 |
| resampled to 96 to 1,000 a quarter | 0.995 | onsets moved by 15 ms | 0.932 |
| a melodic track dropped | 0.958 | track dropped, transposed, resampled, 15% cut, 5 ms | 0.930 |
| first 4, 8 or 16 bars cut | 0.993 | tracks of one instrument merged | 0.813 |

Of the files 0.5% have no fingerprint and are lost to all edits. Precision: the 36 pairs that were joined are all the
same music by title and notes (at least 0.90 with 95% confidence), some of them under another artist's name. Of 37 pairs
of versions of a song by one name 0.19 are joined: most are other arrangements. Split by file 1.7% of the test pieces
leak, by name of the song 1.6%, by cluster none; at a threshold of 0.15 instead, by cluster 0.6%.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from music_assets.corpus.reading.fingerprints import VALUES, WORDS
from music_assets.foundation.errors import MusicAssetsError

THRESHOLD = 0.25
"""Pieces of this estimated similarity are near-duplicates."""

_NEIGHBOURS = 8
"""Members of a bucket that each member is compared with."""
_PAIRS_AT_ONCE = 1 << 14
_ROWS_AT_ONCE = 1 << 12
_MATCHES_AT_ONCE = 1 << 22
_BIN_VALUES = 1 << 16


class BadFingerprints(MusicAssetsError):
    """Fingerprints of another layout than :mod:`music_assets.corpus.reading.fingerprints` makes."""


@dataclass(frozen=True)
class Leak:
    """Held-out pieces that have a near-duplicate in training."""

    pieces: int
    """Pieces of the split."""
    unknown: int
    """Those without a fingerprint: nobody can say."""
    leaking: int
    share: float
    """``leaking`` of ``pieces``, 0..1; 0 where there are no pieces."""
    examples: pl.DataFrame
    """One row a leaking piece: ``piece_id``, ``train_piece_id`` (the most similar one), ``similarity``; the worst
    first."""


def near_duplicates(pieces: pl.DataFrame, *, threshold: float = THRESHOLD) -> pl.DataFrame:
    """``piece_id`` and ``cluster``, one row a piece, sorted: the connected components of the near-duplicates.

    ``pieces`` has one row a piece, in any order: ``piece_id`` (string), ``fingerprint`` (list of u32). ``cluster`` is
    the smallest ``piece_id`` in it; a piece without a fingerprint (null or empty) is alone. Time and memory grow with
    the number of pieces, however many copies each has: of a bucket each member is compared with the next
    ``_NEIGHBOURS`` and no others, and pieces that are in one cluster already are not compared. Raises
    :class:`BadFingerprints`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    known, words = _words(pieces)
    bins = words.view("<u2")
    component = np.arange(len(words))
    for word in range(WORDS):
        left, right = bucket_pairs(words[:, word])
        apart = component[left] != component[right]
        left, right = left[apart], right[apart]
        alike = _similarities(bins, left, right) >= threshold
        if alike.any():
            ends = component[left[alike]], component[right[alike]]
            links = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(len(words), len(words)))
            component = connected_components(links, directed=False)[1][component]
    clusters = known.to_frame().with_columns(pl.Series("component", component))
    clusters = clusters.select("piece_id", cluster=pl.col("piece_id").min().over("component"))
    everyone = pieces.select("piece_id").join(clusters, on="piece_id", how="left")
    return everyone.with_columns(pl.col("cluster").fill_null(pl.col("piece_id"))).sort("piece_id")


def residual_leak(pieces: pl.DataFrame, *, split: str = "test", threshold: float = THRESHOLD) -> Leak:
    """The pieces of ``split`` that have a training piece of at least ``threshold`` similarity.

    ``pieces`` has ``piece_id``, ``split`` and ``fingerprint`` (list of u32, null or empty for none); only rows of
    ``split`` and of train count. Every pair that agrees in any bin is counted, so that nothing is missed. Memory grows
    with the number of pieces; time also with the number of bins that agree, about 40 ns each. Raises
    :class:`BadFingerprints`.
    """
    held, held_words = _words(pieces.filter(pl.col("split") == split))
    train, train_words = _words(pieces.filter(pl.col("split") == "train"))
    count = int((pieces["split"] == split).sum())
    # a pair's rank: more bins first, then the smaller piece_id
    best = np.zeros(len(held), np.int64)
    for held_row, train_row, agreeing in _agreeing_bins(held_words.view("<u2"), train_words.view("<u2")):
        enough = agreeing >= threshold * VALUES
        rank = agreeing[enough] * len(train) + (len(train) - 1 - train_row[enough])
        np.maximum.at(best, held_row[enough], rank)
    leaking = np.flatnonzero(best)
    agreeing, rest = np.divmod(best[leaking], max(len(train), 1))
    examples = pl.DataFrame(
        {
            "piece_id": held.gather(leaking),
            "train_piece_id": train.gather(len(train) - 1 - rest),
            "similarity": agreeing / VALUES,
        },
        schema={"piece_id": pl.String, "train_piece_id": pl.String, "similarity": pl.Float64},
    )
    return Leak(
        pieces=count,
        unknown=count - len(held),
        leaking=len(leaking),
        share=len(leaking) / count if count else 0.0,
        examples=examples.sort("similarity", "piece_id", descending=[True, False]),
    )


def bucket_pairs(keys: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows with the same key, as pairs: each row with the next ``_NEIGHBOURS`` of its key, in order of rows."""
    order = np.sort((keys.astype(np.int64) << 32) + np.arange(len(keys)))
    key, row = order >> 32, order & 0xFFFFFFFF
    lefts, rights = [row[:0]], [row[:0]]
    for distance in range(1, _NEIGHBOURS + 1):
        same = np.flatnonzero(key[distance:] == key[:-distance])
        lefts.append(row[same])
        rights.append(row[same + distance])
    return np.concatenate(lefts), np.concatenate(rights)


def _words(pieces: pl.DataFrame) -> tuple[pl.Series, NDArray[np.uint32]]:
    """Ids of the pieces with a fingerprint, rising, and their fingerprints, one a row."""
    known = pieces.select("piece_id", "fingerprint").filter(pl.col("fingerprint").list.len() > 0).sort("piece_id")
    wrong = known.filter(pl.col("fingerprint").list.len() != WORDS)
    if len(wrong):
        raise BadFingerprints(
            f"The fingerprint of piece {wrong['piece_id'][0]} has {len(wrong['fingerprint'][0])} words and not {WORDS}:"
            " scan the files again."
        )
    words = known["fingerprint"].explode().to_numpy().astype("<u4", copy=False)
    return known["piece_id"], words.reshape(len(known), WORDS)


def _similarities(bins: NDArray[np.uint16], left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.float64]:
    """:func:`music_assets.corpus.reading.fingerprints.similarity` of pairs of rows."""
    similarities = np.empty(len(left))
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        similarities[some] = np.count_nonzero(bins[left[some]] == bins[right[some]], axis=1) / VALUES
    return similarities


def _agreeing_bins(
    held: NDArray[np.uint16], train: NDArray[np.uint16]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Row of ``held``, row of ``train`` and number of bins that agree, each pair with at least one once.

    An inverted index over the bins of ``held``; ``train`` goes through it in parts whose matches fit into memory.
    """
    slot = np.arange(VALUES) * _BIN_VALUES
    keys = (held + slot).ravel()
    rows_by_key = np.argsort(keys, kind="stable") // VALUES
    indexed, counts = np.unique(keys, return_counts=True)
    begins = np.cumsum(counts) - counts
    present = np.zeros(VALUES * _BIN_VALUES, bool)
    present[indexed] = True
    for start in range(0, len(train), _ROWS_AT_ONCE):
        keys = (train[start : start + _ROWS_AT_ONCE] + slot).ravel()
        hit = np.flatnonzero(present[keys])
        entry = np.searchsorted(indexed, keys[hit])
        train_row = start + hit // VALUES
        for some in _portions(train_row, counts[entry]):
            count = counts[entry[some]]
            position = np.repeat(begins[entry[some]] - np.cumsum(count) + count, count) + np.arange(count.sum())
            pairs = np.repeat(train_row[some], count) * len(held) + rows_by_key[position]
            pair, agreeing = np.unique(pairs, return_counts=True)
            yield pair % len(held), pair // len(held), agreeing


def _portions(row: NDArray[np.intp], count: NDArray[np.intp]) -> Iterator[slice]:
    """Slices of entries, whole rows each, that count up to ``_MATCHES_AT_ONCE`` and what one row has more."""
    before = np.cumsum(count) - count
    portion = before[np.searchsorted(row, row)] // _MATCHES_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(row)]
    return (slice(*edge) for edge in pairwise(edges) if edge[0] < edge[1])
