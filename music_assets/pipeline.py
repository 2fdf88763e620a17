"""The whole graph in one go, without a daemon: what `make demo` runs. Each step is a run that the Dagster UI shows."""

import contextlib
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster._core.storage.tags import MAX_RETRIES_TAG

from music_assets.checkpoints.runs import CheckpointFacts, read_facts, require_champion
from music_assets.corpus.index.queries import index_summary
from music_assets.definitions import defs
from music_assets.defs.corpus import unpublished
from music_assets.defs.evaluation import consistency_report
from music_assets.defs.failures import PROCESS
from music_assets.defs.generation import generated_samples
from music_assets.defs.model import checkpoint, interrupted_training, last_training, needs_training
from music_assets.defs.partitions import GENRES, transpositions
from music_assets.defs.resources import latest
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.publishing import publish
from music_assets.models.registry import find_architecture
from music_assets.paths import DataPaths
from music_assets.training.config import TrainingConfig


def run_pipeline(
    architecture: str, preset: str | None, minutes: float | None, samples: int, retrain: bool = False
) -> Path:
    """Materialise what is not up to date, for every genre and one architecture, in order; returns the report's path.

    A training is left out if no shard has changed since the last one, unless ``retrain``, or ``preset`` or ``minutes``
    are given and differ from the last time; without them it repeats the last settings. One that was interrupted is
    gone on with. Samples and reports are left out if they are the champion's already.

    Raises:
        KeyboardInterrupt: a step was interrupted; the message is for people.
        MusicAssetsError: a step failed by what a user can mend, in the step's own words, or there is no such
            architecture or preset, or no samples of it.
    """
    chosen = find_architecture(architecture)
    chosen.preset(preset or "tiny")  # refuses what it does not know before any work is done
    chosen.require_sampling()
    given = {name: value for name, value in (("preset", preset), ("minutes", minutes)) if value is not None}
    paths = DataPaths.from_environment()
    report = paths.evaluation(architecture) / "report.html"
    with dg.DagsterInstance.get() as instance:
        bury_dead_runs(instance)
        step = _Steps(instance)
        bring_shards_up_to_date(instance)
        begun, trained = (
            interrupted_training(instance, paths, architecture),
            last_training(instance, paths, architecture),
        )
        last = begun or trained
        settings = (last.training if last else {}) | given
        goes_on = begun is not None and settings == begun.training
        if goes_on or retrain or not _is_trained(instance, paths, trained, settings):
            step("checkpoint", partition=architecture, config={"checkpoint": settings})
        else:
            print(f"checkpoint [{architecture}] is up to date: no shard has changed since the last training")

        champion = read_facts(require_champion(paths.checkpoints(architecture)))
        due = [
            genre
            for genre in champion.genres
            for made in [latest(instance, generated_samples.key, f"{architecture}|{genre}")]
            if made is None
            or (made.text("run"), made.text("samples")) != (champion.run, str(samples))
            or not paths.samples(architecture, genre).exists()
        ]
        for genre in due:
            count = {"generated_samples": {"count": samples}}
            step("generated_samples", partition=f"{architecture}|{genre}", config=count)
        reported = latest(instance, consistency_report.key, architecture)
        if due or reported is None or reported.text("run") != champion.run or not report.exists():
            step("likelihood", "feature_stats", "copy_report", "consistency_report", partition=architecture)
        else:
            print(f"samples and reports [{architecture}] are up to date with the champion {champion.run}")
    return report


def _is_trained(
    instance: dg.DagsterInstance, paths: DataPaths, trained: CheckpointFacts | None, settings: Mapping[str, Any]
) -> bool:
    """Whether the last training had these settings, and no shard has changed since."""
    return trained is not None and settings == trained.training and not needs_training(instance, paths, trained)


def run_index(*assets: str) -> None:
    """Materialise assets up to ``midi_index``, and publish the genres whose pieces changed.

    Raises:
        KeyboardInterrupt: a step was interrupted; the message is for people.
        MusicAssetsError: a step failed by what a user can mend, in the step's own words.
    """
    with dg.DagsterInstance.get() as instance:
        bury_dead_runs(instance)
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
    from music_assets.checkpoints.storage import load_checkpoint
    from music_assets.evaluation.architectures import as_json, compare_architectures, markdown, require_comparable
    from music_assets.evaluation.config import EvaluationConfig
    from music_assets.tokens.shards import read_shard

    for architecture in architectures:
        find_architecture(architecture).preset(preset or "tiny")
    paths = DataPaths.from_environment()
    with dg.DagsterInstance.get() as instance:
        bury_dead_runs(instance)
        step = _Steps(instance)
        bring_shards_up_to_date(instance)
        genres = sorted(instance.get_dynamic_partitions(GENRES))
        shards = [read_shard(paths.shard(genre, "original")) for genre in genres]
        require_comparable(architectures, shards)
        trained = []
        for architecture in architectures:
            settings = TrainingConfig(minutes=minutes, preset=preset or "tiny", seed=seed).model_dump()
            trained_before = last_training(instance, paths, architecture)
            if retrain or not _is_trained(instance, paths, trained_before, settings):
                step("checkpoint", partition=architecture, config={"checkpoint": settings})
            else:
                print(f"checkpoint [{architecture}] is up to date: it was last trained like this, on these shards")
            made = latest(instance, checkpoint.key, architecture)
            assert made is not None
            best = paths.checkpoints(architecture) / made.text("run") / "best"
            trained.append((load_checkpoint(best), float(made.text("tokens_per_second"))))
    rows = compare_architectures(trained, shards, EvaluationConfig())
    for path, text in (
        (paths.comparison, markdown(rows)),
        (paths.comparison.with_suffix(".json"), as_json(rows)),
    ):
        with publish(path) as fresh:
            fresh.write_text(text)
    return markdown(rows)


def bring_shards_up_to_date(instance: dg.DagsterInstance) -> None:
    """Index the drop folder and write every genre's shards, where they are not up to date."""
    _index(instance, "raw_midi", "midi_index")
    step = _Steps(instance)
    genres = sorted(instance.get_dynamic_partitions(GENRES))
    names = transpositions.get_partition_keys()
    for genre in genres:
        step("token_shards", partition=genre, partition_range=(f"{genre}|{names[0]}", f"{genre}|{names[-1]}"))


def _index(instance: dg.DagsterInstance, *assets: str) -> None:
    step = _Steps(instance)
    step(*assets)
    for genre, _ in unpublished(instance, index_summary(DataPaths.from_environment().index)):
        step("genre_pieces", partition=genre)


def bury_dead_runs(instance: dg.DagsterInstance) -> None:
    """Give back what runs of this module held whose process was killed: no daemon looks after them."""
    alive = _processes()
    for run in _open_runs(instance):
        process = run.tags[PROCESS]
        if process.startswith(_host()) and process not in alive:
            instance.report_run_failed(run, "The process was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def cancel_own_runs() -> None:
    """The same for the runs of this process, which is about to be killed."""
    with dg.DagsterInstance.get() as instance:
        for run in _open_runs(instance):
            if run.tags[PROCESS] == _own_process():
                instance.report_run_canceled(run, "It was interrupted.")
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _open_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs of this module that have not ended."""
    ended = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    wanted = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in ended])
    runs = [record.dagster_run for record in instance.get_run_records(wanted)]
    return [run for run in runs if PROCESS in run.tags]


def _processes() -> set[str]:
    return {f"{_host()}{one.pid}:{one.info['create_time']:.2f}" for one in psutil.process_iter(["create_time"])}


def _own_process() -> str:
    process = psutil.Process()
    return f"{_host()}{process.pid}:{process.create_time():.2f}"


def _host() -> str:
    return f"{socket.gethostname()}:"  # runs of other machines may share the instance


class _Steps:
    """Runs assets in this process, and prints what they say, the seconds and the memory they took."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.job = defs.resolve_implicit_global_asset_job_def()

    def __call__(
        self,
        *assets: str,
        partition: str | None = None,
        partition_range: tuple[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        name = " + ".join(assets) + (f" [{partition}]" if partition else "")
        print(name, flush=True)
        tags = {PROCESS: _own_process(), MAX_RETRIES_TAG: "0"}  # a daemon beside it is not to start it again
        if partition_range:
            tags |= {
                "dagster/asset_partition_range_start": partition_range[0],
                "dagster/asset_partition_range_end": partition_range[1],
            }
        began = time.monotonic()
        with _PeakMemory() as memory:
            result = self.job.execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(asset) for asset in assets],
                partition_key=None if partition_range else partition,
                tags=tags,
                run_config={
                    "loggers": {"plain": {"config": {}}},
                    "ops": {asset: {"config": dict(values)} for asset, values in (config or {}).items()},
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
