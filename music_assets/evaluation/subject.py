"""What an evaluation is of: a checkpoint, the real music that it is held against, and its samples."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from music_assets.checkpoints.runs import CheckpointFacts, read_facts, require_champion
from music_assets.evaluation.pieces import Piece, real_pieces, sampled_pieces
from music_assets.foundation.errors import MusicAssetsError
from music_assets.generation.samples import SampleBatch, read_samples
from music_assets.paths import DataPaths
from music_assets.tokens.shards import Shard, read_shard


class StaleSamples(MusicAssetsError):
    """Samples are of another checkpoint than the one that is judged."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint under evaluation. What it is held against is read when it is first asked for."""

    paths: DataPaths
    checkpoint: Path
    facts: CheckpointFacts

    @cached_property
    def shards(self) -> list[Shard]:
        """The `original` shards of the genres that it was trained on, as they are today."""
        return [read_shard(self.paths.shard(genre, "original")) for genre in self.facts.genres]

    @cached_property
    def batches(self) -> list[SampleBatch]:
        """Its samples, a batch a genre.

        Raises:
            StaleSamples: those of a genre are of another checkpoint.
        """
        batches = [read_samples(self.paths.samples(self.facts.architecture, genre)) for genre in self.facts.genres]
        if stale := [batch.genre for batch in batches if batch.run != self.facts.run]:
            raise StaleSamples(
                f"The samples of {', '.join(stale)} are of another checkpoint than the champion {self.facts.run}: "
                "materialise generated_samples for them first."
            )
        return batches

    def real(self, split: str) -> list[Piece]:
        """The real pieces of a split."""
        return real_pieces(self.shards, split)

    def samples(self) -> list[Piece]:
        """All of its samples, empty ones too."""
        return sampled_pieces(self.batches)

    def result(self, measure: str) -> Path:
        """The file in which a measure keeps what it finds."""
        return self.paths.evaluation(self.facts.architecture) / f"{measure}.json"


def champion_of(paths: DataPaths, architecture: str) -> Subject:
    """The champion of an architecture.

    Raises:
        CheckpointError: there is none.
    """
    checkpoint = require_champion(paths.checkpoints(architecture))
    return Subject(paths, checkpoint, read_facts(checkpoint))
