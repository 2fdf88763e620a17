"""Transposition as arithmetic on token ids."""

import os
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.errors import MusicAssetsError
from music_assets.tokens.vocabulary import RANGES

_PITCH = RANGES["Pitch"]
# Ids that are moved at a time: they, and what is computed of them, stay in the processor's cache.
_BLOCK = 1 << 16


class BadTranspositions(MusicAssetsError):
    """``MUSIC_ASSETS_TRANSPOSITIONS`` is no range around 0, or a transposition is not in it."""


def transposition_range(semitones: str) -> dict[str, int]:
    """Name -> semitones for a range such as ``-5..6``: down5, ..., down1, original, up1, ..., up6.

    Raises BadTranspositions unless it is a range of whole numbers from -127 to 127 that has 0 in it.
    """
    found = re.fullmatch(r"\s*(-?\d{1,3})\s*\.\.\s*\+?(-?\d{1,3})\s*", semitones)
    lowest, highest = (int(end) for end in found.groups()) if found else (1, 0)
    if not -len(_PITCH) < lowest <= 0 <= highest < len(_PITCH):
        raise BadTranspositions(
            f"MUSIC_ASSETS_TRANSPOSITIONS is {semitones!r}: give the lowest and the highest number of semitones, "
            "0 between them, such as -5..6."
        )
    return {_name(number): number for number in range(lowest, highest + 1)}


def _name(semitones: int) -> str:
    return f"down{-semitones}" if semitones < 0 else f"up{semitones}" if semitones else "original"


TRANSPOSITIONS = transposition_range(os.environ.get("MUSIC_ASSETS_TRANSPOSITIONS", "").strip() or "-5..6")
"""Name -> semitones of every transposition there is; by default they put a piece into every key once."""


def semitones_of(transposition: str) -> int:
    """What a name stands for. Raises BadTranspositions."""
    if transposition not in TRANSPOSITIONS:
        known = ", ".join(TRANSPOSITIONS)
        raise BadTranspositions(f"There is no transposition {transposition!r}; choose from {known}.")
    return TRANSPOSITIONS[transposition]


def transpose(ids: NDArray[np.integer], semitones: int) -> NDArray[np.uint16] | None:
    """Shift every Pitch id of a document, uint16[n] -> uint16[n]; drums stay.

    None if a pitch would leave MIDI's 0..127.
    """
    low, high = pitch_range(ids)
    if low + semitones < 0 or high + semitones >= len(_PITCH):
        return None
    return shift(ids, semitones)


def shift(ids: NDArray[np.integer], semitones: int) -> NDArray[np.uint16]:
    """Shift every Pitch id of any number of documents, of which the caller knows that they stay in range."""
    moved = np.empty(len(ids), np.uint16)
    for start in range(0, len(ids), _BLOCK):
        _shift(ids[start : start + _BLOCK], semitones, moved[start : start + _BLOCK])
    return moved


def shifted_blocks(ids: NDArray[np.integer], semitones: int) -> Iterator[NDArray[np.uint16]]:
    """What :func:`shift` gives, in parts that are valid until the next one is asked for."""
    moved = np.empty(min(len(ids), _BLOCK), np.uint16)
    for start in range(0, len(ids), _BLOCK):
        block = ids[start : start + _BLOCK]
        yield _shift(block, semitones, moved[: len(block)])


def _shift(ids: NDArray[np.integer], semitones: int, moved: NDArray[np.uint16]) -> NDArray[np.uint16]:
    # Unsigned numbers: what lies below the pitches wraps to large ones, and adding a negative shift wraps back.
    np.subtract(ids, np.uint16(_PITCH.start), out=moved)
    pitched = moved < len(_PITCH)
    np.multiply(pitched.view(np.uint8), np.uint16(semitones % 2**16), out=moved)
    return np.add(moved, ids, out=moved)


def pitch_range(ids: NDArray[np.integer]) -> tuple[int, int]:
    """Lowest and highest pitch of a document, drums left out; 127 and 0 if it has none."""
    pitches = ids[(ids >= _PITCH.start) & (ids < _PITCH.stop)]
    lowest = pitches.min(initial=_PITCH.stop - 1)
    return int(lowest) - _PITCH.start, int(pitches.max(initial=_PITCH.start)) - _PITCH.start
