"""How far generated music lies from real music, feature by feature, and how far real lies from real."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from music_assets.evaluation.arrays import Floats
from music_assets.evaluation.features import FeatureTable
from music_assets.evaluation.resampling import Estimate, bootstrap_weights, percentile_interval
from music_assets.evaluation.settings import EvaluationSettings

JENSEN_SHANNON, WASSERSTEIN = "Jensen-Shannon", "Wasserstein"
DENSITY_POINTS = 512


@dataclass(frozen=True)
class Distance:
    """One feature of one genre, generated against real.

    ``distance`` is the Jensen-Shannon divergence in bits (0 to 1) of a histogram, or the Wasserstein
    distance of a scalar in the feature's own unit. ``floor`` is the same distance between two disjoint
    sets of real pieces: its median and the middle share of its draws. ``overlap`` is the overlapped area,
    0 to 1. ``real`` and ``generated`` count the excerpts for which the feature is defined.
    """

    genre: str
    feature: str
    measure: str
    distance: Estimate
    floor: Estimate
    overlap: float
    real: int
    generated: int

    @property
    def is_beyond_floor(self) -> bool:
        """Whether the whole interval lies above what real pieces differ by among themselves."""
        return self.distance.low > self.floor.high


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> Floats:
    """Jensen-Shannon divergence of histograms along the last axis, in bits: 0 for equal, 1 for disjoint ones.

    The divergence itself, not its square root. Counts are normalised; NaN where one histogram is all zero.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [side / side.sum(axis=-1, keepdims=True) for side in (np.asarray(p, float), np.asarray(q, float))]
        middle = (shares[0] + shares[1]) / 2
        bits = [np.where(side > 0, side * np.log2(side / middle), 0).sum(axis=-1) for side in shares]
    return np.where(np.isnan(middle).any(axis=-1), np.nan, np.clip((bits[0] + bits[1]) / 2, 0, 1))


def wasserstein(values: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """Wasserstein-1 distance between two weightings of the same n ``values``: ∫ |F − G| dx.

    ``first`` and ``second`` have shape (..., n); the result (...). NaN where one weighting is all zero.
    """
    values = np.asarray(values, np.float64)
    order = np.argsort(values)
    gaps = np.diff(values[order])
    weights = [np.asarray(side, np.float64)[..., order] for side in (first, second)]
    totals = [side.sum(axis=-1, keepdims=True) for side in weights]
    with np.errstate(invalid="ignore", divide="ignore"):
        f, g = (np.cumsum(side, axis=-1) / total for side, total in zip(weights, totals, strict=True))
    distance = (np.abs(f - g)[..., :-1] * gaps).sum(axis=-1)
    return np.where((totals[0] * totals[1])[..., 0] > 0, distance, np.nan)


def overlapped_area(x: ArrayLike, y: ArrayLike) -> float:
    """∫ min(f, g) of Gaussian kernel densities of two samples, both on one grid, 0 to 1 (Yang and Lerch,
    2020).

    Both have the bandwidth that Scott's rule gives the smaller one, at least a hundredth of the common
    range so that a constant sample has a density; 1 where all values are equal; NaN where one sample is
    empty. NaN values are left out.
    """
    samples = [side[np.isfinite(side)] for side in (np.asarray(x, float), np.asarray(y, float))]
    fewest, pooled = min(len(side) for side in samples), np.concatenate(samples)
    if fewest == 0:
        return np.nan
    if np.ptp(pooled) == 0:
        return 1.0
    width = max(1.06 * pooled.std() * fewest**-0.2, np.ptp(pooled) / 100)
    grid = np.linspace(pooled.min() - 4 * width, pooled.max() + 4 * width, DENSITY_POINTS)
    f, g = (np.exp(-0.5 * ((grid[:, None] - side) / width) ** 2).mean(axis=1) for side in samples)
    return float(np.minimum(f, g).sum() * (grid[1] - grid[0]) / (width * np.sqrt(2 * np.pi)))


def feature_distances(
    genre: str,
    real: FeatureTable,
    real_groups: Sequence[str],
    generated: FeatureTable,
    settings: EvaluationSettings,
) -> list[Distance]:
    """Every feature's distance for one genre; ``real_groups`` names the song group of each real excerpt.

    The interval resamples song groups and samples. Resampling adds a distance of its own, so the interval is
    shifted back by the mean excess and cut at 0. The floor halves the real song groups at random into two
    sets; the first is no larger than the generated set, because small sets lie further apart. Excerpts in
    which a feature is undefined are left out of that feature.
    """
    rng = np.random.default_rng(settings.seed)
    n, m = len(real), len(generated)
    drawn = np.hstack(
        [
            bootstrap_weights(real_groups, settings.bootstrap_rounds, rng),
            bootstrap_weights([str(i) for i in range(m)], settings.bootstrap_rounds, rng),
        ]
    )
    halves = _halves(real_groups, m, settings.floor_rounds, rng)
    is_real = np.arange(n + m) < n
    found = []
    for name, values in real.scalars.items():
        pooled = np.concatenate([values, generated.scalars[name]])
        found.append((name, WASSERSTEIN, pooled, np.isfinite(pooled)))
    for name, rows in real.histograms.items():
        pooled = np.concatenate([rows, generated.histograms[name]])
        found.append((name, JENSEN_SHANNON, pooled, pooled.sum(axis=1) > 0))

    distances = []
    for name, measure, pooled, defined in found:
        x, y = pooled[defined & is_real], pooled[defined & ~is_real]
        value = _distance(measure, pooled, is_real * defined, ~is_real * defined)[()]
        resampled = _distance(measure, pooled, drawn * (is_real & defined), drawn * (~is_real & defined))
        if np.isfinite(resampled).any():
            resampled = np.maximum(resampled - (np.nanmean(resampled) - value), 0)
        floors = _distance(measure, pooled[:n], halves * defined[:n], ~halves * defined[:n])
        overlap = (
            overlapped_area(x, y)
            if measure == WASSERSTEIN
            else float(np.minimum(x.mean(axis=0), y.mean(axis=0)).sum())
            if len(x) and len(y)
            else np.nan
        )
        floor = float(np.nanmedian(floors)) if np.isfinite(floors).any() else np.nan
        distances.append(
            Distance(
                genre,
                name,
                measure,
                percentile_interval(float(value), resampled, settings.confidence),
                percentile_interval(floor, floors, settings.confidence),
                overlap,
                len(x),
                len(y),
            )
        )
    return distances


def _distance(measure: str, pooled: Floats, first: ArrayLike, second: ArrayLike) -> Floats:
    """Distances between weightings (..., n) of pooled scalars (n,) or histograms (n, bins)."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if measure == WASSERSTEIN:
        defined = np.isfinite(pooled)
        return wasserstein(pooled[defined], first[..., defined], second[..., defined])
    return jensen_shannon(first @ pooled, second @ pooled)


def _halves(groups: Sequence[str], most: int, rounds: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Masks (rounds, n): whole groups drawn at random until they hold min(``most``, n / 2) rows."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(group, minlength=len(names))
    wanted = min(most, len(group) // 2)
    masks = np.zeros((rounds, len(group)), bool)
    for mask in masks:
        order = rng.permutation(len(names))
        before = np.cumsum(sizes[order]) - sizes[order]
        mask[:] = np.isin(group, order[before < wanted])
    return masks
