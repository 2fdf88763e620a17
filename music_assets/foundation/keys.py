"""Keys and scales: their names, their pitch classes, and the key that notes are most likely in."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAJOR = ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]
_MINOR = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"]
KEYS = tuple([f"{tonic} major" for tonic in _MAJOR] + [f"{tonic} minor" for tonic in _MINOR])
"""The keys of the chromatic scale from C upwards, first the major ones."""
# How well each pitch class, from the tonic upwards, fits a major and a minor key: the probe-tone ratings of Krumhansl
# and Kessler, in C. Krumhansl, Cognitive Foundations of Musical Pitch (1990), chapter 2.
_MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "chromatic": tuple(range(12)),
}
"""Name -> pitch classes above the tonic, in semitones."""
_MINOR_SCALES = {"minor", "harmonic minor", "melodic minor", "minor pentatonic"}
_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "b": -1, "♯": 1, "♭": -1}


class Key(NamedTuple):
    """A tonic and a scale on it."""

    tonic: int  # pitch class, C being 0
    scale: str  # of ``SCALES``

    @property
    def pitch_classes(self) -> frozenset[int]:
        """Pitch classes of the scale."""
        return frozenset((self.tonic + step) % 12 for step in SCALES[self.scale])

    @property
    def number(self) -> int | None:
        """Its place in ``KEYS``; None of a scale that is neither major nor minor."""
        if self.scale in _MINOR_SCALES:
            return 12 + self.tonic
        return self.tonic if self.scale in ("major", "pentatonic") else None


def parse_key(text: str) -> Key:
    """A key by its name: ``C minor``, ``f# dorian``, ``Eb``. Raises ValueError, whose sentence says what can be had."""
    tonic, _, scale = text.strip().partition(" ")
    natural, accidental = tonic[:1].upper(), tonic[1:]
    scale = " ".join(scale.lower().split()) or "major"
    if natural not in _NATURALS or accidental not in _ACCIDENTALS or scale not in SCALES:
        raise ValueError(
            f"{text!r} is no key: name a tonic, such as C, F# or Bb, and one of the scales {', '.join(SCALES)}"
        )
    return Key((_NATURALS[natural] + _ACCIDENTALS[accidental]) % 12, scale)


def estimate_key(sounding: NDArray[Any]) -> tuple[int, float] | None:
    """The index in ``KEYS`` of the key that fits best, and its lead, of how long each pitch class sounds, float[12].

    It is the one whose Krumhansl-Kessler profile correlates best with them; its lead is its correlation less that of
    the next best one, 0 to 2. None where all pitch classes sound equally long or nothing sounds.
    """
    if (sounding == sounding[0]).all():
        return None
    # rounded, so that a tie is one on every processor; the first of KEYS wins it
    correlations = (PROFILES @ _standardised(sounding)).round(9)
    next_best, best = np.sort(correlations)[-2:]
    return int(correlations.argmax()), float(best - next_best)


def _standardised(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Each row with mean 0 and length 1, so that the dot product of two is their correlation."""
    centred = rows - rows.mean(axis=-1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=-1, keepdims=True)


PROFILES = _standardised(
    np.array([np.roll(profile, tonic) for profile in (_MAJOR_PROFILE, _MINOR_PROFILE) for tonic in range(12)])
)
"""How well each pitch class fits each of ``KEYS``, float64[24, 12]: a row has mean 0 and length 1."""
