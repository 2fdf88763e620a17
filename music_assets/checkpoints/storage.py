"""Saving and loading a network with all that is needed to use it. Nothing is ever unpickled."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from music_assets.checkpoints.runs import CheckpointError, CheckpointFacts, read_facts
from music_assets.foundation.publishing import publish, restore
from music_assets.foundation.settings import InvalidSettings
from music_assets.models.network import Network, TokenNetwork
from music_assets.models.registry import ARCHITECTURES, build, read_config
from music_assets.tokens.vocabulary import FINGERPRINT, Vocabulary, VocabularyMismatch


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, ready for use."""

    folder: Path
    network: Network
    vocabulary: Vocabulary
    facts: CheckpointFacts

    @property
    def token_network(self) -> TokenNetwork:
        """The network, for what is made of tokens.

        Raises:
            CheckpointError: it is one over piano rolls.
        """
        if isinstance(self.network, TokenNetwork):
            return self.network
        choices = ", ".join(one.name for one in ARCHITECTURES.values() if one.reads == "tokens")
        raise CheckpointError(
            f"The checkpoint at {self.folder} is a {self.facts.architecture}, which has no tokens: take one of "
            f"{choices}."
        )


@dataclass(frozen=True)
class TrainerState:
    """What a run needs, beside the network's weights, to go on as if it had never stopped."""

    tensors: dict[str, Tensor]
    values: str  # JSON


def save_checkpoint(
    folder: Path,
    network: Network,
    vocabulary: Vocabulary,
    facts: CheckpointFacts,
    trainer: TrainerState | None = None,
) -> None:
    """Write a checkpoint in place of the one at ``folder``; a kill leaves the old one or the new one."""
    with publish(folder) as fresh:
        fresh.mkdir()
        weights = network.state_dict()
        if network.tied:
            del weights["head.weight"]
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, fresh / "model.safetensors")
        (fresh / "config.json").write_text(network.config.model_dump_json(indent=2) + "\n")
        (fresh / "vocabulary.json").write_text(vocabulary.to_json() + "\n")
        (fresh / "training.json").write_text(facts.model_dump_json(indent=2) + "\n")
        if trainer is not None:
            save_file(trainer.tensors, fresh / "trainer.safetensors")
            (fresh / "trainer.json").write_text(trainer.values + "\n")


def load_checkpoint(folder: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """The network of a checkpoint, in evaluation mode on ``device``.

    Raises:
        CheckpointError: a file is missing or damaged, or an earlier version trained it.
        VocabularyMismatch: its vocabulary is another one.
    """
    facts = read_facts(folder)
    vocabulary = _vocabulary(folder / "vocabulary.json")
    try:
        config = read_config((folder / "config.json").read_bytes())
        weights = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"The checkpoint at {folder} lacks a file ({error}): train again or name another folder."
        ) from None
    except (SafetensorError, ValidationError, InvalidSettings) as error:
        raise _damaged(folder, error) from None
    network = build(config, vocabulary.size)
    if network.tied and "embedding.weight" in weights:
        weights["head.weight"] = weights["embedding.weight"]
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # what torch raises for weights that do not fit
        detail = str(error).splitlines()[-1].strip(" .\t")
        raise CheckpointError(
            f"The checkpoint at {folder} has other weights than this version's network ({detail}): train again, or use "
            "the version that trained it."
        ) from None
    return Checkpoint(folder, network.to(device).eval(), vocabulary, facts)


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0]
    return CheckpointError(f"The checkpoint at {folder} is damaged ({reason}): train again or name another folder.")


def load_trainer_state(folder: Path) -> TrainerState | None:
    """The trainer's state beside a checkpoint; None where there is no checkpoint with one.

    Raises:
        CheckpointError: it is damaged.
    """
    values = restore(folder) / "trainer.json"
    if not values.exists():
        return None
    try:
        return TrainerState(load_file(folder / "trainer.safetensors"), values.read_text())
    except (FileNotFoundError, SafetensorError) as error:
        raise CheckpointError(
            f"The trainer's state in {folder} is damaged ({error}): delete {folder.parent} and train again."
        ) from None


def _vocabulary(path: Path) -> Vocabulary:
    if not path.exists():
        raise CheckpointError(f"{path} is missing: train again or name another folder.")
    text = path.read_text()
    try:
        return Vocabulary.from_json(text)
    except VocabularyMismatch:
        found = json.loads(text)["fingerprint"]
        raise VocabularyMismatch(
            f"The checkpoint {path.parent} was trained with vocabulary {found}, this version uses {FINGERPRINT}: "
            "train again, or use the version that trained it."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} is damaged: train again or name another folder.") from None
