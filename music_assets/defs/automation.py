"""What happens by itself: new files are read, changed genres rewritten, shards follow, models retrain at night.

    drop folder --drop_folder--> raw_midi, midi_index --changed_genres--> genre_pieces --condition--> token_shards
    what could not be read --nightly_reading, nightly_encoding--> raw_midi, midi_index; token_shards
    token_shards --nightly_retraining--> checkpoint --new_checkpoint--> generated_samples --condition--> reports

What is out of date is said by :mod:`music_assets.defs.due`.
"""

import functools
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from music_assets.corpus.index.build import missing_digest
from music_assets.corpus.reading.scan import pending, tried_again
from music_assets.defs.corpus import genre_pieces, midi_index, raw_midi
from music_assets.defs.due import pieces_due, retraining_due, samples_due, shards_due
from music_assets.defs.generation import generated_samples
from music_assets.defs.model import checkpoint
from music_assets.defs.partitions import architectures, every_transposition
from music_assets.defs.resources import Data
from music_assets.defs.tokens import token_shards
from music_assets.foundation.errors import MusicAssetsError
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
    requests = [
        dg.RunRequest(run_key=due.key, partition_key=due.partition) for due in pieces_due(context.instance, data.paths)
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
    """Writes the shards that are not of the published pieces: it tries pieces again whose file could not be read."""
    return encodings(context.instance, data.paths) or dg.SkipReason("Every piece is encoded.")


def encodings(instance: dg.DagsterInstance, paths: DataPaths) -> list[dg.RunRequest]:
    """The runs that :func:`nightly_encoding` asks for."""
    return [dg.RunRequest(tags=every_transposition(genre)) for genre in shards_due(instance, paths)]


@dg.schedule(cron_schedule="0 3 * * *", target=checkpoint)
def nightly_retraining(context: dg.ScheduleEvaluationContext, data: Data) -> list[dg.RunRequest] | dg.SkipReason:
    """Trains again, with its last settings, every architecture that was trained before and whose shards changed."""
    return retrainings(context.instance, data.paths) or dg.SkipReason(
        "No shard has changed since an architecture was last trained."
    )


def retrainings(instance: dg.DagsterInstance, paths: DataPaths) -> list[dg.RunRequest]:
    """The runs that :func:`nightly_retraining` asks for."""
    return [
        dg.RunRequest(partition_key=architecture, run_config=_run_config("checkpoint", settings))
        for architecture in architectures.get_partition_keys()
        if (settings := retraining_due(instance, paths, architecture))
    ]


@dg.sensor(target=generated_samples, **_often)
def new_checkpoint(context: dg.SensorEvaluationContext, data: Data) -> dg.SensorResult | dg.SkipReason:
    """Samples every genre that a new champion was trained on, with its last settings; a genre that the champion has not
    seen waits for the next training.
    """
    requests = [
        dg.RunRequest(
            run_key=due.key, partition_key=due.partition, run_config=_run_config("generated_samples", due.settings)
        )
        for architecture in architectures.get_partition_keys()
        for due in samples_due(context.instance, data.paths, architecture)
    ]
    return dg.SensorResult(requests) if requests else dg.SkipReason("Every champion's genres have its samples.")


def _run_config(asset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"ops": {asset: {"config": dict(settings)}}}
