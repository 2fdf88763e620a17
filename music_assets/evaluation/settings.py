"""What an evaluation run may be told."""

from pydantic import Field

from music_assets.foundation.settings import Settings


class EvaluationSettings(Settings):
    """Settings of all measures: likelihood, features, genre classifier, copying, controls, infills and guidance."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of every resampling, split and classifier.")
    excerpt_bars: int = Field(default=8, ge=2, le=64, description="Bars of every excerpt, real and generated alike.")
    structure_bars: int = Field(
        default=16, ge=4, le=64, description="Bars of the beginnings whose structure is compared."
    )
    excerpts_per_piece: int = Field(
        default=3,
        ge=1,
        description="Most excerpts from one real piece, in training the classifier and in the copying test.",
    )
    train_excerpts_per_genre: int = Field(
        default=400, ge=8, description="Most training excerpts a genre gives to the genre classifier."
    )
    bootstrap_rounds: int = Field(default=500, ge=50, description="Resamplings behind every confidence interval.")
    floor_rounds: int = Field(
        default=50,
        ge=10,
        description="Random halvings of the real pieces behind every real-against-real floor.",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")
    classifier_trees: int = Field(default=300, ge=10, description="Trees of the genre classifier.")
    worst_copies: int = Field(default=10, ge=0, description="Longest shared runs that the copying report lists.")
    control_requests: int = Field(
        default=48, ge=1, description="Beginnings of test pieces that are asked after, each in four ways."
    )
    infill_spans: int = Field(default=48, ge=1, description="Spans of test pieces that are cut out and filled.")
    guidance_samples: int = Field(
        default=8, ge=2, description="Samples of each genre at each scale of guidance and each temperature."
    )
    ngram_order: int = Field(
        default=8, ge=1, le=16, description="Longest order tried for the n-gram beside the network."
    )
    ngram_tokens: int = Field(
        default=10_000_000,
        ge=1,
        description="Most training tokens that the n-gram counts, to bound its memory.",
    )


class ReportSettings(Settings):
    """Settings of the page that shows the results."""

    players_per_genre: int = Field(
        default=6, ge=0, description="Most samples of a genre that the report lets one hear."
    )
    player_megabytes: float = Field(
        default=5.0, ge=0, description="Most megabytes of samples in the page, a genre after the other."
    )
