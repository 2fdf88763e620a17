"""Folders of training runs: what a checkpoint says about itself, the champion, the lock. Imports no torch.

``<architecture>/<run>/best`` and ``latest`` are checkpoints; ``<architecture>/champion.json`` names one.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from music_assets.foundation import locks
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.publishing import publish, restore
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import FINGERPRINT

_UNFINISHED = "unfinished"


class CheckpointError(MusicAssetsError):
    """A checkpoint is missing, incomplete or damaged."""


class RunLocked(MusicAssetsError):
    """Another process trains in this run's folder."""


class ShardFacts(BaseModel):
    """What a training run read of one shard."""

    model_config = ConfigDict(frozen=True)

    genre: str
    transposition: str
    pieces: int = Field(description="Training pieces")
    tokens: int = Field(description="Training tokens")
    hash: str = Field(description="Hash of the shard's rows")


def shard_facts(shard: Shard) -> ShardFacts:
    """What a shard holds to train on."""
    rows = shard.where("train")
    return ShardFacts(
        genre=shard.genre,
        transposition=shard.transposition,
        pieces=len(rows),
        tokens=int((shard.offsets[rows + 1] - shard.offsets[rows]).sum()),
        hash=shard.content_hash,
    )


def dataset_hash(shards: Sequence[ShardFacts]) -> str:
    """One hash for all the shards of a training run, in any order."""
    hashes = sorted(f"{shard.genre} {shard.transposition} {shard.hash}" for shard in shards)
    return hexdigest("\n".join(hashes))


class CheckpointFacts(BaseModel):
    """What a checkpoint knows about its own making (``training.json``)."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    run: str
    vocabulary: str = Field(description="Fingerprint of the vocabulary: what its ids and controls mean")
    step: int
    tokens: int = Field(description="Seen in training; of a pianoroll, steps of rolls")
    minutes: float
    parameters: int
    genres: list[str] = Field(description="Genres that the network was trained on")
    transpositions: list[str]
    programs: list[int] = Field([], description="Programs in the training pieces, 128 for drums; none: not known")
    shards: list[ShardFacts]
    dataset_hash: str
    validation_hash: str = Field(description="Hash of the pieces that the bits per note were measured on")
    bits_per_note: float | None = Field(None, description="On the validation pieces; none before the first validation")
    bits_per_note_by_genre: dict[str, float] = {}
    measures: dict[str, float] = Field({}, description="What else was measured on the validation pieces")
    seed: int
    training: dict[str, Any] = Field(description="The training configuration")
    torch_version: str
    mlflow_run_id: str | None = None


class _Version(BaseModel):
    vocabulary: str | None = None


def read_facts(checkpoint: Path) -> CheckpointFacts:
    """What a checkpoint says about itself.

    Raises:
        CheckpointError: it is missing or damaged, or an earlier version trained it, whose ids or controls differ.
    """
    path = restore(checkpoint) / "training.json"
    try:
        text = path.read_bytes()
        if _Version.model_validate_json(text).vocabulary != FINGERPRINT:
            raise CheckpointError(
                f"The checkpoint at {checkpoint} was trained by an earlier version of music_assets, or one with other "
                "token ids or controls: train again, or use the version that trained it."
            )
        return CheckpointFacts.model_validate_json(text)
    except FileNotFoundError:
        raise CheckpointError(
            f"No checkpoint at {checkpoint}: {path.name} is missing; train one or name another folder."
        ) from None
    except ValidationError as error:
        reason = error.errors()[0]
        raise CheckpointError(f"{path} is damaged ({reason['msg']}): train again or name another folder.") from None


def champion(folder: Path) -> Path | None:
    """The checkpoint of an architecture's folder to use downstream; None before the first training.

    Raises:
        CheckpointError: the pointer is damaged or names a checkpoint that is gone.
    """
    pointer = folder / "champion.json"
    if not pointer.exists():
        return None
    try:
        checkpoint = folder / json.loads(pointer.read_text())["checkpoint"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{pointer} is damaged: delete it and train again.") from None
    if not restore(checkpoint).is_dir():
        raise CheckpointError(f"{pointer} names {checkpoint}, which is gone: delete {pointer.name} and train again.")
    return checkpoint


def require_champion(folder: Path) -> Path:
    """As :func:`champion`, but a missing one is a CheckpointError."""
    checkpoint = champion(folder)
    if checkpoint is None:
        raise CheckpointError(f"There is no checkpoint in {folder} yet: train {folder.name} first.")
    return checkpoint


def set_champion(folder: Path, checkpoint: Path) -> None:
    """Make a checkpoint inside ``folder`` the champion; the pointer is relative, so ``folder`` may move."""
    with publish(folder / "champion.json") as path:
        path.write_text(json.dumps({"checkpoint": checkpoint.relative_to(folder).as_posix()}) + "\n")


@contextmanager
def unfinished(run: Path) -> Iterator[None]:
    """Mark a run's folder as one that is not finished until the block succeeds, however else it ends."""
    run.mkdir(parents=True, exist_ok=True)
    (run / _UNFINISHED).touch()
    yield
    (run / _UNFINISHED).unlink(missing_ok=True)


def unfinished_run(run: Path) -> CheckpointFacts | None:
    """What a run that was broken off says of itself where it was last saved; None if it is finished, is in training or
    has nothing to resume from.
    """
    if not (run / _UNFINISHED).exists():
        return None
    try:
        with locked(run, touch=False):
            return read_facts(run / "latest") if (restore(run / "latest") / "trainer.json").exists() else None
    except (RunLocked, CheckpointError):
        return None


def newest_first(folder: Path) -> list[Path]:
    """The runs of an architecture's folder, by when they were begun or taken up again."""
    runs = [run for run in folder.iterdir() if (run / "lock").exists()] if folder.exists() else []
    return sorted(runs, key=lambda run: (run / "lock").stat().st_mtime_ns, reverse=True)


def remove_old_runs(folder: Path, keep: int = 3) -> list[str]:
    """Delete all runs but the newest ``keep``, the champion's and those in training; returns their names."""
    best = champion(folder)
    removed = []
    for run in newest_first(folder)[keep:]:
        if best is not None and run in best.parents:
            continue
        try:
            with locked(run, touch=False):
                shutil.rmtree(run)
        except RunLocked:
            continue
        removed.append(run.name)
    return removed


@contextmanager
def locked(run: Path, touch: bool = True) -> Iterator[None]:
    """Hold a run's folder for one trainer; the lock ends with the process, however that ends.

    Raises:
        RunLocked: another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    busy = RunLocked(f"Another process is training in {run}: wait for it to end, or stop it, then start again.")
    with locks.locked(run / "lock", busy, create=True):
        if touch:
            (run / "lock").touch()
        yield
