"""evaluation: how good is it, honestly."""

import json
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import polars as pl

from music_assets.checkpoints.runs import CheckpointFacts, read_facts, require_champion
from music_assets.defs.failures import AssetConfig, user_errors_as_failures
from music_assets.defs.generation import generated_samples
from music_assets.defs.metadata import table
from music_assets.defs.model import checkpoint
from music_assets.defs.partitions import architectures, sampled_architectures
from music_assets.defs.resources import Data, Links
from music_assets.defs.tokens import token_shards
from music_assets.evaluation.config import EvaluationConfig
from music_assets.evaluation.results import NotMeasurable, save_why_not
from music_assets.foundation.errors import MusicAssetsError
from music_assets.models.registry import find_architecture
from music_assets.tokens.shards import Shard, read_shard, stored_hash

T = TypeVar("T")

_shards = dg.AssetDep(token_shards, partition_mapping=dg.AllPartitionMapping())


def _after(*unless: dg.AssetsDefinition, label: str) -> dg.AutomationCondition:
    """Once after a dependency other than these was updated, when none is being made anew."""
    updated = dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.assets(*unless))
    in_progress = dg.AutomationCondition.any_deps_in_progress().ignore(dg.AssetSelection.assets(token_shards))
    ready = ~in_progress & ~dg.AutomationCondition.in_progress()
    return (updated.since_last_handled() & ready).with_label(label)


# New shards alone say nothing new of a model.
after_the_model = _after(token_shards, label="after the model")


class EvaluationSettings(AssetConfig, EvaluationConfig):
    pass


@dg.asset(
    group_name="evaluation",
    kinds={"torch", "json"},
    partitions_def=architectures,
    deps=[dg.AssetDep(checkpoint, partition_mapping=sampled_architectures), _shards],
    automation_condition=after_the_model,
    pool="gpu",
)
@user_errors_as_failures
def likelihood(context: dg.AssetExecutionContext, config: EvaluationSettings, data: Data) -> dg.MaterializeResult:
    """What the champion pays for the test pieces, in bits per note: by genre, by what the bits are spent on, and
    beside an n-gram that was trained on the same pieces (on a random part of them, where they are very many).

    Whole pieces, every token but the prompt, so that the number compares across models and tokenisers; the intervals
    resample songs.
    """
    from music_assets.checkpoints.storage import load_checkpoint
    from music_assets.evaluation.likelihood import measure_likelihoods
    from music_assets.evaluation.pieces import real_pieces
    from music_assets.evaluation.results import save_result
    from music_assets.training.precision import choose_device

    folder, facts = _champion(data, context.partition_key)
    shards = _original_shards(data, facts)
    training, validation, held_out = (real_pieces(shards, split) for split in ("train", "valid", "test"))
    context.log.info(f"scoring {len(held_out):,} test pieces")
    champion = load_checkpoint(folder, choose_device())
    path = _result(data, context, "likelihood")
    try:
        found = measure_likelihoods(champion, training, validation, held_out, config)
    except NotMeasurable as error:
        return _not_measured(path, facts, error)
    save_result(path, facts.run, found)
    network, baseline = found.row(facts.architecture), found.row(found.ngram)
    return dg.MaterializeResult(
        metadata={
            "run": facts.run,
            "bits_per_note": network.bits_per_note,
            "ngram": found.ngram,
            "ngram_bits_per_note": baseline.bits_per_note,
            "ngram_counted": f"{found.ngram_share:.0%} of the training tokens",
            "below_ngram": f"{1 - network.bits_per_note / baseline.bits_per_note:.1%}",
            "by_genre": table(
                {
                    "genre": row.genre,
                    "model": row.model,
                    "pieces": row.pieces,
                    "bits_per_note": row.bits_per_note,
                    "low": row.low,
                    "high": row.high,
                    "bits_per_second": row.bits_per_second,
                    **row.parts,
                }
                for row in found.rows
            ),
            "path": dg.MetadataValue.path(path),
        }
    )


@dg.asset(
    group_name="evaluation",
    kinds={"json"},
    partitions_def=architectures,
    deps=[generated_samples, _shards],
    automation_condition=after_the_model,
)
@user_errors_as_failures
def feature_stats(context: dg.AssetExecutionContext, config: EvaluationSettings, data: Data) -> dg.MaterializeResult:
    """Musical features of the samples against real test pieces, over excerpts of equal bars: Jensen-Shannon or
    Wasserstein distances with intervals, beside the distance that real pieces have among themselves.
    """
    from music_assets.evaluation.comparison import compare_features
    from music_assets.evaluation.pieces import real_pieces, sampled_pieces
    from music_assets.evaluation.results import save_result

    _, facts = _champion(data, context.partition_key)
    samples = sampled_pieces(_sample_batches(data, facts))
    path = _result(data, context, "feature_stats")
    try:
        found = compare_features(real_pieces(_original_shards(data, facts), "test"), samples, config)
    except NotMeasurable as error:
        return _not_measured(path, facts, error)
    save_result(path, facts.run, found)
    beyond = [distance for distance in found.distances if distance.is_beyond_floor]
    return dg.MaterializeResult(
        metadata={
            "run": facts.run,
            "samples": len(samples),
            "features_beyond_the_floor": f"{len(beyond)} of {len(found.distances)}",
            "distances": table(
                {
                    "genre": one.genre,
                    "feature": one.feature,
                    "measure": one.measure,
                    "distance": one.distance.value,
                    "low": one.distance.low,
                    "high": one.distance.high,
                    "floor": one.floor.value,
                    "beyond_floor": one.is_beyond_floor,
                }
                for one in found.distances
            ),
            "path": dg.MetadataValue.path(path),
        }
    )


@dg.asset(
    group_name="evaluation",
    kinds={"json"},
    partitions_def=architectures,
    deps=[generated_samples, _shards],
    automation_condition=after_the_model,
)
@user_errors_as_failures
def copy_report(context: dg.AssetExecutionContext, config: EvaluationSettings, data: Data) -> dg.MaterializeResult:
    """Does it copy? The longest melodic run that each sample shares with a training piece, in any key and at any
    tempo, against the same for real test pieces, which nobody copied.
    """
    from music_assets.evaluation import copying
    from music_assets.evaluation.pieces import real_pieces, sampled_pieces
    from music_assets.evaluation.results import save_result

    _, facts = _champion(data, context.partition_key)
    shards = _original_shards(data, facts)
    samples, path = sampled_pieces(_sample_batches(data, facts)), _result(data, context, "copy_report")
    try:
        found = copying.copy_report(real_pieces(shards, "train"), real_pieces(shards, "test"), samples, config)
    except NotMeasurable as error:
        return _not_measured(path, facts, error)
    save_result(path, facts.run, found)
    return dg.MaterializeResult(
        metadata={
            "run": facts.run,
            "share_above_real_pieces": found.share_above.value,
            "low": found.share_above.low,
            "high": found.share_above.high,
            "longest_runs": table(
                {"sample": case.sample, "run": case.run, "training_piece": case.piece_id} for case in found.cases
            ),
            "path": dg.MetadataValue.path(path),
        }
    )


@dg.asset(
    group_name="evaluation",
    kinds={"scikitlearn", "html"},
    partitions_def=architectures,
    deps=[generated_samples, _shards, likelihood, feature_stats, copy_report],
    # The likelihood of a new checkpoint comes before its samples: alone it makes no report.
    automation_condition=_after(token_shards, likelihood, label="after the samples"),
)
@user_errors_as_failures
def consistency_report(
    context: dg.AssetExecutionContext, config: EvaluationSettings, data: Data, links: Links
) -> dg.MaterializeResult:
    """Does music made for a genre sound like it? A classifier that has only heard real music judges the samples:
    floor (chance), ceiling (real test pieces) and score with intervals, an empty sample counting as wrong.

    And the whole evaluation on one page that opens offline: `report.html`, with plots and audio, in the data folder
    and in the MLflow run.
    """
    from music_assets.evaluation.classifier import judge
    from music_assets.evaluation.comparison import FeatureComparison
    from music_assets.evaluation.copying import CopyReport
    from music_assets.evaluation.likelihood import Likelihoods
    from music_assets.evaluation.pieces import real_pieces, sampled_pieces
    from music_assets.evaluation.report import ReportContent, sample_views, training_curve, write_report
    from music_assets.evaluation.results import load_result, save_result
    from music_assets.training.tracking import Tracking

    _, facts = _champion(data, context.partition_key)
    shards, batches = _original_shards(data, facts), _sample_batches(data, facts)
    training, held_out = real_pieces(shards, "train"), real_pieces(shards, "test")
    verdicts = judge(training, held_out, sampled_pieces(batches), config)
    save_result(_result(data, context, "consistency_report"), facts.run, verdicts)

    tracking = Tracking(data.paths)
    mlflow_run = facts.mlflow_run_id if tracking.has_run(facts.mlflow_run_id) else None
    url = links.mlflow_run_url(tracking.experiment_id, mlflow_run) if mlflow_run else None
    missing = {"consistency": verdicts.why_not} if verdicts.why_not else {}

    def found(section: str, name: str, kind: type[T]) -> T | None:
        try:
            return load_result(_result(data, context, name), facts.run, kind)
        except NotMeasurable as error:
            missing[section] = str(error)
            return None

    likelihoods = found("likelihood", "likelihood", Likelihoods)
    content = ReportContent(
        title=f"{facts.architecture}: how good is it?",
        model=facts.architecture,
        run={
            "network": f"{facts.architecture} {facts.training['preset']}, {facts.parameters:,} parameters",
            "trained on": f"{len(training):,} pieces, {facts.tokens:,} tokens seen in {facts.minutes:.1f} minutes",
            "genres": ", ".join(facts.genres),
            "held out": f"{len(held_out):,} test pieces, no song of which is in training",
            "samples": f"{sum(len(b.names) for b in batches)}, {sum(len(b.empty) for b in batches)} of them empty",
        },
        mlflow_url=url,
        caveats=_caveats(data, facts, likelihoods.ngram_share if likelihoods else 1),
        likelihood=likelihoods.rows if likelihoods else (),
        curve=training_curve(
            tracking.curve(mlflow_run, "train/loss"),
            tracking.curve(mlflow_run, "valid/bits_per_note"),
            facts.tokens,
        )
        if mlflow_run
        else None,
        features=found("features", "feature_stats", FeatureComparison),
        consistency=verdicts.judged,
        copying=found("copying", "copy_report", CopyReport),
        samples=sample_views(batches),
        players_per_genre=config.players_per_genre,
        provenance={
            "checkpoint": facts.run,
            "training data": facts.dataset_hash,
            "validation pieces": facts.validation_hash,
            "training": json.dumps(facts.training),
            "sampling": json.dumps({batch.genre: batch.settings.model_dump() for batch in batches}),
            "evaluation": config.model_dump_json(),
            "PyTorch": facts.torch_version,
        },
        missing=missing,
    )
    page = data.paths.evaluation(context.partition_key) / "report.html"
    write_report(page, content)
    metadata: dict[str, Any] = {"run": facts.run, "report": dg.MetadataValue.path(page)}
    if mlflow_run and url:
        tracking.log_artifact(mlflow_run, page, "report")
        metadata["report_in_mlflow"] = dg.MetadataValue.url(f"{url}/artifacts/report/report.html")
    if verdicts.judged:
        first = verdicts.judged[0]
        metadata |= {
            "consistency": first.score.value,
            "consistency_low": first.score.low,
            "consistency_high": first.score.high,
            "floor": first.floor,
            "ceiling": first.ceiling.value,
            "headline": f"{first.headline.value:.0%} of the way from chance to real music",
            "heard_as": table(
                {"prompted": genre, **dict(zip((*first.genres, "no music"), row.tolist(), strict=True))}
                for genre, row in zip(first.genres, first.generated_confusion, strict=True)
            ),
        }
    else:
        metadata["consistency"] = verdicts.why_not
    return dg.MaterializeResult(metadata=metadata)


def _caveats(data: Data, facts: CheckpointFacts, ngram_share: float) -> list[str]:
    """What a reader must know of this corpus before believing a number."""
    pieces = pl.concat(
        pl.read_parquet(data.paths.genre_pieces(genre), columns=["genre", "split", "velocity_levels"], glob=False)
        for genre in facts.genres
    )
    flat = pieces.filter(pl.col("split") == "train")["velocity_levels"].le(8).mean()
    test = (pl.col("split") == "test").sum().alias("test")
    few = pieces.group_by("genre").agg(test).filter(pl.col("test") < 30).sort("genre")
    learned = {shard.genre: shard.hash for shard in facts.shards if shard.transposition == "original"}
    sentences = ["One training with one seed: another would give somewhat other numbers."]
    if isinstance(flat, float) and flat > 0.05:
        sentences.append(
            f"{flat:.0%} of the training pieces have at most eight different velocities: they were typed or converted, "
            "not played, and numbers on velocity say nothing of performance."
        )
    if len(few):
        counts = ", ".join(f"{genre} {count}" for genre, count in few.iter_rows())
        sentences.append(f"Few test pieces, so wide intervals: {counts}.")
    if ngram_share < 1:
        sentences.append(f"The n-gram counted {ngram_share:.0%} of the training tokens.")
    if any(stored_hash(data.paths.shard(genre, "original")) != learned.get(genre) for genre in facts.genres):
        sentences.append(
            "Shards have changed since this checkpoint was trained: the counts of pieces are today's, and a test piece "
            "may be one that it has learned under another title."
        )
    return sentences


def _champion(data: Data, architecture: str) -> tuple[Path, CheckpointFacts]:
    find_architecture(architecture).require_sampling()
    folder = require_champion(data.paths.checkpoints(architecture))
    return folder, read_facts(folder)


def _original_shards(data: Data, facts: CheckpointFacts) -> list[Shard]:
    return [read_shard(data.paths.shard(genre, "original")) for genre in facts.genres]


def _sample_batches(data: Data, facts: CheckpointFacts):
    from music_assets.generation.samples import read_samples

    batches = [read_samples(data.paths.samples(facts.architecture, genre)) for genre in facts.genres]
    if stale := [batch.genre for batch in batches if batch.run != facts.run]:
        raise MusicAssetsError(
            f"The samples of {', '.join(stale)} are of another checkpoint than the champion {facts.run}: "
            f"materialise generated_samples for them first."
        )
    return batches


def _not_measured(path: Path, facts: CheckpointFacts, error: NotMeasurable) -> dg.MaterializeResult:
    """What the pieces do not allow to measure is a sentence of the report, and no failure."""
    save_why_not(path, facts.run, str(error))
    return dg.MaterializeResult(
        metadata={"run": facts.run, "not_measured": str(error), "path": dg.MetadataValue.path(path)}
    )


def _result(data: Data, context: dg.AssetExecutionContext, name: str) -> Path:
    return data.paths.evaluation(context.partition_key) / f"{name}.json"
