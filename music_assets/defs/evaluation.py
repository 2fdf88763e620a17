"""evaluation: how good is it, honestly. Each measure keeps what it found; the report shows it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
import polars as pl
from pydantic import Field

from music_assets.defs.due import after_the_model, after_the_samples, ratings_file
from music_assets.defs.failures import AssetConfig, user_errors_as_failures
from music_assets.defs.generation import generated_samples
from music_assets.defs.metadata import rows, table
from music_assets.defs.model import checkpoint
from music_assets.defs.partitions import GENRES, architectures
from music_assets.defs.resources import Data, Links, latest
from music_assets.defs.tokens import token_shards
from music_assets.evaluation.results import NotMeasurable, save_result, save_tables, save_why_not
from music_assets.evaluation.settings import EvaluationSettings, ReportSettings
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.publishing import publish

if TYPE_CHECKING:
    from music_assets.checkpoints.storage import Checkpoint
    from music_assets.evaluation.comparison import FeatureComparison
    from music_assets.evaluation.subject import Subject

T = TypeVar("T")

_shards = dg.AssetDep(token_shards, partition_mapping=dg.AllPartitionMapping())
_of_the_model = dg.asset(
    group_name="evaluation",
    kinds={"torch", "json"},
    code_version="1",
    partitions_def=architectures,
    deps=[checkpoint, _shards],
    automation_condition=after_the_model,
    pool="gpu",
)
_of_the_samples = dg.asset(
    group_name="evaluation",
    kinds={"json"},
    code_version="1",
    partitions_def=architectures,
    deps=[generated_samples, _shards],
    automation_condition=after_the_model,
)


class EvaluationConfig(AssetConfig, EvaluationSettings):
    """What a measure may be told in the launchpad."""


class ReportConfig(AssetConfig, ReportSettings):
    """What the report may be told in the launchpad."""


@_of_the_model
@user_errors_as_failures
def likelihood(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """What the champion pays for the test pieces, in bits per note: by genre, by what the bits are spent on, and
    beside an n-gram with memory of the same pieces (of a random part of them, where they are very many).

    Whole pieces, every token but the prompt, so that the number compares across models and tokenisers; the intervals
    resample songs.
    """
    from music_assets.evaluation.likelihood import Likelihoods, measure_likelihoods
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    network = _network(subject)
    training, validation, held_out = (subject.real(split) for split in ("train", "valid", "test"))
    context.log.info(f"scoring {len(held_out):,} test pieces")

    def find() -> Likelihoods:
        return measure_likelihoods(network, training, validation, held_out, config)

    def metadata(found: Likelihoods) -> dict[str, Any]:
        model, baseline = found.row(subject.facts.architecture), found.row(found.baseline)
        return {
            "bits_per_note": model.bits_per_note,
            "baseline": found.baseline,
            "baseline_bits_per_note": baseline.bits_per_note,
            "baseline_counted": f"{found.baseline_share:.0%} of the training tokens",
            "below_baseline": f"{1 - model.bits_per_note / baseline.bits_per_note:.1%}",
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
        }

    return _measure("likelihood", subject, config, find, metadata)


@_of_the_model
@user_errors_as_failures
def control_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """Are wishes obeyed? The champion is asked for what real test pieces have: instruments, tempo, time signature,
    bars, key and density; what it makes is measured, beside what it makes unasked.
    """
    from music_assets.evaluation import controls
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    network, held_out = _network(subject), subject.real("test")
    context.log.info(f"asking after the beginnings of up to {config.control_requests} test pieces")

    def metadata(found: controls.ControlReport) -> dict[str, Any]:
        return {
            "obeyed": table(
                {
                    "control": row.control,
                    "measure": row.measure,
                    "requests": row.requests,
                    "without": row.without.value,
                    "alone": row.alone.value if row.alone else None,
                    "together": row.together.value,
                    "together_low": row.together.low,
                    "together_high": row.together.high,
                }
                for row in found.rows
            )
        }

    return _measure(
        "control_report", subject, config, lambda: controls.control_report(network, held_out, config), metadata
    )


@_of_the_model
@user_errors_as_failures
def infill_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """Do infills fit? Bars of test pieces are cut out, all instruments or one of them, and written again by the
    champion: how close that is to what stood there, beside repeating the bar before, the bar behind, and nothing.
    """
    from music_assets.evaluation import infills
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    network, training, held_out = _network(subject), subject.real("train"), subject.real("test")
    context.log.info(f"filling up to {config.infill_spans} spans of test pieces")

    def metadata(found: infills.InfillReport) -> dict[str, Any]:
        return {
            "notes_around": found.context_notes,
            "notes_around_lost": found.context_lost,
            "notes_around_added": found.context_added,
            "fit": table(
                {
                    "spans": row.spans,
                    "measure": row.measure,
                    "filling": row.filling,
                    "count": row.count,
                    "value": row.estimate.value,
                    "low": row.estimate.low,
                    "high": row.estimate.high,
                }
                for row in found.rows
            ),
        }

    def find() -> infills.InfillReport:
        return infills.infill_report(network, training, held_out, config)

    return _measure("infill_report", subject, config, find, metadata)


@_of_the_model
@user_errors_as_failures
def guidance_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """What do guidance and temperature buy, and what do they cost? The champion writes at several of each: how well the
    genres are heard, how far that is from real music, how much it copies and repeats.
    """
    from music_assets.evaluation import guidance
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    network, pieces = _network(subject), (subject.real("train"), subject.real("test"))

    def find() -> guidance.GuidanceReport:
        return guidance.guidance_report(network, *pieces, config, context.log.info)

    def metadata(found: guidance.GuidanceReport) -> dict[str, Any]:
        return {
            "samples_at_each": found.samples,
            "curves": table(
                {
                    "varied": row.varied,
                    "value": row.value,
                    "measure": row.measure,
                    "share": row.estimate.value,
                    "low": row.estimate.low,
                    "high": row.estimate.high,
                    "real_music": found.real.get(row.measure),
                }
                for row in found.rows
            ),
        }

    return _measure("guidance_report", subject, config, find, metadata)


@_of_the_model
@user_errors_as_failures
def embedding_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """What has the champion learned inside? Whether tokens that mean like things lie close together in its embedding,
    and pieces of one genre in what it hears of them.
    """
    from music_assets.evaluation import embeddings
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    network, held_out = _network(subject), subject.real("test")

    def metadata(found: embeddings.EmbeddingReport) -> dict[str, Any]:
        return {
            "neighbours": table(
                {
                    "attribute": picture.attribute,
                    "of": picture.kind,
                    "points": len(picture.names),
                    "neighbours_alike": neighbours.share,
                    "by_chance": neighbours.chance.value,
                    "by_chance_at_most": neighbours.chance.high,
                    "p_value": neighbours.p_value,
                }
                for picture in found.pictures
                if (neighbours := picture.neighbours)
            )
        }

    def points(found: embeddings.EmbeddingReport) -> dict[str, pl.DataFrame]:
        return {
            "points": pl.concat(
                pl.DataFrame(
                    {
                        "attribute": [picture.attribute] * len(picture.names),
                        "name": picture.names.tolist(),
                        "class": [picture.classes[label] for label in picture.labels],
                        **{
                            f"{plane} {axis + 1}": coordinates[:, axis]
                            for plane, coordinates in (("component", picture.components), ("t-SNE", picture.tsne))
                            for axis in range(2)
                        },
                    }
                )
                for picture in found.pictures
            )
        }

    def find() -> embeddings.EmbeddingReport:
        return embeddings.embedding_report(network, held_out, config)

    return _measure("embedding_report", subject, config, find, metadata, points)


@_of_the_samples
@user_errors_as_failures
def feature_stats(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """Musical features of the samples against real test pieces, over excerpts of equal bars: Jensen-Shannon or
    Wasserstein distances with intervals, beside the distance that real pieces have among themselves.
    """
    from music_assets.evaluation.comparison import compare_features
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    real, samples = subject.real("test"), subject.samples()
    return _measure(
        "feature_stats", subject, config, lambda: compare_features(real, samples, config), _distances, _excerpts
    )


@_of_the_samples
@user_errors_as_failures
def structure_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """How are the samples built? Repetition by distance in bars, ends of phrases, and how density and key go on over
    sixteen bars, against real test pieces and beside what those differ by among themselves.
    """
    from music_assets.evaluation.structure import structure_report
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    real, samples = subject.real("test"), subject.samples()
    return _measure(
        "structure_report", subject, config, lambda: structure_report(real, samples, config), _distances, _excerpts
    )


def _distances(found: "FeatureComparison") -> dict[str, Any]:
    beyond = [distance for distance in found.distances if distance.is_beyond_floor]
    return {
        "samples": len(found.generated),
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
    }


def _excerpts(found: "FeatureComparison") -> dict[str, pl.DataFrame]:
    return {"excerpts": found.frame()}


@_of_the_samples
@user_errors_as_failures
def copy_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """Does it copy? The longest melodic run that each sample shares with a training piece, in any key and at any
    tempo, against the same for real test pieces, which nobody copied.
    """
    from music_assets.evaluation import copying
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    pieces = subject.real("train"), subject.real("test"), subject.samples()

    def metadata(found: copying.CopyReport) -> dict[str, Any]:
        return {
            "share_above_real_pieces": found.share_above.value,
            "low": found.share_above.low,
            "high": found.share_above.high,
            "by_genre": table(
                {
                    "genre": one.genre,
                    "samples": len(one.generated),
                    "longest": int(one.generated.max()),
                    "threshold": one.threshold,
                    "share_above": one.share_above.value,
                    "low": one.share_above.low,
                    "high": one.share_above.high,
                }
                for one in found.genres
            ),
            "longest_runs": table(
                {"sample": case.sample, "run": case.run, "training_piece": case.piece_id} for case in found.cases
            ),
        }

    return _measure("copy_report", subject, config, lambda: copying.copy_report(*pieces, config), metadata)


@_of_the_samples
@user_errors_as_failures
def consistency_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """Does music made for a genre sound like it? A classifier that has only heard real music judges the samples:
    floor (chance), ceiling (real test pieces) and score with intervals, an empty sample counting as wrong.
    """
    from music_assets.evaluation.classifier import Verdicts, judge
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    pieces = subject.real("train"), subject.real("test"), subject.samples()

    def metadata(found: Verdicts) -> dict[str, Any]:
        first = found.with_programs
        return {
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

    return _measure("consistency_report", subject, config, lambda: judge(*pieces, config), metadata)


@_of_the_samples
@user_errors_as_failures
def listening_report(context: dg.AssetExecutionContext, config: EvaluationConfig, data: Data) -> dg.MaterializeResult:
    """What do people hear? The ratings of blind listening tests (`music-assets listen`): musicality, coherence and
    creativity, real beside generated, and how often people tell which is which. Without ratings it says so.
    """
    from music_assets.evaluation import listening
    from music_assets.evaluation.subject import champion_of

    subject = champion_of(data.paths, context.partition_key)
    files = listening.ListeningFiles(data.paths.listening(context.partition_key))
    known = ratings_file(data.paths, context.partition_key)

    def find() -> listening.ListeningReport:
        return listening.report_so_far(files, config, subject.facts.run, context.log.warning)

    def metadata(found: listening.ListeningReport) -> dict[str, Any]:
        return {
            "ratings": found.ratings,
            "raters": found.raters,
            "right_guesses": found.right.value,
            "scales": table(
                {
                    "scale": row.scale,
                    "real": row.real.value,
                    "real_low": row.real.low,
                    "real_high": row.real.high,
                    "generated": row.generated.value,
                    "generated_low": row.generated.low,
                    "generated_high": row.generated.high,
                    "agreement": row.alpha,
                }
                for row in found.scales
            ),
        }

    made = _measure("listening_report", subject, config, find, metadata)
    return made._replace(metadata={**(made.metadata or {}), "ratings_file": known})


def _network(subject: "Subject") -> "Checkpoint":
    """The checkpoint with its weights, on a GPU if there is one."""
    from music_assets.checkpoints.storage import load_checkpoint
    from music_assets.training.precision import choose_device

    return load_checkpoint(subject.checkpoint, choose_device())


def _measure(
    name: str,
    subject: "Subject",
    settings: EvaluationSettings,
    find: Callable[[], T],
    metadata: Callable[[T], Mapping[str, Any]],
    frames: Callable[[T], Mapping[str, pl.DataFrame]] = lambda _: {},
) -> dg.MaterializeResult:
    """Measure, keep what was found with its settings, its tables as CSV beside it (those of ``frames``, which are too
    long to be shown, too), and say so.

    What the pieces do not allow to measure is a sentence of the report, and no failure.
    """
    run, path = subject.facts.run, subject.result(name)
    long: Mapping[str, pl.DataFrame] = {}
    try:
        found = find()
    except NotMeasurable as error:
        save_why_not(path, run, settings, str(error))
        said: Mapping[str, Any] = {"not_measured": str(error)}
    else:
        save_result(path, run, settings, found)
        said, long = metadata(found), frames(found)
    tables = {label: rows(value) for label, value in said.items() if isinstance(value, dg.TableMetadataValue)}
    save_tables(path, {**tables, **long})
    made_with = dg.MetadataValue.json(settings.model_dump())
    return dg.MaterializeResult(
        metadata={"run": run, **said, "settings": made_with, "path": dg.MetadataValue.path(path)}
    )


@dg.asset(
    group_name="evaluation",
    kinds={"html"},
    code_version="1",
    partitions_def=architectures,
    deps=[
        generated_samples,
        _shards,
        likelihood,
        control_report,
        infill_report,
        guidance_report,
        embedding_report,
        feature_stats,
        structure_report,
        copy_report,
        consistency_report,
        listening_report,
    ],
    automation_condition=after_the_samples,
)
@user_errors_as_failures
def evaluation_report(
    context: dg.AssetExecutionContext, config: ReportConfig, data: Data, links: Links
) -> dg.MaterializeResult:
    """The whole evaluation on one page that opens offline: `report.html`, with plots and audio, in the data folder
    and in the MLflow run. What could not be measured is a sentence in its place.
    """
    from music_assets.evaluation.report.page import read_page, write_page
    from music_assets.evaluation.subject import champion_of
    from music_assets.training.tracking import Tracking

    subject = champion_of(data.paths, context.partition_key)
    tracking, run = Tracking(data.paths), subject.facts.mlflow_run_id
    url = links.mlflow_run_url(tracking.experiment_id, run) if run and tracking.has_run(run) else None
    path = data.paths.evaluation(context.partition_key) / "report.html"
    page = read_page(subject, config, url)
    write_page(path, page)
    save_tables(path, {name: table for content in page.contents.values() for name, table in content.tables.items()})
    metadata: dict[str, Any] = {
        "run": subject.facts.run,
        "missing": ", ".join(page.missing) or "nothing",
        "report": dg.MetadataValue.path(path),
    }
    if run and url:
        tracking.log_artifact(run, path, "report")
        metadata["report_in_mlflow"] = dg.MetadataValue.url(f"{url}/artifacts/report/report.html")
    return dg.MaterializeResult(metadata=metadata)


class ComparisonConfig(EvaluationConfig):
    """What the comparison may be told in the launchpad."""

    architectures: list[str] = Field(
        [], description="Architectures to compare; all that have been trained, if none is named."
    )


@dg.asset(
    group_name="evaluation",
    kinds={"torch", "json"},
    code_version="1",
    deps=[dg.AssetDep(checkpoint, partition_mapping=dg.AllPartitionMapping()), _shards],
    pool="gpu",
)
@user_errors_as_failures
def comparison(context: dg.AssetExecutionContext, config: ComparisonConfig, data: Data) -> dg.MaterializeResult:
    """The last checkpoint of each architecture beside the others and an n-gram with memory, on the same test pieces:
    one table. `music-assets compare` first trains each for the same time, which makes the comparison a fair one.
    """
    from music_assets.checkpoints.storage import load_checkpoint
    from music_assets.evaluation.architectures import as_json, compare_architectures, markdown
    from music_assets.tokens.shards import read_shard

    paths = data.paths
    trained = []
    for architecture in config.architectures or architectures.get_partition_keys():
        made = latest(context.instance, checkpoint.key, architecture)
        if made is not None:
            last = load_checkpoint(paths.checkpoints(architecture) / made.text("run") / "best")
            trained.append((last, float(made.text("tokens_per_second"))))
        elif config.architectures:
            raise MusicAssetsError(f"There is no {architecture} to compare: materialise checkpoint [{architecture}].")
    shards = [
        read_shard(path)
        for genre in sorted(context.instance.get_dynamic_partitions(GENRES))
        if (path := paths.shard(genre, "original")).exists()
    ]
    rows = compare_architectures(trained, shards, config)
    for path, text in (
        (paths.comparison, markdown(rows)),
        (paths.comparison.with_suffix(".json"), as_json(rows, config)),
    ):
        with publish(path) as fresh:
            fresh.write_text(text)
    return dg.MaterializeResult(
        metadata={
            "comparison": dg.MetadataValue.md(markdown(rows)),
            "runs": table({"architecture": one.facts.architecture, "run": one.facts.run} for one, _ in trained),
            "settings": dg.MetadataValue.json(config.model_dump()),
            "path": dg.MetadataValue.path(paths.comparison),
        }
    )
