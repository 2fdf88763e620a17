"""model: token shards to a trained network."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from music_assets.checkpoints.runs import (
    CheckpointError,
    CheckpointFacts,
    champion,
    newest_first,
    read_facts,
    remove_old_runs,
    require_champion,
    unfinished,
    unfinished_run,
)
from music_assets.defs.failures import AssetConfig, end_with_parent, user_errors_as_failures
from music_assets.defs.metadata import curve, table
from music_assets.defs.partitions import GENRES, architectures
from music_assets.defs.resources import Data, Links, latest
from music_assets.defs.tokens import token_shards
from music_assets.foundation.errors import MusicAssetsError
from music_assets.models.registry import ARCHITECTURES
from music_assets.paths import DataPaths
from music_assets.tokens.shards import Shard, read_shard, stored_hash
from music_assets.tokens.transposition import TRANSPOSITIONS
from music_assets.tokens.vocabulary import BadVocabulary, Vocabulary, VocabularyMismatch, read_vocabulary
from music_assets.training.config import TrainingConfig

if TYPE_CHECKING:
    from music_assets.models.network import Network
    from music_assets.training.progress import TrainingProgress, TrainingResult
    from music_assets.training.tracking import TrackedRun

LOG_SECONDS = 20
"""Between two lines of progress, validations aside."""


class CheckpointConfig(AssetConfig, TrainingConfig):
    pass


@dg.asset(
    group_name="model",
    kinds={"torch", "mlflow"},
    partitions_def=architectures,
    deps=[dg.AssetDep(token_shards, partition_mapping=dg.AllPartitionMapping())],
    pool="gpu",
    retry_policy=dg.RetryPolicy(max_retries=2),
    check_specs=[
        dg.AssetCheckSpec(
            "loss_finite_and_falling",
            asset="checkpoint",
            description="The training loss is a finite number and lower at the end than at the beginning.",
        )
    ],
)
@user_errors_as_failures
def checkpoint(
    context: dg.AssetExecutionContext,
    config: CheckpointConfig,
    data: Data,
    links: Links,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """A network trained on the shards of every genre, with its curves, settings and data in MLflow.

    A training that was killed or interrupted goes on where it was last saved: in a retry, or when a training with the
    same settings and shards is asked for. The result becomes the
    architecture's `champion`, which samples and reports use, only if it is better than the one before on the same
    validation pieces. A `pianoroll` learns from the same pieces as rolls, whose steps are counted as tokens; its bits
    per note are those of the roll, and there are no samples and reports of it.
    """
    from music_assets.models.registry import read_config
    from music_assets.training.champion import challenge
    from music_assets.training.loop import train
    from music_assets.training.optimizer import resolve_defaults
    from music_assets.training.precision import choose_device
    from music_assets.training.tracking import Tracking, model_name

    end_with_parent()
    paths, architecture = data.paths, context.partition_key
    settings = TrainingConfig.model_validate(config.model_dump())
    folder = paths.checkpoints(architecture)
    shards = _shards(context, paths)
    vocabulary = _vocabulary(context, folder, {shard.genre for shard in shards})
    run_name = _run_name(context, paths, settings, vocabulary)
    tracking = Tracking(paths)
    tags = {
        "dagster.run_id": context.run.run_id,
        "dagster.root_run_id": run_name,
        "dagster.asset_key": context.asset_key.to_user_string(),
        "dagster.run_url": links.dagster_run_url(context.run.run_id),
    }
    logged = time.monotonic()
    with unfinished(folder / run_name), tracking.run(architecture, settings.preset, tags) as tracked:
        tracked.log_settings(training=resolve_defaults(settings, architecture).model_dump())
        tracked.log_environment()
        tracked.link(links.mlflow_run_url(tracked.experiment_id, tracked.id))
        context.log.info(f"MLflow: {links.mlflow_run_url(tracked.experiment_id, tracked.id)}")

        def report(progress: "TrainingProgress") -> None:
            tracked.report(progress)
            nonlocal logged
            if progress.score or time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                context.log.info(progress.line())

        def on_validation(progress: "TrainingProgress", network: "Network") -> None:
            if settings.samples and ARCHITECTURES[architecture].can_be_sampled:
                _log_samples(tracked, progress, network, vocabulary, folder / run_name / "best", settings)

        if settings.processes > 1:
            _train_together(context, pipes, settings, folder / run_name, vocabulary, shards, tracked, paths)

        result = train(
            architecture,
            settings,
            shards,
            folder / run_name,
            vocabulary=vocabulary,
            report=report,
            on_validation=on_validation,
            mlflow_run_id=tracked.id,
        )
        network = read_config((result.best / "config.json").read_bytes())
        tracked.log_settings(network=network.model_dump())
        tracked.log_shards(result.facts.shards)
        decision = challenge(folder, result.best, result.validation, choose_device(settings.device))
        version = tracked.register(result.best, decision)
        losses, speeds = (tracking.curve(tracked.id, f"train/{name}") for name in ("loss", "tokens_per_second"))
    remove_old_runs(folder)
    context.log.info(decision.reason)
    winner = read_facts(require_champion(folder))
    falling = result.first_loss is not None and result.last_loss is not None and result.last_loss < result.first_loss
    return dg.MaterializeResult(
        metadata={
            "run": run_name,
            "champion": winner.run,
            "champion_genres": ", ".join(winner.genres),
            "decision": decision.reason,
            "bits_per_note": result.facts.bits_per_note if result.facts.bits_per_note is not None else "not measured",
            "tokens": result.tokens,
            "steps": result.steps,
            "minutes": result.minutes,
            "tokens_per_second": _median_speed(speeds, result),
            "parameters": result.facts.parameters,
            **result.facts.measures,
            "loss_over_tokens": curve([tokens for tokens, _ in losses], [loss for _, loss in losses]),
            "bits_per_note_by_genre": table(
                {"genre": genre, "bits_per_note": bits} for genre, bits in result.facts.bits_per_note_by_genre.items()
            ),
            "model": f"{model_name(architecture)} version {version}",
            "mlflow": dg.MetadataValue.url(links.mlflow_run_url(tracked.experiment_id, tracked.id)),
            "path": dg.MetadataValue.path(result.best),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="loss_finite_and_falling",
                passed=falling,
                metadata={"first": result.first_loss or 0.0, "last": result.last_loss or 0.0},
            )
        ],
    )


def _run_name(
    context: dg.AssetExecutionContext, paths: DataPaths, settings: TrainingConfig, vocabulary: Vocabulary
) -> str:
    """Name of the run's folder: the first run of a chain of retries gives it, so that each goes on where the last one
    was killed; but a training that was broken off with the same settings, on the same shards, is gone on with.
    """
    own, folder = context.run.root_run_id or context.run.run_id, paths.checkpoints(context.partition_key)
    if (folder / own).exists():
        return own
    for run in newest_first(folder):
        facts = unfinished_run(run)
        if (
            facts
            and facts.training == settings.model_dump()
            and (run / "latest" / "vocabulary.json").read_text().strip() == vocabulary.to_json()
            and not needs_training(context.instance, paths, facts)
        ):
            context.log.info(f"the training {run.name} goes on at {facts.tokens:,} tokens; to start anew, delete {run}")
            return run.name
    return own


def _median_speed(points: Sequence[tuple[int, float]], result: "TrainingResult") -> float:
    """Of the curve's points; of the whole run, compiling and validation included, if its curve was lost."""
    return statistics.median([speed for _, speed in points] or [result.tokens / (60 * result.minutes)])


def _log_samples(
    tracked: "TrackedRun",
    progress: "TrainingProgress",
    network: "Network",
    vocabulary: Vocabulary,
    best: Path,
    settings: TrainingConfig,
) -> None:
    """A few bars of what the network makes by now, of one genre after the other, to hear and to see in MLflow."""
    from music_assets.checkpoints.storage import Checkpoint
    from music_assets.generation.config import SamplingConfig
    from music_assets.generation.samples import generate_samples

    facts = read_facts(best)
    genre = facts.genres[round(progress.fraction * settings.validations) % len(facts.genres)]
    wanted = SamplingConfig(count=settings.samples, max_bars=4, max_tokens=256, seed=settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        made = generate_samples(Checkpoint(best, network, vocabulary, facts), genre, wanted, Path(folder) / "made", 1)
        tracked.log_samples(made.folder, progress.tokens)


def _train_together(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    settings: TrainingConfig,
    run: Path,
    vocabulary: Vocabulary,
    shards: list[Shard],
    tracked: "TrackedRun",
    paths: DataPaths,
) -> None:
    """Train in several processes of this machine; they leave the finished run in its folder.

    Raises:
        MusicAssetsError: they failed by what a user can mend, in their own words.
        TrainingInterrupted: in theirs too.
    """
    from dagster._core.errors import DagsterExecutionInterruptedError, DagsterPipesExecutionError

    from music_assets.foundation.interrupts import SAVING, TrainingInterrupted
    from music_assets.training.distributed import ERROR, Job

    job = Job(
        architecture=context.partition_key,
        config=settings,
        shards=[paths.shard(shard.genre, shard.transposition) for shard in shards],
        run=run,
        vocabulary=vocabulary.to_json(),
        mlflow_run_id=tracked.id,
        data=paths.root,
        parent=os.getpid(),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(job.model_dump_json())
        command = [sys.executable, "-m", "music_assets.training.torchrun", str(settings.processes), str(file)]
        said = file.with_name(ERROR)
        try:
            with SAVING:
                pipes.run(command=command, context=context.op_execution_context, env={"OMP_NUM_THREADS": "1"})
        except DagsterPipesExecutionError:
            if said.exists():
                raise MusicAssetsError(said.read_text()) from None
            raise
        except (DagsterExecutionInterruptedError, subprocess.TimeoutExpired) as interrupt:
            raise TrainingInterrupted(said.read_text() if said.exists() else "") from interrupt


def _shards(context: dg.AssetExecutionContext, paths: DataPaths) -> list[Shard]:
    """Every stored shard of a current genre.

    Raises:
        MusicAssetsError: there is none.
    """
    stored = [
        read_shard(path)
        for genre in sorted(context.instance.get_dynamic_partitions(GENRES))
        for transposition in TRANSPOSITIONS
        if (path := paths.shard(genre, transposition)).exists()
    ]
    if not stored:
        raise MusicAssetsError("There are no token shards to train on: materialise token_shards first.")
    return stored


def _vocabulary(context: dg.AssetExecutionContext, folder: Path, genres: set[str]) -> Vocabulary:
    """The genres in the slots that the champion gave them, new ones after those.

    Raises:
        CheckpointError: the champion cannot be read.
    """
    best = champion(folder)
    try:
        known = read_vocabulary(best) if best else Vocabulary()
    except VocabularyMismatch as error:
        context.log.warning(f"{error} The genres begin a new order, and this training replaces that champion.")
        known = Vocabulary()
    except BadVocabulary as error:
        raise CheckpointError(
            f"The champion does not say in which order genres have their ids ({error}): put its file back, or delete "
            f"{folder / 'champion.json'} to begin a new order."
        ) from error
    return known.with_genres(sorted(genres))


def last_training(instance: dg.DagsterInstance, paths: DataPaths, architecture: str) -> CheckpointFacts | None:
    """What the last training of an architecture says of itself; None if there is none, or its folder is gone."""
    event = latest(instance, checkpoint.key, architecture)
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
    return facts if facts and not needs_training(instance, paths, facts) else None


def needs_training(instance: dg.DagsterInstance, paths: DataPaths, last: CheckpointFacts) -> bool:
    """Whether a shard that the last training would read today differs from what it read."""
    chosen = last.training["transpositions"] or list(TRANSPOSITIONS)
    now = {
        (genre, transposition): content
        for genre in instance.get_dynamic_partitions(GENRES)
        for transposition in chosen
        if (content := stored_hash(paths.shard(genre, transposition)))
    }
    return now != {(shard.genre, shard.transposition): shard.hash for shard in last.shards}
