"""The tempos and time signatures of a score, as every part of the product understands them."""

import numpy as np
from numpy.typing import NDArray
from symusic.core import ScoreTick


def tempo_changes(score: ScoreTick) -> NDArray[np.int64]:
    """Ticks, rising, and microseconds per quarter note, int64[2, n]. Of several at one tick the last counts.

    A tempo of zero is none: what was before it goes on.
    """
    events = score.tempos.numpy()
    return _in_order(events["time"], events["mspq"], real=events["mspq"] > 0)


def time_signature_changes(score: ScoreTick) -> NDArray[np.int64]:
    """Ticks, rising, numerators and denominators, int64[3, n]. Of several at one tick the last counts.

    One with a zero in it is none: what was before it goes on.
    """
    events = score.time_signatures.numpy()
    numerator, denominator = events["numerator"], events["denominator"]
    return _in_order(events["time"], numerator, denominator, real=(numerator > 0) & (denominator > 0))


def _in_order(*columns: NDArray[np.integer], real: NDArray[np.bool_]) -> NDArray[np.int64]:
    table = np.stack([column[real] for column in columns]).astype(np.int64)
    return table[:, np.argsort(table[0], kind="stable")]
