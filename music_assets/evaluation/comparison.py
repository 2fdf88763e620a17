"""Real against generated music, feature by feature."""

from collections.abc import Sequence
from dataclasses import dataclass

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


def compare_features(
    real: Sequence[Piece], samples: Sequence[Piece], settings: EvaluationSettings
) -> FeatureComparison:
    """Compare the beginnings of real pieces and of samples, genre by genre.

    Raises:
        NotMeasurable: no genre has both.
    """
    reals = real_excerpts(real, settings.excerpt_bars)
    generated = generated_excerpts(samples, settings.excerpt_bars)
    genres = sorted(set(reals.genres.tolist()) & set(generated.genres.tolist()))
    if not genres:
        raise NotMeasurable(
            f"No genre has both samples and test pieces of {settings.excerpt_bars} bars: lower excerpt_bars, or add "
            "pieces."
        )
    distances = [
        distance
        for genre in genres
        for distance in feature_distances(
            genre,
            reals.of(genre).features,
            reals.of(genre).groups.tolist(),
            generated.of(genre).features,
            settings,
        )
    ]
    return FeatureComparison(reals, generated, distances, settings.excerpt_bars)
