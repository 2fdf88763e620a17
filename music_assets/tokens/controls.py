"""Controls: what a piece is like, measured from the piece itself, and shown or hidden in training."""

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.keys import estimate_key
from music_assets.tokens.vocabulary import (
    CLASS_EDGES,
    DURATIONS,
    POSITIONS_PER_BEAT,
    RANGES,
    SIZE,
    TEMPOS,
    TIME_SIGNATURES,
    Controls,
)

_NOTHING = Controls()._asdict()
_BAR = RANGES["Bar"].start
_TIME_SIGNATURE, _POSITION, _TEMPO, _PROGRAM, _PITCH, _VELOCITY, _DURATION = (
    RANGES[name] for name in ("TimeSig", "Position", "Tempo", "Program", "Pitch", "Velocity", "Duration")
)
_NUMERATORS, _DENOMINATORS = np.array(TIME_SIGNATURES).T
_BEAT = 4 / _DENOMINATORS  # in quarter notes


def controls(ids: NDArray[np.integer]) -> Controls:
    """The controls of a canonical document, uint16[n]; transposition changes none of them but the key.

    A document without bars has none. Nothing but the first bar need be there: part of a document has the controls of
    that part, but no tempo where it states none.
    """
    lines = np.flatnonzero(ids == _BAR)
    if not len(lines):
        return Controls()
    signature = ids[lines + 1].astype(np.int64) - _TIME_SIGNATURE.start
    starts = np.concatenate([[0], np.cumsum(_NUMERATORS[signature] * _BEAT[signature])])  # quarter notes; the end too
    counts = np.bincount(ids, minlength=SIZE)
    families = np.unique(np.flatnonzero(counts[_PROGRAM.start : _PROGRAM.stop]) // 8)
    return Controls(
        instruments=tuple(families.tolist()),
        tempo=_tempo(ids, lines, signature, starts),
        density=control_class("density", counts[_VELOCITY.start : _VELOCITY.stop].sum() / starts[-1]),
        bars=control_class("bars", len(lines)),
        key=_key(ids, lines, signature),
        time_signature=int(np.bincount(signature).argmax()),
    )


def control_class(name: str, value: float) -> int:
    """Class of a tempo, density or number of bars; a value on an edge belongs above it."""
    return int(np.searchsorted(CLASS_EDGES[name], value, side="right"))


def hide(whole: Controls, dropout: float, random: np.random.Generator) -> Controls:
    """The controls without some of them, each left out by a chance of its own."""
    left_out = random.random(len(whole)) < dropout
    return whole._replace(**{name: none for (name, none), gone in zip(_NOTHING.items(), left_out, strict=True) if gone})


def _key(ids: NDArray[np.integer], lines: NDArray[np.int64], signature: NDArray[np.int64]) -> int | None:
    """The estimated key of what is not drums; None where there is none."""
    places = np.flatnonzero((ids >= _PITCH.start) & (ids < _PITCH.stop))
    beat = _BEAT[signature[np.searchsorted(lines, places) - 1]]
    length = DURATIONS[ids[places + 2].astype(np.int64) - _DURATION.start] * beat  # a velocity lies between
    found = estimate_key(np.bincount((ids[places] - _PITCH.start) % 12, weights=length, minlength=12))
    return None if found is None else found[0]


def _tempo(
    ids: NDArray[np.integer], lines: NDArray[np.int64], signature: NDArray[np.int64], starts: NDArray[np.int64]
) -> int | None:
    """Class of quarter notes over minutes, from the first tempo on to the end of the last bar."""
    places = np.flatnonzero((ids >= _TEMPO.start) & (ids < _TEMPO.stop))
    if not len(places):
        return None
    tempo = TEMPOS[ids[places] - _TEMPO.start]
    bar = np.searchsorted(lines, places) - 1
    position = ids[places - 1].astype(np.int64) - _POSITION.start  # a tempo follows its position
    times = np.append(starts[bar] + position * _BEAT[signature[bar]] / POSITIONS_PER_BEAT, starts[-1])
    return control_class("tempo", (times[-1] - times[0]) / (np.diff(times) / tempo).sum())
