"""Transposition as arithmetic on token ids."""

import numpy as np

from music_assets.tokens.vocabulary import RANGES, SIZE

# Name -> semitones; together they put a piece into every key once.
TRANSPOSITIONS = {
    **{f"down{n}": -n for n in range(5, 0, -1)},
    "original": 0,
    **{f"up{n}": n for n in range(1, 7)},
}
_PITCH = RANGES["Pitch"]


def transpose(ids: np.ndarray, semitones: int) -> np.ndarray | None:
    """Shift every Pitch id of a document, uint16[n] -> uint16[n]; drums stay.

    None if a pitch would leave MIDI's 0..127.
    """
    low, high = pitch_extremes(ids, np.array([0, len(ids)]))
    if low[0] + semitones < 0 or high[0] + semitones >= len(_PITCH):
        return None
    return shift(ids, semitones)


def shift(ids: np.ndarray, semitones: int) -> np.ndarray:
    """Shift every Pitch id of any number of documents, of which the caller knows that they stay in range."""
    table = np.arange(SIZE, dtype=np.uint16)
    table[_PITCH.start : _PITCH.stop] += np.uint16(semitones % 2**16)  # unsigned: wraps to subtract
    return table[ids]


def pitch_extremes(ids: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest pitch of each document ``ids[offsets[i]:offsets[i + 1]]``, drums left out.

    Documents without a pitched note have 64 and 64, which every transposition keeps in range. int64[n] each.
    """
    places = np.flatnonzero((ids >= _PITCH.start) & (ids < _PITCH.stop))
    pitches = ids[places].astype(np.int64) - _PITCH.start
    bounds = np.searchsorted(places, offsets)
    pitched = bounds[:-1] < bounds[1:]
    low = np.full(len(offsets) - 1, 64)
    high = low.copy()
    if pitched.any():
        low[pitched] = np.minimum.reduceat(pitches, bounds[:-1][pitched])
        high[pitched] = np.maximum.reduceat(pitches, bounds[:-1][pitched])
    return low, high
