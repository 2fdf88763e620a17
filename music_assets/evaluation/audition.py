"""Some samples of a checkpoint, judged: what it can do, beside what it knows."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError

from music_assets.checkpoints.storage import load_checkpoint
from music_assets.evaluation.classifier import TooFewGenres, generated_excerpts, genre_consistency, real_excerpts
from music_assets.evaluation.pieces import Piece, real_pieces
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.publishing import publish
from music_assets.generation.generate import generate
from music_assets.tokens.remi import notes
from music_assets.tokens.shards import Shard
from music_assets.training.champion import Heard, Judge

SAMPLES = 8
"""Of each genre."""
JUDGE_VERSION = 1
"""Raise when the same checkpoint begins to be judged otherwise."""
_FILE = "audition.json"


class _Stored(BaseModel):
    judge: str
    heard: Heard | None


def audition(shards: Sequence[Shard], device: str | torch.device) -> Judge:
    """What judges a checkpoint by a few samples, the same each time: how well their genre is heard by
    :func:`music_assets.evaluation.classifier.genre_consistency`, all it hears learned from the training pieces of
    ``shards`` and held against their validation pieces; None where fewer than two genres have both.

    A verdict is kept beside its checkpoint until the pieces change.
    """
    originals = [shard for shard in shards if shard.transposition == "original"]
    pieces = sorted(
        f"{shard.genre} {shard.piece_ids[row]}"
        for shard in originals
        for split in ("train", "valid")
        for row in shard.where(split)
    )
    return partial(_judged, originals, device, hexdigest(str((JUDGE_VERSION, SAMPLES)), *pieces))


def _judged(shards: Sequence[Shard], device: str | torch.device, judge: str, checkpoint: Path) -> Heard | None:
    stored = checkpoint.with_name(f"{checkpoint.name}.{_FILE}")
    try:
        known = _Stored.model_validate_json(stored.read_bytes())
    except (OSError, ValidationError):
        known = None
    if known is None or known.judge != judge:
        known = _Stored(judge=judge, heard=_listen(checkpoint, shards, device))
        with publish(stored) as file:
            file.write_text(known.model_dump_json())
    return known.heard


def _listen(path: Path, shards: Sequence[Shard], device: str | torch.device) -> Heard | None:
    settings = EvaluationSettings()
    checkpoint = load_checkpoint(path, device)
    bars, samples = settings.excerpt_bars, list[Piece]()
    for genre in checkpoint.facts.genres:
        for one in generate(checkpoint, genre=genre, count=SAMPLES, max_bars=bars):
            found, name = notes(one.ids), f"{genre}-{one.index}"
            samples.append(Piece(name, name, genre, one.ids, found, found.seconds))
    training = real_excerpts(real_pieces(shards, "train"), bars, settings.excerpts_per_piece)
    validation = real_excerpts(real_pieces(shards, "valid"), bars)
    try:
        heard = genre_consistency(training, validation, generated_excerpts(samples, bars), settings).headline
    except TooFewGenres:
        return None
    # Nothing can be said where real music itself is not told apart.
    return None if math.isnan(heard.low) else Heard(share=heard.value, low=heard.low, high=heard.high)
