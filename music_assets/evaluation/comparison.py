"""Real against generated music, feature by feature."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from music_assets.evaluation.classifier import Excerpts, generated_excerpts, real_excerpts
from music_assets.evaluation.distances import Distance, feature_distances
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings


@dataclass(frozen=True)
class FeatureComparison:
    """Real held-out and generated excerpts of equal bars, and their distances for every genre and feature."""

    real: Excerpts
    generated: Excerpts
    distances: Sequence[Distance]
    bars: int

    def frame(self) -> pl.DataFrame:
        """A row an excerpt: ``real`` or ``generated``, its genre, its song group or sample, and its features."""
        return pl.concat(
            excerpts.features.frame().select(
                pl.lit(origin).alias("origin"),
                pl.Series("genre", excerpts.genres.tolist(), pl.String),
                pl.Series("group", excerpts.groups.tolist(), pl.String),
                pl.all(),
            )
            for origin, excerpts in (("real", self.real), ("generated", self.generated))
        )


def compare_features(
    real: Sequence[Piece], samples: Sequence[Piece], settings: EvaluationSettings
) -> FeatureComparison:
    """Compare the beginnings of real pieces and of samples, genre by genre.

    Raises:
        NotMeasurable: no genre has both.
    """
    bars = settings.excerpt_bars
    return compare_excerpts(real_excerpts(real, bars), generated_excerpts(samples, bars), bars, settings)


def compare_excerpts(real: Excerpts, generated: Excerpts, bars: int, settings: EvaluationSettings) -> FeatureComparison:
    """Compare excerpts of so many bars, genre by genre.

    Raises:
        NotMeasurable: no genre has both.
    """
    genres = sorted(set(real.genres.tolist()) & set(generated.genres.tolist()))
    if not genres:
        raise NotMeasurable(
            f"No genre has both samples and test pieces of {bars} bars: ask for excerpts of fewer bars, or add pieces."
        )
    distances = [
        distance
        for genre in genres
        for distance in feature_distances(
            genre,
            real.of(genre).features,
            real.of(genre).groups.tolist(),
            generated.of(genre).features,
            settings,
        )
    ]
    return FeatureComparison(real, generated, distances, bars)
