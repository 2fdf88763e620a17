"""The whole graph in one go, without a daemon: what `make demo` runs. Each step is a run that the Dagster UI shows."""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster._core.storage.tags import MAX_RETRIES_TAG

from music_assets.definitions import defs
from music_assets.defs.due import pieces_due, reports_due, samples_due, shards_due, training_due, training_settings
from music_assets.defs.failures import PROCESS
from music_assets.defs.partitions import GENRES, every_transposition
from music_assets.defs.processes import fail_abandoned_runs, own_process
from music_assets.foundation.errors import MusicAssetsError
from music_assets.models.registry import find_architecture
from music_assets.paths import DataPaths
from music_assets.training.settings import TrainingSettings


def run_pipeline(
    architecture: str, preset: str | None, minutes: float | None, samples: int | None, retrain: bool = False
) -> Path:
    """Materialise what is not up to date, for every genre and one architecture, in order; returns the report's path.

    A training is left out if no shard has changed since the last one, unless ``retrain``, or ``preset`` or ``minutes``
    are given and differ from the last time; without them it repeats the last settings. One that was interrupted is
    gone on with. Samples are left out if they are the champion's already, made with the last settings (but for
    ``samples`` a genre, if given), and reports if they are of these samples.

    Raises:
        KeyboardInterrupt: a step was interrupted; the message is for people.
        MusicAssetsError: a step failed by what a user can mend, in the step's own words, or there is no such
            architecture or preset.
    """
    chosen = find_architecture(architecture)
    chosen.preset(preset or "tiny")  # refuses what it does not know before any work is done
    given = {name: value for name, value in (("preset", preset), ("minutes", minutes)) if value is not None}
    paths = DataPaths.from_environment()
    with dg.DagsterInstance.get() as instance:
        fail_abandoned_runs(instance)
        run = AssetRunner(instance)
        bring_shards_up_to_date(instance)
        settings = training_settings(instance, paths, architecture, given)
        if retrain or training_due(instance, paths, architecture, settings):
            run("checkpoint", partition=architecture, config=settings)
        else:
            print(f"checkpoint [{architecture}] is up to date: no shard has changed since the last training")
        unsampled = samples_due(instance, paths, architecture, {"count": samples} if samples else {})
        for due in unsampled:
            run("generated_samples", partition=due.partition, config=due.settings)
        reports = reports_due(instance, paths, architecture)
        if reports:
            run(*reports, partition=architecture, configs=reports)
        if not unsampled and not reports:
            print(f"samples and reports [{architecture}] are up to date with the champion")
    return paths.evaluation(architecture) / "report.html"


def run_index(*assets: str) -> None:
    """Materialise assets up to ``midi_index``, and publish the genres whose pieces changed.

    Raises:
        KeyboardInterrupt: a step was interrupted; the message is for people.
        MusicAssetsError: a step failed by what a user can mend, in the step's own words.
    """
    with dg.DagsterInstance.get() as instance:
        fail_abandoned_runs(instance)
        _index(instance, *assets)


def run_comparison(
    architectures: Sequence[str], preset: str | None, minutes: float, seed: int, retrain: bool = False
) -> str:
    """Train each architecture for the same minutes on the same shards, as runs that the Dagster UI shows; returns the
    table in Markdown, which is also ``data/evaluation/comparison.md`` and, for programs, ``comparison.json``.

    One whose last training was this already is not trained again unless ``retrain``; one that was interrupted is gone
    on with. Each may become its architecture's champion, as after any training. The n-gram counts the same training
    pieces.

    Raises:
        KeyboardInterrupt: a step was interrupted; the message is for people.
        MusicAssetsError: a step failed by what a user can mend, in the step's own words, there is no such
            architecture or preset, or no test piece to compare on.
    """
    from music_assets.evaluation.architectures import require_comparable
    from music_assets.tokens.shards import read_shard

    for architecture in architectures:
        find_architecture(architecture).preset(preset or "tiny")
    paths = DataPaths.from_environment()
    settings = TrainingSettings(minutes=minutes, preset=preset or "tiny", seed=seed).model_dump()
    with dg.DagsterInstance.get() as instance:
        fail_abandoned_runs(instance)
        run = AssetRunner(instance)
        bring_shards_up_to_date(instance)
        genres = sorted(instance.get_dynamic_partitions(GENRES))
        require_comparable(architectures, [read_shard(paths.shard(genre, "original")) for genre in genres])
        for architecture in architectures:
            if retrain or training_due(instance, paths, architecture, settings):
                run("checkpoint", partition=architecture, config=settings)
            else:
                print(f"checkpoint [{architecture}] is up to date: it was last trained like this, on these shards")
        run("comparison", config={"architectures": list(architectures)})
    return paths.comparison.read_text()


def bring_shards_up_to_date(instance: dg.DagsterInstance) -> None:
    """Index the drop folder, publish what changed, and write the shards that are not of it."""
    _index(instance, "raw_midi", "midi_index")
    run = AssetRunner(instance)
    due = shards_due(instance, DataPaths.from_environment())
    for genre in due:
        run("token_shards", partition=genre, tags=every_transposition(genre))
    if not due:
        print("token_shards are up to date")


def _index(instance: dg.DagsterInstance, *assets: str) -> None:
    run = AssetRunner(instance)
    run(*assets)
    for due in pieces_due(instance, DataPaths.from_environment()):
        run("genre_pieces", partition=due.partition)


class AssetRunner:
    """Materialises assets in this process, and prints what they say, the seconds and the memory they took."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.job = defs.resolve_implicit_global_asset_job_def()

    def __call__(
        self,
        *assets: str,
        partition: str | None = None,
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Materialise assets in one run.

        Args:
            assets: their names.
            partition: of all of them; where the tags name a range of partitions, what to call it.
            tags: of the run.
            config: settings of all of them.
            configs: settings of each, where they differ.

        Raises:
            KeyboardInterrupt: it was interrupted; the message is for people.
            MusicAssetsError: it failed by what a user can mend.
            RuntimeError: it failed by a bug, with its traceback in words.
        """
        name = " + ".join(assets) + (f" [{partition}]" if partition else "")
        configs = configs or dict.fromkeys(assets, config or {})
        print(name, flush=True)
        began = time.monotonic()
        with _PeakMemory() as memory:
            result = self.job.execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(asset) for asset in assets],
                partition_key=None if tags else partition,
                # a daemon beside it is not to start it again
                tags={PROCESS: own_process(), MAX_RETRIES_TAG: "0", **(tags or {})},
                run_config={
                    "loggers": {"plain": {"config": {}}},
                    "ops": {asset: {"config": dict(own)} for asset, own in configs.items() if own},
                },
                raise_on_error=False,
            )
        if not result.success:
            run = self.instance.get_run_by_id(result.run_id)
            if run and run.status is dg.DagsterRunStatus.CANCELED:
                raise KeyboardInterrupt(_said(result))
            raise _failed(name, result)
        print(f"  {time.monotonic() - began:.1f} s, peak memory {memory.peak / 2**30:.2f} GiB", flush=True)


class _PeakMemory:
    """Peak resident memory in bytes of this process and its children while the block runs, looked at often."""

    def __enter__(self) -> "_PeakMemory":
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            total = 0
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += one.memory_info().rss
            self.peak = max(self.peak, total)
            if self._over.wait(0.1):
                return


def _failed(name: str, result: dg.ExecuteInProcessResult) -> Exception:
    """The error of a step that failed: one sentence for what a user can mend; a bug keeps its traceback."""
    if reason := _said(result):
        return MusicAssetsError(f"{name} failed: {reason}")
    errors = [event.step_failure_data.error for event in _failures(result)]
    said = "\n".join(error.to_string() for error in errors if error)
    return RuntimeError(f"{name} failed: {said or 'see the run in the Dagster UI.'}")


def _said(result: dg.ExecuteInProcessResult) -> str:
    """The sentence of the step that ended in one; empty if it ended otherwise."""
    said = [event.step_failure_data.user_failure_data for event in _failures(result)]
    return next((data.description for data in said if data and data.description), "")


def _failures(result: dg.ExecuteInProcessResult) -> Sequence[dg.DagsterEvent]:
    return result.filter_events(lambda event: event.is_step_failure)
