"""What is out of date: sensors, schedules and the command line ask here, and nowhere else.

States are compared (what lies on disk, what was last materialised), so a missed tick loses nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg
import polars as pl

from music_assets.checkpoints.runs import CheckpointError, CheckpointFacts, newest_first, read_facts, unfinished_run
from music_assets.corpus.index.queries import index_summary
from music_assets.defs.partitions import GENRES
from music_assets.defs.resources import Materialization, latest
from music_assets.evaluation.settings import EvaluationSettings, ReportSettings
from music_assets.foundation.settings import Settings
from music_assets.generation.request import Wishes
from music_assets.paths import DataPaths, ListeningFiles
from music_assets.tokens.build import pieces_to_encode, stored_shard, transposed
from music_assets.tokens.shards import Shard, stored_hash
from music_assets.tokens.transposition import TRANSPOSITIONS

MEASURES_OF_MODEL = ("likelihood", "control_report", "infill_report", "guidance_report", "embedding_report")
MEASURES_OF_SAMPLES = ("feature_stats", "structure_report", "copy_report", "consistency_report", "listening_report")


class Due(NamedTuple):
    """A partition to materialise. ``key`` is another one each time that it is due anew: a sensor's run key."""

    partition: str
    key: str
    settings: Mapping[str, Any] = {}


# What follows its inputs: once after they changed, when all are there and none is being made anew.
after_inputs = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("after its inputs")


def _after(*, unless: tuple[str, ...], label: str) -> dg.AutomationCondition:
    """Once after a dependency other than these was updated, when none is being made anew."""
    updated = dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.assets(*unless))
    in_progress = dg.AutomationCondition.any_deps_in_progress().ignore(dg.AssetSelection.assets("token_shards"))
    ready = ~in_progress & ~dg.AutomationCondition.in_progress()
    return (updated.since_last_handled() & ready).with_label(label)


# New shards alone say nothing new of a model.
after_the_model = _after(unless=("token_shards",), label="after the model")
# What is measured of a new checkpoint itself comes before its samples: alone it makes no report.
after_the_samples = _after(unless=("token_shards", *MEASURES_OF_MODEL), label="after the samples")


def pieces_due(instance: dg.DagsterInstance, paths: DataPaths) -> Iterator[Due]:
    """Find the genres whose pieces in the index differ from those last published.

    Raises:
        NoIndex, IndexUnavailable: see :func:`music_assets.corpus.index.queries.index_summary`.
    """
    summary = index_summary(paths.index)
    for genre in sorted(instance.get_dynamic_partitions(GENRES)):
        indexed, published = summary.rows_hash(genre), latest(instance, dg.AssetKey("genre_pieces"), genre)
        if published is None or published.data_version != indexed:
            # With the event that it replaces in the key, a genre may also return to what it once was.
            yield Due(genre, f"{genre}:{indexed}:{_event(published)}")


def shards_due(instance: dg.DagsterInstance, paths: DataPaths) -> list[str]:
    """Find the genres with a shard that is missing, is not of the published pieces, or lacks some that another try may
    encode.
    """
    return [
        genre
        for genre in sorted(instance.get_dynamic_partitions(GENRES))
        if paths.genre_pieces(genre).exists() and not _has_shards(paths, genre)
    ]


def _has_shards(paths: DataPaths, genre: str) -> bool:
    pieces = pl.read_parquet(paths.genre_pieces(genre), glob=False)
    if not paths.shard(genre, "original").exists():
        return False
    original = stored_shard(paths.shard(genre, "original"), genre)
    if len(pieces_to_encode(pieces, original)) or not _is_of(original, pieces):
        return False
    return all(
        stored_hash(paths.shard(genre, name)) == transposed(original, name)[0].content_hash
        for name in TRANSPOSITIONS
        if name != "original"
    )


def _is_of(original: Shard, pieces: pl.DataFrame) -> bool:
    """Whether a shard holds these pieces, in their splits and groups, but for those that have no encoding."""
    columns = ["piece_id", "group_id", "split"]
    encoded = pieces.filter(~pl.col("piece_id").is_in([*original.failed])).select(columns).sort("piece_id")
    return encoded.equals(original.rows.select(columns))


def training_settings(
    instance: dg.DagsterInstance, paths: DataPaths, architecture: str, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Fill in the settings of the next training: those of one that was interrupted, or of the last, where nothing else
    is wanted.
    """
    last = interrupted_training(instance, paths, architecture) or last_training(instance, paths, architecture)
    return (last.training if last else {}) | dict(wanted)


def training_due(
    instance: dg.DagsterInstance, paths: DataPaths, architecture: str, settings: Mapping[str, Any]
) -> bool:
    """Whether no training with these settings has ended on the shards as they are, or a later one was interrupted."""
    interrupted = interrupted_training(instance, paths, architecture)
    trained = last_training(instance, paths, architecture)
    if interrupted and interrupted.training == settings:
        return True
    return trained is None or trained.training != settings or shards_changed(instance, paths, trained)


def retraining_due(instance: dg.DagsterInstance, paths: DataPaths, architecture: str) -> Mapping[str, Any] | None:
    """The settings of the last training, if a shard has changed since; None if not, or if there was none."""
    trained = last_training(instance, paths, architecture)
    return trained.training if trained and shards_changed(instance, paths, trained) else None


def last_training(instance: dg.DagsterInstance, paths: DataPaths, architecture: str) -> CheckpointFacts | None:
    """What the last training of an architecture says of itself; None if there is none, or its folder is gone."""
    event = latest(instance, dg.AssetKey("checkpoint"), architecture)
    if event is None:
        return None
    try:
        return read_facts(paths.checkpoints(architecture) / event.text("run") / "best")
    except CheckpointError:
        return None


def interrupted_training(instance: dg.DagsterInstance, paths: DataPaths, architecture: str) -> CheckpointFacts | None:
    """What the newest training of an architecture says of itself if it was broken off and its shards are the same."""
    newest = next(iter(newest_first(paths.checkpoints(architecture))), None)
    facts = unfinished_run(newest) if newest else None
    return facts if facts and not shards_changed(instance, paths, facts) else None


def shards_changed(instance: dg.DagsterInstance, paths: DataPaths, training: CheckpointFacts) -> bool:
    """Whether a shard that a training would read today differs from what it read."""
    chosen = training.training["transpositions"] or list(TRANSPOSITIONS)
    now = {
        (genre, transposition): content
        for genre in instance.get_dynamic_partitions(GENRES)
        for transposition in chosen
        if (content := stored_hash(paths.shard(genre, transposition)))
    }
    return now != {(shard.genre, shard.transposition): shard.hash for shard in training.shards}


def samples_due(
    instance: dg.DagsterInstance, paths: DataPaths, architecture: str, wanted: Mapping[str, Any] | None = None
) -> list[Due]:
    """Find the genres of the champion that lack samples by it, or whose samples were made with other settings.

    Settings are those of the genre's last samples (of the architecture's, where it has none), but for what is wanted.
    A genre that the champion has not seen waits for the next training.
    """
    trained = latest(instance, dg.AssetKey("checkpoint"), architecture)
    if trained is None:
        return []
    champion, due, made = trained.text("champion"), [], _samples(instance, architecture, trained)
    newest = max((one for one in made.values() if one), key=lambda one: one.storage_id, default=None)
    for genre, sampled in made.items():
        settings = {**_settings(sampled or newest, Wishes), **(wanted or {})}
        if (
            sampled is None
            or sampled.text("run") != champion
            or _settings(sampled, Wishes) != settings
            or not paths.samples(architecture, genre).exists()
        ):
            partition = dg.MultiPartitionKey({"architecture": architecture, "genre": genre})
            key = f"{partition}:{champion}:{trained.storage_id}:{_event(sampled)}"
            due.append(Due(partition, key, settings))
    return due


def reports_due(instance: dg.DagsterInstance, paths: DataPaths, architecture: str) -> dict[str, Mapping[str, Any]]:
    """Find the measures that are not of the champion and its samples, and with them the page that shows them.

    Each with the settings that it was made with last.
    """
    trained = latest(instance, dg.AssetKey("checkpoint"), architecture)
    if trained is None:
        return {}
    champion, folder = trained.text("champion"), paths.evaluation(architecture)
    sampled = max((one.storage_id for one in _samples(instance, architecture, trained).values() if one), default=0)

    def is_due(asset: str, file: str, after: int) -> bool:
        made = latest(instance, dg.AssetKey(asset), architecture)
        return made is None or made.text("run") != champion or made.storage_id < after or not (folder / file).exists()

    after = {**dict.fromkeys(MEASURES_OF_MODEL, 0), **dict.fromkeys(MEASURES_OF_SAMPLES, sampled)}
    due = [measure for measure, inputs in after.items() if is_due(measure, f"{measure}.json", inputs)]
    heard = latest(instance, dg.AssetKey("listening_report"), architecture)
    if heard and "listening_report" not in due and heard.text("ratings_file") != ratings_file(paths, architecture):
        due.append("listening_report")
    measured = [latest(instance, dg.AssetKey(measure), architecture) for measure in after]
    newest = max([sampled, *(one.storage_id for one in measured if one)])
    if due or is_due("evaluation_report", "report.html", newest):
        due.append("evaluation_report")
    kinds: dict[str, type[Settings]] = {"evaluation_report": ReportSettings}
    return {
        asset: _settings(latest(instance, dg.AssetKey(asset), architecture), kinds.get(asset, EvaluationSettings))
        for asset in due
    }


def ratings_file(paths: DataPaths, architecture: str) -> str:
    """Tells apart what a file of ratings has held, which only grows: its bytes."""
    ratings = ListeningFiles(paths.listening(architecture)).ratings
    return f"{ratings.stat().st_size if ratings.exists() else 0} bytes"


def _samples(
    instance: dg.DagsterInstance, architecture: str, trained: Materialization
) -> dict[str, Materialization | None]:
    """The latest samples of every genre that the champion has seen."""
    return {
        genre: latest(
            instance,
            dg.AssetKey("generated_samples"),
            dg.MultiPartitionKey({"architecture": architecture, "genre": genre}),
        )
        for genre in trained.text("champion_genres").split(", ")
    }


def _settings(made: Materialization | None, kind: type[Settings]) -> dict[str, Any]:
    """The settings that something was made with, but for those that an earlier version had."""
    stored = made.metadata.get("settings") if made else None
    if not isinstance(stored, dg.JsonMetadataValue) or not isinstance(stored.value, dict):
        return {}
    return {name: value for name, value in stored.value.items() if name in kind.model_fields}


def _event(made: Materialization | None) -> str:
    return str(made.storage_id) if made else "first"
