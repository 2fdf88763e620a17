"""model: token shards to a trained network."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from music_assets.checkpoints.runs import (
    CheckpointError,
    champion,
    newest_first,
    read_facts,
    remove_old_runs,
    require_champion,
    unfinished,
    unfinished_run,
)
from music_assets.defs.due import shards_changed
from music_assets.defs.failures import AssetConfig, end_with_parent, user_errors_as_failures
from music_assets.defs.metadata import curve, table
from music_assets.defs.partitions import GENRES, architectures
from music_assets.defs.resources import Data, Links
from music_assets.defs.tokens import token_shards
from music_assets.foundation.errors import MusicAssetsError
from music_assets.paths import DataPaths
from music_assets.tokens.shards import Shard, read_shard
from music_assets.tokens.transposition import TRANSPOSITIONS
from music_assets.tokens.vocabulary import FINGERPRINT, BadVocabulary, Vocabulary, VocabularyMismatch, read_vocabulary
from music_assets.training.settings import TrainingSettings

if TYPE_CHECKING:
    from music_assets.models.network import Network
    from music_assets.training.progress import TrainingProgress, TrainingResult
    from music_assets.training.tracking import TrackedRun

LOG_SECONDS = 20
"""Between two lines of progress, validations aside."""


class CheckpointConfig(AssetConfig, TrainingSettings):
    """What a training may be told in the launchpad."""


@dataclass(frozen=True)
class Training:
    """What a run trains: ``folder`` is the run's own."""

    architecture: str
    settings: TrainingSettings
    shards: list[Shard]
    vocabulary: Vocabulary
    folder: Path


@dg.asset(
    group_name="model",
    kinds={"torch", "mlflow"},
    code_version=f"vocabulary {FINGERPRINT}, trainer 1",
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
    same settings and shards is asked for. The result becomes the architecture's `champion`, which samples and reports
    use, only if it is better than the one before. Both draw a few samples of every genre, the same seed for both.
    Where the 95% intervals of `genre_consistency` (0% is chance, 100% real validation pieces; what instruments play
    does not count) do not overlap, the one whose genre is heard better wins; otherwise the one that needs fewer bits
    per note of the same validation pieces. `decision` says which it was. A `pianoroll` learns from the same pieces as
    rolls, whose steps are counted as tokens; its bits per note are those of the roll.
    """
    from music_assets.evaluation.audition import Audition
    from music_assets.training.champion import challenge
    from music_assets.training.precision import choose_device
    from music_assets.training.tracking import Tracking, model_name

    end_with_parent()
    paths, architecture = data.paths, context.partition_key
    folder, tracking = paths.checkpoints(architecture), Tracking(paths)
    training = _training(context, paths, TrainingSettings.model_validate(config.model_dump()))
    tags = {
        "dagster.run_id": context.run.run_id,
        "dagster.root_run_id": training.folder.name,
        "dagster.asset_key": context.asset_key.to_user_string(),
        "dagster.run_url": links.dagster_run_url(context.run.run_id),
    }
    with unfinished(training.folder), tracking.run(architecture, training.settings.preset, tags) as tracked:
        url = links.mlflow_run_url(tracked.experiment_id, tracked.id)
        tracked.link(url)
        context.log.info(f"MLflow: {url}")
        result = _train(context, pipes, paths, training, tracked)
        device = choose_device(training.settings.device)
        judge = Audition(training.shards, device, context.log.info)
        decision = challenge(folder, result.best, result.validation, device, judge)
        version = tracked.register(result.best, decision)
        losses, speeds = (tracking.curve(tracked.id, f"train/{name}") for name in ("loss", "tokens_per_second"))
    remove_old_runs(folder)
    context.log.info(decision.reason)
    winner = read_facts(require_champion(folder))
    return dg.MaterializeResult(
        metadata={
            "run": training.folder.name,
            "champion": winner.run,
            "champion_genres": ", ".join(winner.genres),
            "decision": decision.reason,
            **decision.numbers,
            **_result_metadata(result),
            "tokens_per_second": _median_speed(speeds, result),
            "loss_over_tokens": curve([tokens for tokens, _ in losses], [loss for _, loss in losses]),
            "model": f"{model_name(architecture)} version {version}",
            "settings": dg.MetadataValue.json(training.settings.model_dump()),
            "mlflow": dg.MetadataValue.url(url),
        },
        check_results=[_loss_check(result)],
    )


def _training(context: dg.AssetExecutionContext, paths: DataPaths, settings: TrainingSettings) -> Training:
    """Resolve what this run trains, and in which folder."""
    folder, shards = paths.checkpoints(context.partition_key), _shards(context, paths)
    vocabulary = _vocabulary(context, folder, {shard.genre for shard in shards})
    run_name = _run_name(context, paths, settings, vocabulary)
    return Training(context.partition_key, settings, shards, vocabulary, folder / run_name)


def _train(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    paths: DataPaths,
    training: Training,
    tracked: "TrackedRun",
) -> "TrainingResult":
    """Train, in several processes if wanted, with progress in the log and in MLflow."""
    from music_assets.models.registry import read_config
    from music_assets.training.loop import train
    from music_assets.training.optimizer import resolve_defaults

    settings, logged = training.settings, time.monotonic()
    tracked.log_settings(training=resolve_defaults(settings, training.architecture).model_dump())
    tracked.log_environment()

    def report(progress: "TrainingProgress") -> None:
        tracked.report(progress)
        nonlocal logged
        if progress.score or time.monotonic() - logged > LOG_SECONDS:
            logged = time.monotonic()
            context.log.info(progress.line())

    def on_validation(progress: "TrainingProgress", network: "Network") -> None:
        if settings.samples:
            _log_samples(tracked, progress, network, training)

    if settings.processes > 1:
        _train_together(context, pipes, paths, training, tracked)
    result = train(
        training.architecture,
        settings,
        training.shards,
        training.folder,
        vocabulary=training.vocabulary,
        report=report,
        on_validation=on_validation,
        mlflow_run_id=tracked.id,
    )
    tracked.log_settings(network=read_config((result.best / "config.json").read_bytes()).model_dump())
    tracked.log_shards(result.facts.shards)
    return result


def _result_metadata(result: "TrainingResult") -> dict[str, Any]:
    """What the UI shows of a finished training."""
    facts = result.facts
    return {
        "bits_per_note": facts.bits_per_note if facts.bits_per_note is not None else "not measured",
        "tokens": result.tokens,
        "steps": result.steps,
        "minutes": result.minutes,
        "parameters": facts.parameters,
        **facts.measures,
        "bits_per_note_by_genre": table(
            {"genre": genre, "bits_per_note": bits} for genre, bits in facts.bits_per_note_by_genre.items()
        ),
        "path": dg.MetadataValue.path(result.best),
    }


def _loss_check(result: "TrainingResult") -> dg.AssetCheckResult:
    first, last = result.first_loss, result.last_loss
    return dg.AssetCheckResult(
        check_name="loss_finite_and_falling",
        passed=first is not None and last is not None and last < first,
        metadata={"first": first or 0.0, "last": last or 0.0},
    )


def _run_name(
    context: dg.AssetExecutionContext, paths: DataPaths, settings: TrainingSettings, vocabulary: Vocabulary
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
            and not shards_changed(context.instance, paths, facts)
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
    training: Training,
) -> None:
    """A few bars of what the network makes by now, of one genre after the other, to hear and to see in MLflow."""
    from music_assets.checkpoints.storage import Checkpoint
    from music_assets.generation.request import Wishes
    from music_assets.generation.samples import generate_samples

    settings, best = training.settings, training.folder / "best"
    facts = read_facts(best)
    genre = facts.genres[round(progress.fraction * settings.validations) % len(facts.genres)]
    wanted = Wishes(count=settings.samples, max_bars=4, seed=settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        made = generate_samples(
            Checkpoint(best, network, training.vocabulary, facts), genre, wanted, Path(folder) / "made", 1
        )
        tracked.log_samples(made.folder, progress.tokens)


def _train_together(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    paths: DataPaths,
    training: Training,
    tracked: "TrackedRun",
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
        architecture=training.architecture,
        config=training.settings,
        shards=[paths.shard(shard.genre, shard.transposition) for shard in training.shards],
        run=training.folder,
        vocabulary=training.vocabulary.to_json(),
        mlflow_run_id=tracked.id,
        data=paths.root,
        parent=os.getpid(),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(job.model_dump_json())
        command = [sys.executable, "-m", "music_assets.training.torchrun", str(training.settings.processes), str(file)]
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
