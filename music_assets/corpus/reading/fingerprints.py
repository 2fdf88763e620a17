"""A sketch of a score that transposing, another tempo, a lost track or a lost intro leave nearly as it was.

**Shingles.** In every track that is not of drums, notes that begin together (a rolled chord and a strum count as
together) are reduced to the highest one, and repetitions of a pitch to one. Of the line that is left every run of
``INTERVALS`` pitch intervals is a shingle, unless it repeats itself with a period of at most four: trills, scales in
equal steps and broken chords say nothing of a piece. Intervals do not know the key, and a run does not know when it
is played, how fast, how loud or by which instrument. Two pieces are as similar as the Jaccard index of their sets of
shingles says: common ones divided by all.

**Sketch.** One-permutation MinHash (Li, Owen and Zhang 2012): a hash sends every shingle into one of ``VALUES`` bins,
and of the smallest hash in a bin the lowest 16 bits are kept (Li and König 2010). A bin that no shingle has reached
takes over the value of another one, the first that has a value in an order fixed for the bin (Shrivastava 2017), so
that two sketches agree in a bin with the probability that is their Jaccard index (Broder 1997).

The choices were measured on 3,437 files and edited copies of them. Of copies whose onsets moved by 8 ms 0.97 are found;
0.87 if the shingles hold ratios of inter-onset intervals too, and 0.31 if only notes of the very same tick are a chord.
The most similar pair of unrelated pieces has 0.15; with 8 intervals 0.22, with 12 intervals 0.12, which loses 0.02 of
the copies whose onsets moved by 15 ms. Leaving out periodic runs makes unrelated pieces three times less similar on
average. What a fingerprint does see are tracks of one instrument that were merged into one.
"""

import numpy as np
from numpy.typing import NDArray
from symusic.core import ScoreTick, TrackTick

from music_assets.foundation.hashing import scatter

INTERVALS = 10
"""Successive intervals in a shingle."""
MINIMUM_SHINGLES = 12
"""A score with fewer different shingles has no fingerprint."""
VALUES = 256
"""Bins of the sketch, 16 bits each."""
WORDS = VALUES // 2
"""Words of a fingerprint: two bins in each."""

_BASE = np.uint64(0x9E3779B97F4A7C15)


_INTERVAL_HASHES = scatter(np.arange(1, 256, dtype=np.uint64))
_DONORS = np.argsort(scatter(np.arange(VALUES * VALUES, dtype=np.uint64)).reshape(VALUES, VALUES), axis=1)
"""For every bin the order in which an empty one asks the others."""


def fingerprint(score: ScoreTick) -> NDArray[np.uint32]:
    """The sketch of a score: ``WORDS`` numbers, or none if it has too few shingles to be known again by them.

    The same for a transposed score, for other tempo events, velocities and instruments, and for a score with all
    times multiplied by one integer. Compare two by :func:`similarity`.
    """
    return sketch(shingles(score))


def shingles(score: ScoreTick) -> NDArray[np.uint64]:
    """Hashes of the score's different shingles, rising; none if they are fewer than ``MINIMUM_SHINGLES``.

    Drums are read like a melody where the other tracks give too few.
    """
    tracks = [track for track in score.tracks if len(track.notes)]
    found = _shingles([track for track in tracks if not track.is_drum])
    if len(found) < MINIMUM_SHINGLES:
        found = np.union1d(found, _shingles([track for track in tracks if track.is_drum]))
    return found if len(found) >= MINIMUM_SHINGLES else found[:0]


def sketch(shingles: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The fingerprint of rising 64-bit hashes: ``WORDS`` numbers, bins 2i and 2i + 1 in word i; none for none."""
    if not len(shingles):
        return np.empty(0, np.uint32)
    bins = (shingles >> np.uint64(56)).astype(np.intp)
    first = np.flatnonzero(np.append(True, bins[1:] != bins[:-1]))
    values = np.zeros(VALUES, "<u2")
    values[bins[first]] = (shingles[first] & np.uint64(0xFFFF)).astype("<u2")
    filled = np.zeros(VALUES, bool)
    filled[bins[first]] = True
    empty = np.flatnonzero(~filled)
    donors = _DONORS[empty]
    values[empty] = values[donors[np.arange(len(empty)), filled[donors].argmax(axis=1)]]
    return values.view("<u4").astype(np.uint32, copy=False)


def similarity(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    """Estimated Jaccard index J of two scores' shingles, 0..1: the share of bins that agree.

    Unbiased but for accidents of one in 65,536 a bin. The standard error is sqrt(J (1 - J) / ``VALUES``), 0.027 at
    J = 0.25, and up to a quarter more for less than a hundred shingles. Zero if one has no fingerprint.
    """
    if not len(left) or not len(right):
        return 0.0
    return float((left.view("<u2") == right.view("<u2")).mean())


def _shingles(tracks: list[TrackTick]) -> NDArray[np.uint64]:
    """Rising hashes of the different shingles of tracks, each with at least one note."""
    if not tracks:
        return np.empty(0, np.uint64)
    pitch, track = _lines(tracks)
    interval = np.diff(pitch)
    windows = len(interval) - INTERVALS + 1
    if windows < 1:
        return np.empty(0, np.uint64)
    hashes = _INTERVAL_HASHES[interval + 127]
    run = np.zeros(windows, np.uint64)
    for step in range(INTERVALS):
        run = run * _BASE + hashes[step : step + windows]
    kept = track[:-INTERVALS] == track[INTERVALS:]
    for period in (3, 4):  # a period of 1 or 2 is one of 4 too
        kept &= ~_periodic(interval, period)
    return np.unique(scatter(run[kept]))


def _lines(tracks: list[TrackTick]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pitches of the upper line of every track, without repetitions, one track after the other; and the tracks.

    A note joins the one before if it begins at most a quarter of the track's mean duration and three quarters of its
    mean distance of onsets later: multiples of both hold for scaled times too.
    """
    columns = [track.notes.numpy() for track in tracks]
    onset, duration, pitch = (
        np.concatenate([column[name] for column in columns], dtype=np.int64) for name in ("time", "duration", "pitch")
    )
    counts = np.array([len(column["time"]) for column in columns])
    # 33 bits for 32 of time: the step to another track is longer than any within one
    key = np.sort((np.repeat(np.arange(len(tracks)), counts) << 40) + (onset - onset.min() << 7) + pitch)
    time, pitch = key >> 7, key & 127
    ends = np.cumsum(counts)
    starts = ends - counts
    span = time[ends - 1] - time[starts]
    together = np.minimum(
        np.add.reduceat(duration, starts) // (4 * counts), 3 * span // (4 * np.maximum(counts - 1, 1))
    )
    heads = np.flatnonzero(np.append(True, np.diff(time) > np.repeat(together, counts)[1:]))
    line = (key[heads] >> 40 << 7) + np.maximum.reduceat(pitch, heads)
    line = line[np.append(True, line[1:] != line[:-1])]
    return line & 127, line >> 7


def _periodic(interval: NDArray[np.int64], period: int) -> NDArray[np.bool_]:
    """Whether the ``INTERVALS`` intervals from each on repeat those ``period`` before."""
    repeats = np.concatenate([[0], np.cumsum(interval[period:] == interval[:-period])])
    length = INTERVALS - period
    return repeats[length:] - repeats[:-length] == length
