"""Confidence intervals by resampling whole song groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_weights(groups: Sequence[str], rounds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of n rows is drawn in each round, shape (rounds, n), when whole groups are drawn."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    draws = rng.integers(len(names), size=(rounds, len(names)))
    counts = np.zeros((rounds, len(names)))
    np.add.at(counts, (np.arange(rounds)[:, None], draws), 1)
    return counts[:, group]


def percentile_interval(value: float, resampled: NDArray[np.float64], confidence: float) -> Estimate:
    """Percentile interval of the resampled values that are defined; NaN bounds where none is."""
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):
        return Estimate(value, np.nan, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
