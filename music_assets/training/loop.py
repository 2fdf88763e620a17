"""The training loop: a budget, a rising and falling learning rate, validation, and resuming after a kill."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from music_assets.checkpoints.runs import CheckpointFacts, dataset_hash, locked, read_facts, shard_facts
from music_assets.checkpoints.storage import (
    TrainerState,
    load_checkpoint,
    load_trainer_state,
    save_checkpoint,
)
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.interrupts import SAVING, Interrupts, TrainingInterrupted
from music_assets.foundation.publishing import restore
from music_assets.models.network import Network
from music_assets.models.registry import build, find_architecture, network_config
from music_assets.tokens.shards import Shard
from music_assets.tokens.statistics import programs_played
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.compilation import has_finite_gradients, should_compile
from music_assets.training.group import Group
from music_assets.training.memory import retain_freed_memory
from music_assets.training.optimizer import (
    build_optimizers,
    learning_rate_schedule,
    load_state_tensors,
    resolve_defaults,
    state_tensors,
)
from music_assets.training.position import Position, require_same_run
from music_assets.training.precision import autocast, choose_device
from music_assets.training.prefetch import Prefetcher
from music_assets.training.progress import Score, TrainingProgress, TrainingResult
from music_assets.training.representation import representation
from music_assets.training.settings import TrainingSettings
from music_assets.training.validation import validate, validation_set


class TrainingDiverged(MusicAssetsError):
    """The loss is no longer a finite number."""


def train(
    architecture: str,
    config: TrainingSettings,
    shards: Sequence[Shard],
    run: Path,
    *,
    vocabulary: Vocabulary | None = None,
    report: Callable[[TrainingProgress], None] = lambda progress: None,
    on_validation: Callable[[TrainingProgress, Network], None] = lambda progress, network: None,
    mlflow_run_id: str | None = None,
    group: Group = Group(),  # noqa: B008, it is immutable
    device: str | None = None,
) -> TrainingResult:
    """Train a network until its budget is spent, or go on with the run that was begun in the folder ``run``.

    ``run/best`` is the checkpoint with the fewest bits per note on the validation pieces, ``run/latest`` the
    one to resume from. On CPU, a run limited by tokens alone that was killed at any point ends with the same
    weights as one that was not, if it goes on with as many threads. SIGINT and SIGTERM save what it has before they
    end it.

    The processes of a group call this with the same arguments. Each computes its part of every batch's rows; the
    first one reports, validates and saves for all.

    Args:
        shards: of every genre and transposition to learn from; the pieces to validate on are in the original
            ones.
        vocabulary: with all genres of the shards; by default with just these.
        report: called every ``config.report_every`` steps and after each validation.
        on_validation: called after each validation with the network that was validated, in evaluation mode.
        group: this process's place among those that train together.
        device: this process's, where it is not the configuration's.

    Raises:
        RunLocked: another process trains in this folder.
        RunMismatch: the folder holds a run with other settings or data.
        NoTrainingData: there is nothing to train on.
        TrainingDiverged: the loss became infinite or not a number.
        CheckpointError: the checkpoint to resume from is damaged.
        DiskFull: there is no room for a checkpoint; the last one is untouched.
        TrainingInterrupted: by SIGINT or SIGTERM, a KeyboardInterrupt.
    """
    # One process holds the lock for its group, and the others begin once it has it.
    with locked(run) if group.is_main else nullcontext():
        if group.is_main:
            restore(run / "latest")
        group.barrier()
        with retain_freed_memory():
            return _Trainer(
                architecture, config, shards, run, vocabulary, report, on_validation, mlflow_run_id, group, device
            ).train()


class _Trainer:
    def __init__(
        self,
        architecture: str,
        config: TrainingSettings,
        shards: Sequence[Shard],
        run: Path,
        vocabulary: Vocabulary | None,
        report: Callable[[TrainingProgress], None],
        on_validation: Callable[[TrainingProgress, Network], None],
        mlflow_run_id: str | None,
        group: Group,
        device: str | None,
    ) -> None:
        self.config = resolve_defaults(config, architecture)
        self.run = run
        self.report = report
        self.on_validation = on_validation
        self.group = group
        self.device = choose_device(device or config.device)
        self.vocabulary = vocabulary or Vocabulary(tuple(sorted({shard.genre for shard in shards})))
        chosen = config.transpositions
        used = [shard for shard in shards if chosen is None or shard.transposition in chosen]
        self.validation = validation_set(shards, config.validation_tokens)
        torch.manual_seed(config.seed)
        shape = network_config(architecture, config.preset, config.network)
        self.network = build(shape, self.vocabulary.size).to(self.device)
        self.unit = find_architecture(architecture).unit
        self.batches = representation(architecture).batches(self.network, config, used, self.vocabulary)
        self.parameters: list[Tensor] = list(self.network.parameters())
        self.learning_rate = self.config.learning_rate or 0.0
        self.optimizers = build_optimizers(self.network, config)
        self.compiled = should_compile(config, architecture, self.device)
        self.loss = torch.compile(self.network.loss, dynamic=False) if self.compiled else self.network.loss
        self.loader = Prefetcher(self._draw)
        self.position = Position()
        facts = [shard_facts(shard) for shard in used]
        self.provenance: dict[str, Any] = {
            "architecture": architecture,
            "run": run.name,
            "vocabulary": self.vocabulary.fingerprint,
            "parameters": self.network.parameter_count,
            "genres": self.batches.genres,
            "transpositions": sorted({fact.transposition for fact in facts}),
            "programs": programs_played(used),
            "shards": facts,
            "dataset_hash": dataset_hash(facts),
            "validation_hash": self.validation.hash,
            "seed": config.seed,
            "training": config.model_dump(),
            "torch_version": torch.__version__,
            "mlflow_run_id": mlflow_run_id,
        }
        self.loss_sum = torch.zeros((), device=self.device)
        self.gradient_norm = torch.zeros((), device=self.device)
        self.interrupts = Interrupts()
        self.interrupted = False  # the first process of the group, as all know after a step
        self._resume()
        self.started = time.perf_counter() - self.position.seconds
        self.reported = (self.position.tokens, time.perf_counter())
        self.waited = 0.0  # seconds since then

    def train(self) -> TrainingResult:
        at = self.position
        with self.loader, self.interrupts:
            try:
                self._run()
            except KeyboardInterrupt as interrupt:
                if self.group.is_main and at.step:
                    with SAVING:
                        self._save_latest()
                raise TrainingInterrupted(self._interruption()) from interrupt
        best = self.run / "best"
        return TrainingResult(
            best=best,
            latest=self.run / "latest",
            facts=read_facts(best),
            steps=at.step,
            tokens=at.tokens,
            minutes=at.seconds / 60,
            first_loss=at.first_loss,
            last_loss=at.last_loss,
            validation=self.validation,
        )

    def _run(self) -> None:
        at, config = self.position, self.config
        saved = time.perf_counter()
        self.network.train()
        if self.compiled and not at.is_over(config):
            with self.interrupts.at_once():
                self._compile()
        while True:
            # also where a run is resumed that was interrupted before it could report or validate
            if at.loss_count and not self.interrupted:
                due = self.spent >= (at.validations + 1) / config.validations
                if due or at.step % config.report_every == 0:
                    self._report(due)
                if self.group.is_main and (due or time.perf_counter() - saved > 60 * config.save_minutes):
                    self._save_latest()
                    saved = time.perf_counter()
            if self.interrupted:
                raise KeyboardInterrupt
            if at.is_over(config):
                break
            self._step()
        self.group.barrier()

    def _interruption(self) -> str:
        if not self.position.step:
            return "The training was interrupted before its first step was done."
        return (
            f"The training was interrupted and is saved at {self.position.tokens:,} {self.unit}, "
            f"{min(self.spent, 1):.0%} of its budget: started again with the same settings, it goes on from there."
        )

    @property
    def spent(self) -> float:
        """Share of the budget, see :meth:`Position.spent`."""
        return self.position.spent(self.config)

    def _draw(self, n: int) -> tuple[Tensor, ...]:
        """This process's rows of batch ``n``: its fields, as the network's ``loss`` takes them."""
        drawn = self.batches.rows(n, self.group.rank, self.group.size)
        rows = [torch.from_numpy(np.ascontiguousarray(part)) for part in drawn]  # as a copy beside computing needs it
        return tuple(part.pin_memory() if self.device.type == "cuda" else part for part in rows)

    def _compile(self) -> None:
        """By a batch that nothing is learned from, so that the learning rate's course begins when it is done."""
        at = self.position
        self._loss(at.step * self.config.accumulate)[0].backward()
        if not has_finite_gradients(self.network):
            self.loss = self.network.loss
        self.network.zero_grad()
        at.seconds = time.perf_counter() - self.started
        self._synchronize()
        if at.step == 0:
            at.prepared = min(self.spent, 1.0)
        self.reported, self.waited = (at.tokens, time.perf_counter()), 0.0

    def _loss(self, n: int) -> tuple[Tensor, Tensor]:
        """Of this process's rows of batch ``n``, as the network's ``loss``."""
        asked = time.perf_counter()
        drawn = self.loader(n)
        self.waited += time.perf_counter() - asked
        batch = [tensor.to(self.device, non_blocking=True) for tensor in drawn]
        with autocast(self.device, self.config.precision):
            return self.loss(*batch)

    def _step(self) -> None:
        """One update of the weights."""
        at, config = self.position, self.config
        share = learning_rate_schedule((self.spent - at.prepared) / max(1 - at.prepared, 1e-9), config)
        # Dropout depends on the seed, the step and the process alone, so that a resumed run's is the same.
        torch.manual_seed(np.random.SeedSequence((config.seed, at.step, self.group.rank)).generate_state(1)[0].item())
        loss, scored = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        # Nothing is changed before the update; but the processes of a group wait for each other, and end together.
        with self.interrupts.at_once() if self.group.size == 1 else nullcontext():
            for part in range(config.accumulate):
                summed, count = self._loss(at.step * config.accumulate + part)
                summed.backward()
                loss += summed.detach()
                scored += count
        at.seconds = time.perf_counter() - self.started
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self._synchronize([*gradients, loss, scored])
        # The sum over all scored targets becomes their mean, and its norm is clipped, in one pass.
        self.gradient_norm = torch.nn.utils.get_total_norm(gradients) / scored
        factor = (config.gradient_clip / (self.gradient_norm + 1e-6)).clamp(max=1.0) / scored
        torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateImportUsage]
        at.learning_rate = share * self.learning_rate
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = at.learning_rate
            optimizer.step()
            optimizer.zero_grad()
        self.loss_sum += loss / scored
        at.loss_count += 1
        at.step += 1
        at.tokens += config.accumulate * config.batch_size * self.batches.length

    def _synchronize(self, summed: Sequence[Tensor] = ()) -> None:
        """Add tensors up over the group; the first process's clock, patience and interrupts become everybody's."""
        at, self.interrupted = self.position, self.interrupts.received
        if self.group.size > 1:
            led = torch.tensor([at.seconds, at.stale, self.interrupted], device=self.device) * self.group.is_main
            self.group.all_reduce([*summed, led])
            at.seconds, at.stale, self.interrupted = float(led[0]), round(float(led[1])), bool(led[2])

    def _report(self, due: bool) -> None:
        at = self.position
        loss = self._summed_loss() / at.loss_count
        tokens, moment = self.reported
        elapsed = time.perf_counter() - moment
        score = self._validate() if due else None
        at.last_loss = loss
        if at.first_loss is None:
            at.first_loss = loss
        self.loss_sum.zero_()
        at.loss_count = 0
        progress = TrainingProgress(
            step=at.step,
            tokens=at.tokens,
            seconds=at.seconds,
            fraction=self.spent,
            loss=loss,
            learning_rate=at.learning_rate,
            gradient_norm=float(self.gradient_norm),
            tokens_per_second=(at.tokens - tokens) / elapsed,
            waited=self.waited / elapsed,
            score=score,
            unit=self.unit,
        )
        if self.group.is_main:
            with suppress(KeyboardInterrupt), self.interrupts.at_once():  # it is still received
                self.report(progress)
                if due:
                    self.network.eval()
                    self.on_validation(progress, self.network)
                    self.network.train()
        if due:
            self._synchronize()
        self.reported = (at.tokens, time.perf_counter())
        self.waited = 0.0

    def _summed_loss(self) -> float:
        loss = self.loss_sum.item()
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss became {loss} at step {self.position.step}: lower learning_rate "
                f"(now {self.learning_rate:g}) or gradient_clip (now {self.config.gradient_clip:g})."
            )
        return loss

    def _validate(self) -> Score | None:
        """Score the network, and keep it as the best if it is. An interrupt breaks it off, and leaves no trace."""
        at, score, done = self.position, None, False
        validations = max(at.validations + 1, int(self.spent * self.config.validations))
        if self.group.is_main:
            with suppress(KeyboardInterrupt), self.interrupts.at_once():
                score = validate(self.network, self.vocabulary, self.validation, self.config.precision)
                done = True
            at.seconds = time.perf_counter() - self.started
            if done and (score is None or at.best is None or score.bits_per_note < at.best):
                at.best, at.stale = score.bits_per_note if score else None, 0
                self._save("best", score)
            elif done:
                at.stale += 1
        self._synchronize()
        if self.interrupted and not done:
            raise KeyboardInterrupt
        at.validations = validations
        return score

    def _save(self, name: str, score: Score | None, trainer: TrainerState | None = None) -> None:
        facts = CheckpointFacts(
            **self.provenance,
            step=self.position.step,
            tokens=self.position.tokens,
            minutes=self.position.seconds / 60,
            bits_per_note=score.bits_per_note if score else None,
            bits_per_note_by_genre=score.by_genre if score else {},
            measures=score.measures if score else {},
        )
        save_checkpoint(self.run / name, self.network, self.vocabulary, facts, trainer)

    def _save_latest(self) -> None:
        at = self.position
        at.loss_sum, at.gradient_norm = self._summed_loss(), float(self.gradient_norm)
        self._save("latest", None, TrainerState(state_tensors(self.optimizers), at.model_dump_json(indent=2)))

    def _resume(self) -> None:
        """Take up the run in the folder where it was last saved, if there is one."""
        latest = self.run / "latest"
        trainer = load_trainer_state(latest)
        if trainer is None:
            return
        checkpoint = load_checkpoint(latest, self.device)
        wanted = CheckpointFacts(**self.provenance, step=0, tokens=0, minutes=0)
        require_same_run(self.run, wanted, checkpoint.facts, checkpoint.vocabulary == self.vocabulary)
        self.network.load_state_dict(checkpoint.network.state_dict())
        load_state_tensors(self.optimizers, trainer.tensors)
        self.position = Position.model_validate_json(trainer.values)
        self.loss_sum.fill_(self.position.loss_sum)
        self.gradient_norm.fill_(self.position.gradient_norm)
