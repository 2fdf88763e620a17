"""The training loop: a budget, a rising and falling learning rate, validation, and resuming after a kill."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor

from music_assets.models.build import build
from music_assets.models.config import network_config
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.batches import Batches
from music_assets.training.checkpoints import (
    TrainerState,
    load_checkpoint,
    load_trainer_state,
    save_checkpoint,
)
from music_assets.training.config import TrainingConfig
from music_assets.training.optimizer import build_optimizers, rate
from music_assets.training.precision import autocast, choose_device
from music_assets.training.runs import CheckpointFacts, dataset_hash, locked, read_facts, shard_facts
from music_assets.training.validation import Score, ValidationSet, validate, validation_set


class TrainingDiverged(ValueError):
    """The loss is no longer a finite number."""


class RunMismatch(ValueError):
    """A run's folder holds a run with other settings or other data."""


@dataclass(frozen=True)
class TrainingProgress:
    """A point of the training curves."""

    step: int
    tokens: int
    seconds: float
    fraction: float  # of the budget
    loss: float  # nats per token, mean since the last point
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens_per_second: float  # since the run was started or resumed, validation included
    score: Score | None  # where the network was validated at this step


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    best: Path
    latest: Path
    facts: CheckpointFacts  # of the best checkpoint
    steps: int
    tokens: int
    minutes: float
    first_loss: float | None  # nats per token, mean up to the first report
    last_loss: float | None  # nats per token, mean of the last report
    validation: ValidationSet


class _Position(BaseModel):
    """Where a run stands, as far as it is not in the weights and the optimisers."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    validations: int = 0
    best: float | None = None
    loss_sum: float = 0.0  # since the last report
    loss_count: int = 0
    first_loss: float | None = None
    last_loss: float | None = None


def train(
    architecture: str,
    config: TrainingConfig,
    shards: Sequence[Shard],
    run: Path,
    *,
    vocabulary: Vocabulary | None = None,
    report: Callable[[TrainingProgress], None] = lambda progress: None,
    mlflow_run_id: str | None = None,
) -> TrainingResult:
    """Train a network until its budget is spent, or go on with the run that was begun in the folder ``run``.

    ``run/best`` is the checkpoint with the fewest bits per note on the validation pieces, ``run/latest`` the
    one to resume from. On CPU, a run limited by tokens alone that was killed at any point ends with the same
    weights as one that was not.

    Args:
        shards: of every genre and transposition to learn from; the pieces to validate on are in the original
            ones.
        vocabulary: with all genres of the shards; by default with just these.
        report: called every ``config.report_every`` steps and after each validation.

    Raises:
        RunLocked: another process trains in this folder.
        RunMismatch: the folder holds a run with other settings or data.
        NoTrainingData: there is nothing to train on.
        TrainingDiverged: the loss became infinite or not a number.
        CheckpointError: the checkpoint to resume from is damaged.
    """
    with locked(run):
        return _Trainer(architecture, config, shards, run, vocabulary, report, mlflow_run_id).train()


class _Trainer:
    def __init__(
        self,
        architecture: str,
        config: TrainingConfig,
        shards: Sequence[Shard],
        run: Path,
        vocabulary: Vocabulary | None,
        report: Callable[[TrainingProgress], None],
        mlflow_run_id: str | None,
    ) -> None:
        self.config = config
        self.run = run
        self.report = report
        self.device = choose_device(config.device)
        self.vocabulary = vocabulary or Vocabulary(tuple(sorted({shard.genre for shard in shards})))
        chosen = config.transpositions
        used = [shard for shard in shards if chosen is None or shard.transposition in chosen]
        shape = network_config(architecture, config.preset, config.network)
        self.batches = Batches(
            used,
            self.vocabulary,
            batch_size=config.batch_size,
            length=shape.context,
            genre_temperature=config.genre_temperature,
            original_share=config.original_share,
            genre_dropout=config.genre_dropout,
            seed=config.seed,
        )
        self.validation = validation_set(shards, config.validation_tokens)
        torch.manual_seed(config.seed)
        self.network = build(shape, self.vocabulary.size).to(self.device)
        self.optimizers = build_optimizers(self.network, config)
        self.position = _Position()
        facts = [shard_facts(shard) for shard in used]
        self.provenance: dict[str, Any] = {
            "architecture": architecture,
            "run": run.name,
            "parameters": self.network.parameter_count,
            "genres": self.batches.genres,
            "transpositions": sorted({fact.transposition for fact in facts}),
            "shards": facts,
            "dataset_hash": dataset_hash(facts),
            "validation_hash": self.validation.hash,
            "seed": config.seed,
            "training": config.model_dump(),
            "torch_version": torch.__version__,
            "mlflow_run_id": mlflow_run_id,
        }
        self.loss_sum = torch.zeros((), device=self.device)
        self._resume()
        self.started = time.perf_counter() - self.position.seconds
        self.reported = (self.position.tokens, time.perf_counter())

    def train(self) -> TrainingResult:
        at, config = self.position, self.config
        saved = time.perf_counter()
        self.network.train()
        while (fraction := self._fraction()) < 1:
            share = rate(fraction, config)
            gradient_norm = self._step(share)
            due = self._fraction() >= (at.validations + 1) / config.validations
            if due or at.step % config.report_every == 0:
                self._report(share * config.learning_rate, gradient_norm, due)
            if due or time.perf_counter() - saved > 60 * config.save_minutes:
                self._save_latest()
                saved = time.perf_counter()
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

    def _fraction(self) -> float:
        """How much of the budget is spent; 1 or more: all of it."""
        at, config = self.position, self.config
        tokens = at.tokens / config.tokens if config.tokens else 0.0
        minutes = at.seconds / 60 / config.minutes if config.minutes else 0.0
        return max(tokens, minutes)

    def _step(self, share: float) -> Tensor:
        """One update of the weights at a share of the peak learning rate; returns the gradient's norm."""
        at = self.position
        ids, targets = (torch.from_numpy(array).to(self.device) for array in self.batches(at.step))
        with autocast(self.device):
            logits = self.network(ids)  # [B, T, V]
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * self.config.learning_rate
            optimizer.step()
            optimizer.zero_grad()
        self.loss_sum += loss.detach()
        at.loss_count += 1
        at.step += 1
        at.tokens += ids.numel()
        at.seconds = time.perf_counter() - self.started
        return gradient_norm

    def _report(self, learning_rate: float, gradient_norm: Tensor, due: bool) -> None:
        at = self.position
        at.last_loss = self._summed_loss() / at.loss_count
        if at.first_loss is None:
            at.first_loss = at.last_loss
        self.loss_sum.zero_()
        at.loss_count = 0
        tokens, moment = self.reported
        speed = (at.tokens - tokens) / (time.perf_counter() - moment)
        score = self._validate() if due else None
        self.report(
            TrainingProgress(
                step=at.step,
                tokens=at.tokens,
                seconds=at.seconds,
                fraction=self._fraction(),
                loss=at.last_loss,
                learning_rate=learning_rate,
                gradient_norm=float(gradient_norm),
                tokens_per_second=speed,
                score=score,
            )
        )
        self.reported = (at.tokens, time.perf_counter())

    def _summed_loss(self) -> float:
        loss = self.loss_sum.item()
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss became {loss} at step {self.position.step}: lower learning_rate "
                f"(now {self.config.learning_rate:g}) or gradient_clip (now {self.config.gradient_clip:g})."
            )
        return loss

    def _validate(self) -> Score | None:
        """Score the network, and keep it as the best if it is."""
        at = self.position
        at.validations = int(self._fraction() * self.config.validations)
        score = validate(self.network, self.vocabulary, self.validation)
        at.seconds = time.perf_counter() - self.started
        if score is None or at.best is None or score.bits_per_note < at.best:
            at.best = score.bits_per_note if score else None
            self._save("best", score)
        return score

    def _save(self, name: str, score: Score | None, trainer: TrainerState | None = None) -> None:
        facts = CheckpointFacts(
            **self.provenance,
            step=self.position.step,
            tokens=self.position.tokens,
            minutes=self.position.seconds / 60,
            bits_per_note=score.bits_per_note if score else None,
            bits_per_note_by_genre=score.by_genre if score else {},
        )
        save_checkpoint(self.run / name, self.network, self.vocabulary, facts, trainer)

    def _save_latest(self) -> None:
        at = self.position
        at.loss_sum = self._summed_loss()
        tensors = {f"rng.{name}": state for name, state in _random_states(self.device).items()}
        for index, optimizer in enumerate(self.optimizers):
            for parameter, state in optimizer.state_dict()["state"].items():
                for name, tensor in state.items():
                    tensors[f"optimizer.{index}.{parameter}.{name}"] = tensor
        self._save("latest", None, TrainerState(tensors, at.model_dump_json(indent=2)))

    def _resume(self) -> None:
        """Take up the run in the folder where it was last saved, if there is one."""
        latest = self.run / "latest"
        trainer = load_trainer_state(latest)
        if trainer is None:
            return
        checkpoint = load_checkpoint(latest, self.device)
        self._refuse_other_run(checkpoint.facts)
        self.network.load_state_dict(checkpoint.network.state_dict())
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
        for key, tensor in trainer.tensors.items():
            kind, *rest = key.split(".")
            if kind == "optimizer":
                index, parameter, name = rest
                states[int(index)].setdefault(int(parameter), {})[name] = tensor
        for optimizer, state in zip(self.optimizers, states, strict=True):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(trainer.tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in trainer.tensors:
            torch.cuda.set_rng_state(trainer.tensors["rng.cuda"], self.device)
        self.position = _Position.model_validate_json(trainer.values)
        self.loss_sum.fill_(self.position.loss_sum)

    def _refuse_other_run(self, found: CheckpointFacts) -> None:
        wanted = CheckpointFacts(**self.provenance, step=0, tokens=0, minutes=0)
        different = [f for f in wanted.training if wanted.training[f] != found.training.get(f)]
        different += [f for f in ("architecture", "dataset_hash") if getattr(wanted, f) != getattr(found, f)]
        if different:
            raise RunMismatch(
                f"{self.run} holds a run with another {', '.join(different)}: "
                "start a new run, or repeat the settings and data of that one to resume it."
            )


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
