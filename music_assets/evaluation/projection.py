"""Excerpts as points in a plane, for a picture of how genres and models lie to each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from music_assets.evaluation.features import FeatureTable

LEAST_PROJECTED = 3


@dataclass(frozen=True)
class Projection:
    """Points float64[n, 2] of real and generated excerpts, and the share of the real variance on each
    axis.
    """

    real: NDArray[np.float64]
    generated: NDArray[np.float64]
    variance: tuple[float, float]


def project(real: FeatureTable, generated: FeatureTable) -> Projection:
    """Principal components of the real excerpts' standardised features; generated ones are laid into
    their plane.

    Undefined features take the real median. An excerpt without notes has no place: its point is NaN.

    Raises:
        ValueError: fewer real excerpts than ``LEAST_PROJECTED``.
    """
    if len(real) < LEAST_PROJECTED:
        raise ValueError(f"A projection needs {LEAST_PROJECTED} real excerpts and got {len(real)}.")
    prepare = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    components = PCA(2, random_state=0)
    points = components.fit_transform(prepare.fit_transform(real.matrix()))
    laid = components.transform(prepare.transform(generated.matrix())) if len(generated) else np.zeros((0, 2))
    laid[generated.notes == 0] = np.nan
    first, second = components.explained_variance_ratio_
    return Projection(points, laid, (float(first), float(second)))
