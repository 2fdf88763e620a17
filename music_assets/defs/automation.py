"""What happens by itself: new files are read, changed genres rewritten, shards follow, models retrain at night.

    drop folder --drop_folder--> raw_midi, midi_index --changed_genres--> genre_pieces --condition--> token_shards
    what could not be read --nightly_reading, nightly_encoding--> raw_midi, midi_index; token_shards
    token_shards --nightly_retraining--> checkpoint --new_checkpoint--> generated_samples --condition--> reports

The sensors compare states (what lies on disk, what was last materialised), so a missed tick loses nothing.
"""

import functools
from collections.abc import Callable
from itertools import islice
from typing import ParamSpec, TypeVar

import dagster as dg

from music_assets.corpus.index.build import missing_digest
from music_assets.corpus.index.queries import index_summary
from music_assets.corpus.reading.scan import pending, tried_again
from music_assets.defs.corpus import genre_pieces, midi_index, raw_midi, unpublished
from music_assets.defs.generation import generated_samples
from music_assets.defs.model import checkpoint, last_training, needs_training
from music_assets.defs.partitions import architectures, transpositions
from music_assets.defs.resources import Data, latest
from music_assets.defs.tokens import token_shards, unfinished
from music_assets.foundation.errors import MusicAssetsError
from music_assets.models.registry import ARCHITECTURES
from music_assets.paths import DataPaths

SETTLE_SECONDS = 10.0
"""A file that changed more recently may still be copied: it waits for a later tick."""

_SETTLED = {"ops": {"raw_midi": {"config": {"settle_seconds": SETTLE_SECONDS}}}}

P = ParamSpec("P")
R = TypeVar("R")


def user_errors_as_skips(sensor: Callable[P, R]) -> Callable[P, R | dg.SkipReason]:
    """Say in one sentence why nothing happens, as a run would, and look again at the next tick."""

    @functools.wraps(sensor)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R | dg.SkipReason:
        try:
            return sensor(*args, **kwargs)
        except MusicAssetsError as error:
            return dg.SkipReason(str(error))

    return wrapped


_often = {"minimum_interval_seconds": 30, "default_status": dg.DefaultSensorStatus.RUNNING}

ingest = dg.define_asset_job(
    "ingest",
    selection=[raw_midi, midi_index],
    description="Reads what is new in the drop folder and brings the index up to date.",
)

conditions = dg.AutomationConditionSensorDefinition(
    "conditions",
    target=dg.AssetSelection.all(),
    description="Materialises what follows its inputs by its automation condition: token shards, and the reports.",
    **_often,
)


@dg.sensor(job=ingest, **_often)
@user_errors_as_skips
def drop_folder(data: Data) -> dg.RunRequest | dg.SkipReason:
    """Watches `data/raw` for new, changed and removed MIDI files, and the label files, and has them read once their
    copying has ended.
    """
    paths = data.paths
    changes = pending(paths.raw, paths.files, SETTLE_SECONDS)
    if not changes.count:
        if paths.files.exists() and (digest := missing_digest(paths)):
            # with the time of the index in the key, labels may also return to what they once were
            built = paths.index.stat().st_mtime_ns if paths.index.exists() else 0
            return dg.RunRequest(run_key=f"index:{digest}:{built}")
        waiting = f"; {changes.unsettled} files may still be copied" if changes.unsettled else ""
        hidden = ", ".join(path or "data/raw" for path in islice(changes.unseen, 3))
        unseen = f"; it cannot look into {hidden}" if hidden else ""
        return dg.SkipReason(f"No change under data/raw{waiting}{unseen}.")
    return dg.RunRequest(
        run_key=changes.digest,
        run_config=_SETTLED,
        tags={"new": str(changes.new), "changed": str(changes.changed), "removed": str(changes.removed)},
    )


@dg.sensor(target=genre_pieces, **_often)
@user_errors_as_skips
def changed_genres(context: dg.SensorEvaluationContext, data: Data) -> dg.SensorResult | dg.SkipReason:
    """Publishes every genre whose pieces in the index differ from those last published, and no other."""
    summary = index_summary(data.paths.index)
    requests = [
        # With the event that it replaces in the key, a genre may also return to what it once was.
        dg.RunRequest(
            run_key=f"{genre}:{summary.rows_hash(genre)}:{published.storage_id if published else 'first'}",
            partition_key=genre,
        )
        for genre, published in unpublished(context.instance, summary)
    ]
    return dg.SensorResult(requests) if requests else dg.SkipReason("Every genre is published as indexed.")


@dg.schedule(cron_schedule="0 1 * * *", job=ingest, default_status=dg.DefaultScheduleStatus.RUNNING)
def nightly_reading(data: Data) -> dg.RunRequest | dg.SkipReason:
    """Tries files again that could not be read: a disk may be back, and permissions may be mended."""
    if not tried_again(data.paths.files):
        return dg.SkipReason("Every file has been read.")
    return dg.RunRequest(run_config=_SETTLED)


@dg.schedule(cron_schedule="0 2 * * *", target=token_shards, default_status=dg.DefaultScheduleStatus.RUNNING)
def nightly_encoding(context: dg.ScheduleEvaluationContext, data: Data) -> list[dg.RunRequest] | dg.SkipReason:
    """Tries pieces again whose file could not be read when their shards were written."""
    return encodings(context.instance, data.paths) or dg.SkipReason("Every piece is encoded.")


def encodings(instance: dg.DagsterInstance, paths: DataPaths) -> list[dg.RunRequest]:
    """The runs that :func:`nightly_encoding` asks for."""
    first, *_, last = transpositions.get_partition_keys()
    ends = {"start": first, "end": last}
    return [
        dg.RunRequest(tags={f"dagster/asset_partition_range_{end}": f"{genre}|{key}" for end, key in ends.items()})
        for genre in unfinished(instance, paths)
    ]


@dg.schedule(cron_schedule="0 3 * * *", target=checkpoint)
def nightly_retraining(context: dg.ScheduleEvaluationContext, data: Data) -> list[dg.RunRequest] | dg.SkipReason:
    """Trains again, with its last settings, every architecture that was trained before and whose shards changed."""
    return retrainings(context.instance, data.paths) or dg.SkipReason(
        "No shard has changed since an architecture was last trained."
    )


def retrainings(instance: dg.DagsterInstance, paths: DataPaths) -> list[dg.RunRequest]:
    """The runs that :func:`nightly_retraining` asks for."""
    return [
        dg.RunRequest(partition_key=architecture, run_config={"ops": {"checkpoint": {"config": last.training}}})
        for architecture in architectures.get_partition_keys()
        for last in [last_training(instance, paths, architecture)]
        if last is not None and needs_training(instance, paths, last)
    ]


@dg.sensor(target=generated_samples, **_often)
def new_checkpoint(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Samples every genre that a new champion was trained on; a genre it has not seen waits for the next training."""
    requests = []
    for architecture in (name for name, one in ARCHITECTURES.items() if one.can_be_sampled):
        trained = latest(context.instance, checkpoint.key, architecture)
        if trained is None:
            continue
        champion = trained.text("champion")
        for genre in trained.text("champion_genres").split(", "):
            partition = dg.MultiPartitionKey({"architecture": architecture, "genre": genre})
            sampled = latest(context.instance, generated_samples.key, partition)
            if sampled is None or sampled.text("run") != champion:
                key = f"{partition}:{champion}:{trained.storage_id}"
                requests.append(dg.RunRequest(run_key=key, partition_key=partition))
    return dg.SensorResult(requests) if requests else dg.SkipReason("Every champion's genres have its samples.")
