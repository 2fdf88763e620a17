"""Training runs in MLflow: settings, curves over tokens, data, machine, samples, registered models."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import polars as pl

from music_assets.checkpoints.runs import CheckpointFacts, ShardFacts, dataset_hash, read_facts
from music_assets.paths import DataPaths, file_name
from music_assets.training.champion import Decision
from music_assets.training.mlflow_store import TrackingUnreachable, open_client, tracking_errors, tracking_uri
from music_assets.training.model_card import model_card
from music_assets.training.progress import TrainingProgress

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "music-assets"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI then shows training, not chat, pages
CHAMPION = "champion"
ROOT_RUN = "dagster.root_run_id"
_SYSTEM_METRICS_SECONDS = 5
_BATCH = 1000  # points that a store takes at once
_RETRY_SECONDS = 20  # between two attempts to reach a store that does not answer

_logger = logging.getLogger(__name__)


def model_name(architecture: str) -> str:
    """Name of an architecture's registered model."""
    return f"music-assets-{architecture}"


class Tracking:
    """An MLflow store and the experiment that holds all runs of this data folder."""

    def __init__(self, paths: DataPaths) -> None:
        """Open the store; the first time, make it.

        Raises:
            TrackingUnreachable: it does not answer, or it cannot be used.
        """
        self.uri = tracking_uri(paths)
        if self.uri.startswith("sqlite"):
            paths.mlflow.mkdir(parents=True, exist_ok=True)
        with self._reachable():
            self.client = open_client(self.uri)
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
            self.experiment_id = (
                experiment.experiment_id
                if experiment
                else self.client.create_experiment(EXPERIMENT, self._artifacts(paths), _KIND)
            )

    def _artifacts(self, paths: DataPaths) -> str | None:
        """Where the experiment's files go: with a database, into the data folder; a server decides for itself."""
        return None if self.uri.startswith("http") else (paths.mlflow / "artifacts").as_uri()

    @contextmanager
    def run(
        self, architecture: str, preset: str = "tiny", tags: Mapping[str, str] | None = None
    ) -> Iterator["TrackedRun"]:
        """A run that ends with the block: as finished, or as failed or killed if an exception or interrupt leaves it.

        A run of this architecture with the same tag ``dagster.root_run_id`` is taken up again, so that what a
        killed process began becomes one history. System metrics are recorded throughout.

        Raises:
            TrackingUnreachable: the store does not answer, or cannot be used.
        """
        tags = {**(tags or {}), "architecture": architecture, "preset": preset}
        with self._reachable():
            run_id = self._unfinished(tags) or self._create(f"{architecture}-{preset}", tags)
        with self._system_metrics(run_id):
            tracked = self.attach(run_id)
            try:
                yield tracked
                tracked.flush()
            except BaseException as error:
                with suppress(Exception):  # the store may be what failed
                    self.client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
                raise
        with self._reachable():
            self.client.set_terminated(run_id, "FINISHED")

    def attach(self, run_id: str) -> "TrackedRun":
        """A run that another process began and will end."""
        return TrackedRun(self.client, self.experiment_id, run_id)

    def _reachable(self) -> AbstractContextManager[None]:
        return tracking_errors(self.uri)

    def log_artifacts(self, run_id: str, folder: Path, artifact_path: str | None = None) -> None:
        """Copy a folder's content into a run, under ``artifact_path``."""
        with self._reachable():
            self.client.log_artifacts(run_id, str(folder), artifact_path)

    def log_artifact(self, run_id: str, file: Path, artifact_path: str | None = None) -> None:
        """Copy a file into a run, into the folder ``artifact_path``."""
        with self._reachable():
            self.client.log_artifact(run_id, str(file), artifact_path)

    def has_run(self, run_id: str | None) -> TypeGuard[str]:
        """Whether the store holds this run; it may have been deleted."""
        with self._reachable():
            return bool(run_id) and bool(self.client.search_runs([self.experiment_id], f"run_id = '{run_id}'"))

    def curve(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """A metric's points (training tokens, value) in order; empty if the run has none."""
        with self._reachable():
            history = self.client.get_metric_history(run_id, metric)
        return sorted((point.step, point.value) for point in history)

    def _unfinished(self, tags: Mapping[str, str]) -> str | None:
        if ROOT_RUN not in tags:
            return None
        same = f"tags.`{ROOT_RUN}` = '{tags[ROOT_RUN]}' and tags.architecture = '{tags['architecture']}'"
        found = self.client.search_runs([self.experiment_id], same, max_results=1)
        if not found:
            return None
        run_id = found[0].info.run_id
        self.client.update_run(run_id, status="RUNNING")
        for key, value in tags.items():
            self.client.set_tag(run_id, key, value)
        return run_id

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        name = f"{name} {datetime.now().astimezone():%Y-%m-%d %H:%M}"
        return self.client.create_run(self.experiment_id, tags=dict(tags), run_name=name).info.run_id

    @contextmanager
    def _system_metrics(self, run_id: str) -> Iterator[None]:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with self._reachable():
            monitor = SystemMetricsMonitor(
                run_id, sampling_interval=_SYSTEM_METRICS_SECONDS, resume_logging=True, tracking_uri=self.uri
            )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()


class TrackedRun:
    """A run that is going on."""

    def __init__(self, client: "MlflowClient", experiment_id: str, run_id: str) -> None:
        self.id = run_id
        self.experiment_id = experiment_id
        self._client = client
        self._waiting: list[Any] = []  # points that the store has not yet taken
        self._next_attempt = 0.0

    def _reachable(self) -> AbstractContextManager[None]:
        return tracking_errors(self._client.tracking_uri)

    def log_settings(self, **settings: Mapping[str, Any]) -> None:
        """Record configurations as parameters ``<name>.<field>``; those of a resumed run stay."""
        from mlflow.entities import Param

        flat = {f"{name}.{field}": v for name, fields in settings.items() for field, v in fields.items()}
        with self._reachable():
            recorded = self._client.get_run(self.id).data.params
            self._client.log_batch(
                self.id,
                params=[
                    Param(key, value if isinstance(value, str) else json.dumps(value))
                    for key, value in flat.items()
                    if key not in recorded
                ],
            )

    def log_shards(self, shards: Sequence[ShardFacts]) -> None:
        """Record what the run learns from as its input dataset, and as the table ``training/shards.csv``."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.polars_dataset import from_polars
        from mlflow.entities import DatasetInput, InputTag

        table = pl.DataFrame([shard.model_dump() for shard in shards])
        dataset = from_polars(table, CodeDatasetSource({}), name="token_shards", digest=dataset_hash(shards))
        training = InputTag("mlflow.data.context", "training")
        with self._reachable():
            self._client.log_inputs(self.id, [DatasetInput(dataset._to_mlflow_entity(), [training])])
            self._client.log_text(self.id, table.write_csv(), "training/shards.csv")

    def report(self, progress: TrainingProgress) -> None:
        """A point of each curve, over training tokens; a store that does not answer gets it later."""
        from mlflow.entities import Metric

        values = {
            "train/loss": progress.loss,
            "train/learning_rate": progress.learning_rate,
            "train/gradient_norm": progress.gradient_norm,
            "train/tokens_per_second": progress.tokens_per_second,
            "train/waited_for_batches": progress.waited,
            "train/minutes": progress.seconds / 60,
        }
        if progress.score:
            values["valid/bits_per_note"] = progress.score.bits_per_note
            values |= {f"valid/bits_per_note/{file_name(genre)}": b for genre, b in progress.score.by_genre.items()}
            values |= {f"valid/{name}": value for name, value in progress.score.measures.items()}
        now = round(time.time() * 1000)
        self._waiting += [Metric(name, value, now, progress.tokens) for name, value in values.items()]
        if time.monotonic() < self._next_attempt:
            return
        try:
            self.flush()
        except TrackingUnreachable as error:
            self._next_attempt = time.monotonic() + _RETRY_SECONDS
            _logger.warning("%s Training goes on; the curves are kept until then.", error)

    def flush(self) -> None:
        """Send the points that wait.

        Raises:
            TrackingUnreachable: the store does not answer; they go on waiting.
        """
        while self._waiting:
            with self._reachable():
                self._client.log_batch(self.id, metrics=self._waiting[:_BATCH])
            del self._waiting[:_BATCH]

    def log_samples(self, folder: Path, tokens: int) -> None:
        """Copy sound, picture and MIDI of what the network made after ``tokens`` into ``samples/<tokens>``.

        They are left out where the store does not answer.
        """
        if time.monotonic() < self._next_attempt:
            return
        try:
            with self._reachable():
                self._client.log_artifacts(self.id, str(folder), f"samples/{tokens:012d}")
        except TrackingUnreachable as error:
            self._next_attempt = time.monotonic() + _RETRY_SECONDS
            _logger.warning("%s These samples are not kept.", error)

    def link(self, url: str) -> None:
        """Record where people open this run."""
        with self._reachable():
            self._client.set_tag(self.id, "mlflow_url", url)

    def log_environment(self) -> None:
        """Record the installed packages, as ``pip freeze`` lists them, as ``environment/requirements.txt``."""
        found = {f"{one.name}=={one.version}" for one in distributions() if one.name}
        with self._reachable():
            self._client.log_text(
                self.id, "\n".join(sorted(found, key=str.lower)) + "\n", "environment/requirements.txt"
            )

    def register(self, checkpoint: Path, decision: Decision) -> int:
        """Log a checkpoint as a model, register it, and move the alias ``champion`` to it if it won.

        Returns the model's version. Repeated for the same run, it registers nothing twice.

        Raises:
            TrackingUnreachable: the store does not answer.
        """
        with self._reachable():
            return self._register(checkpoint, decision)

    def _register(self, checkpoint: Path, decision: Decision) -> int:
        facts = read_facts(checkpoint)
        name = model_name(facts.architecture)
        registered = self._client.search_model_versions(f"name = '{name}' and run_id = '{self.id}'")
        version = int(registered[0].version if registered else self._new_version(name, checkpoint, facts))
        for key, value in {"decision": decision.reason, **decision.numbers}.items():
            self._client.set_model_version_tag(name, str(version), key, value)
        if decision.won:
            self._client.set_registered_model_alias(name, CHAMPION, str(version))
            self._client.update_registered_model(name, model_card(facts, decision, self._links()))
        self._client.update_model_version(name, str(version), model_card(facts, decision, self._links()))
        return version

    def _links(self) -> dict[str, str]:
        tags = self._client.get_run(self.id).data.tags
        links = {"Dagster run": tags.get("dagster.run_url", ""), "MLflow run": tags.get("mlflow_url", "")}
        return {name: url for name, url in links.items() if url}

    def _new_version(self, name: str, checkpoint: Path, facts: CheckpointFacts) -> str:
        from mlflow.entities import LoggedModelOutput

        bits = "" if facts.bits_per_note is None else f"{facts.bits_per_note:.4f}"
        model = self._client.create_logged_model(
            self.experiment_id,
            name=name,
            source_run_id=self.id,
            tags={"run": facts.run, "genres": ", ".join(facts.genres), "bits_per_note": bits},
            params={name: str(getattr(facts, name)) for name in ("parameters", "tokens", "step")},
            model_type="checkpoint",
        )
        self._client.log_model_artifacts(model.model_id, str(checkpoint))
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(self.id, [LoggedModelOutput(model.model_id, step=facts.tokens)])
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(
                name, description=f"Checkpoints of the {facts.architecture}; `{CHAMPION}` makes the samples."
            )
        version = self._client.create_model_version(
            name,
            model.artifact_location,
            self.id,
            tags={
                "bits_per_note": bits,
                "validation_hash": facts.validation_hash,
                "model_id": model.model_id,
            },
            model_id=model.model_id,
        )
        return version.version
