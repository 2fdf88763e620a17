"""Confidence intervals by resampling whole song groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


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


def resampled_mean(values: Sequence[float], weights: NDArray[np.float64], confidence: float) -> Estimate:
    """The mean of n values, those left out that are not defined, with its interval over :func:`bootstrap_weights`
    (rounds, n); NaN where none is defined."""
    of = np.asarray(values, np.float64)
    defined = np.isfinite(of)
    if not defined.any():
        return Estimate(np.nan, np.nan, np.nan)
    with np.errstate(invalid="ignore"):
        resampled = weights[:, defined] @ of[defined] / weights[:, defined].sum(axis=1)
    return percentile_interval(float(of[defined].mean()), resampled, confidence)


def proportion(hits: NDArray[np.bool_], confidence: float) -> Estimate:
    """The share of n independent ones that are hits, n > 0, with its Wilson interval."""
    bounds = binomtest(int(hits.sum()), len(hits)).proportion_ci(confidence, method="wilson")
    return Estimate(float(hits.mean()), float(bounds.low), float(bounds.high))
