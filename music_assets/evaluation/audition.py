"""Some samples of a checkpoint, judged: what it can do, beside what it knows."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError

from music_assets.checkpoints.runs import CheckpointFacts, read_facts
from music_assets.checkpoints.storage import load_checkpoint
from music_assets.evaluation.classifier import (
    Excerpts,
    generated_excerpts,
    genre_consistency,
    real_excerpts,
)
from music_assets.evaluation.pieces import Piece, real_pieces, sampled_piece
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.publishing import publish
from music_assets.generation.generate import generate
from music_assets.generation.request import Request, make_request
from music_assets.generation.task import BadRequest
from music_assets.tokens.shards import Shard
from music_assets.training.champion import Heard
from music_assets.training.validation import validation_set

SAMPLES = 8
"""Of each genre."""
JUDGE_VERSION = 2
"""Raise when the same checkpoint begins to be sampled or judged otherwise."""
_SETTINGS = EvaluationSettings()
_FILE = "audition.json"


class _Stored(BaseModel):
    key: str
    heard: Heard | None


@dataclass(frozen=True)
class Audition:
    """Judges a checkpoint by a few samples, the same each time: how well their genre is heard by
    :func:`music_assets.evaluation.classifier.genre_consistency`, all it hears learned from the training pieces of
    ``shards`` and held against their validation pieces, so that test pieces stay unseen.

    What instruments play is hidden from it: they alone would say much of the genre, whatever the notes are.
    A verdict is kept beside its checkpoint until the validation pieces change; ``log`` is told of those that are new.
    """

    shards: Sequence[Shard]
    device: str | torch.device = "cpu"
    log: Callable[[str], None] = lambda line: None

    def __call__(self, checkpoint: Path, genres: Sequence[str]) -> Heard | None:
        """How well samples of these genres are heard. None where the network cannot make them, fewer than two of the
        genres have training and validation excerpts, or those are not told apart beyond chance.

        Raises:
            CheckpointError: the checkpoint is missing or damaged.
        """
        file = checkpoint.with_name(f"{checkpoint.name}.{_FILE}")
        key = self._key(read_facts(checkpoint), genres)
        known = _read(file)
        if known is None or known.key != key:
            known = _Stored(key=key, heard=self._listen(checkpoint, genres))
            with publish(file) as fresh:
                fresh.write_text(known.model_dump_json())
        return known.heard

    def _key(self, facts: CheckpointFacts, genres: Sequence[str]) -> str:
        """Tells apart what a verdict depends on. Training pieces do not count, so that the champion is not sampled anew
        for every new piece: they rarely change much while the validation pieces stay."""
        return hexdigest(
            f"{JUDGE_VERSION} {SAMPLES} {_SETTINGS.model_dump_json()} {self._validation_hash} ",
            f"{sorted(genres)} {facts.model_dump_json()}",
        )

    @cached_property
    def _validation_hash(self) -> str:
        return validation_set(self.shards, sys.maxsize).hash

    @cached_property
    def _real(self) -> tuple[Excerpts, Excerpts]:
        """Training and validation excerpts."""
        originals = [shard for shard in self.shards if shard.transposition == "original"]
        bars = _SETTINGS.excerpt_bars
        return (
            real_excerpts(real_pieces(originals, "train"), bars, _SETTINGS.excerpts_per_piece),
            real_excerpts(real_pieces(originals, "valid"), bars),
        )

    def _listen(self, checkpoint: Path, genres: Sequence[str]) -> Heard | None:
        began = time.monotonic()
        training, validation = self._real
        judged = sorted({*genres} & {*training.genres.tolist()} & {*validation.genres.tolist()})
        name = checkpoint.parent.name
        if len(judged) < 2:
            self.log(f"samples of {name} are not judged: fewer than two genres have pieces to hold them against")
            return None
        self.log(f"judging {SAMPLES} samples of each of {len(judged)} genres by {name}")
        try:
            samples = _samples(checkpoint, judged, self.device)
        except BadRequest as error:
            self.log(f"samples of {name} are not judged: {error}")
            return None
        generated = generated_excerpts(samples, _SETTINGS.excerpt_bars)
        found = genre_consistency(training, validation, generated, _SETTINGS, with_programs=False)
        seconds = f"in {time.monotonic() - began:.0f} s"
        if found.ceiling.low <= found.floor:
            self.log(f"samples of {name} are not judged: real music is not told apart beyond chance, {seconds}")
            return None
        heard = Heard(share=found.headline.value, low=found.headline.low, high=found.headline.high)
        self.log(f"genre consistency of {name} {heard}, {seconds}")
        return heard


def _samples(path: Path, genres: Sequence[str], device: str | torch.device) -> list[Piece]:
    checkpoint = load_checkpoint(path, device)
    return [
        sampled_piece(f"{genre}-{one.index}", genre, one.ids)
        for genre in genres
        for one in generate(checkpoint, _request(genre))
    ]


def _request(genre: str) -> Request:
    return make_request(genre=genre, count=SAMPLES, max_bars=_SETTINGS.excerpt_bars, seed=_SETTINGS.seed)


def _read(file: Path) -> _Stored | None:
    try:
        return _Stored.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
