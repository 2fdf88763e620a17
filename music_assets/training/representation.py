"""The two representations of a piece that networks read, tokens and piano rolls, behind one interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from music_assets.models.network import Network, TokenNetwork
from music_assets.models.registry import find_architecture
from music_assets.models.roll_rnn import RollRNN
from music_assets.tokens.rolls import ONSET
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.batches import Batches
from music_assets.training.roll_batches import RollBatches, whole
from music_assets.training.scoring import PieceScore, roll_scores, token_scores
from music_assets.training.settings import Precision, TrainingSettings


class BatchSource(Protocol):
    """Draws batches to learn from."""

    genres: list[str]
    length: int  # of a row, in tokens or steps

    def rows(self, n: int, rank: int = 0, world: int = 1) -> tuple[NDArray[Any], ...]:
        """Rows ``rank``, ``rank + world``, ... of batch ``n``, as the fields that a network's ``loss`` takes."""
        ...


class Representation(ABC):
    """What training, scoring and comparing need to know of what a network reads."""

    comparable = True
    """Whether its bits per note are those of the whole piece, which compare with any other model's."""
    remark = ""
    """What its bits per note do not say."""
    no_note = "There is no test piece with a note to score."
    """Why a comparison cannot be."""

    @abstractmethod
    def batches(
        self, network: Network, config: TrainingSettings, shards: Sequence[Shard], vocabulary: Vocabulary
    ) -> BatchSource:
        """What ``network`` learns from. Raises NoTrainingData."""

    @abstractmethod
    def scores(
        self,
        network: Network,
        vocabulary: Vocabulary,
        documents: Sequence[NDArray[np.integer]],
        genre: str | None = None,
        precision: Precision = "auto",
    ) -> list[PieceScore]:
        """The likelihood of each document, given its genre. Raises UnknownGenre."""

    @abstractmethod
    def has_note(self, document: NDArray[np.integer]) -> bool:
        """Whether there is a note in the document to score."""


class _Tokens(Representation):
    def batches(
        self, network: Network, config: TrainingSettings, shards: Sequence[Shard], vocabulary: Vocabulary
    ) -> Batches:
        assert isinstance(network, TokenNetwork)
        return Batches(
            shards,
            vocabulary,
            columns=network.columns,
            control_share=config.control_share,
            control_dropout=config.control_dropout,
            infill_share=config.infill_share,
            memory_dropout=config.memory_dropout,
            beginning_share=config.beginning_share,
            **_common(network, config),
        )

    def scores(
        self,
        network: Network,
        vocabulary: Vocabulary,
        documents: Sequence[NDArray[np.integer]],
        genre: str | None = None,
        precision: Precision = "auto",
    ) -> list[PieceScore]:
        assert isinstance(network, TokenNetwork)
        return token_scores(network, vocabulary, documents, genre, precision)

    def has_note(self, document: NDArray[np.integer]) -> bool:
        return len(document) > 0


class _Rolls(Representation):
    comparable = False
    remark = (
        "A piano roll has one instrument, no velocities, 16th notes and 88 keys: its bits per note of the roll do not "
        "compare with bits per note."
    )
    no_note = "No test piece has a note on the 88 keys of a piano roll: leave pianoroll out of the comparison."

    def batches(
        self, network: Network, config: TrainingSettings, shards: Sequence[Shard], vocabulary: Vocabulary
    ) -> RollBatches:
        return RollBatches(shards, vocabulary, **_common(network, config))

    def scores(
        self,
        network: Network,
        vocabulary: Vocabulary,
        documents: Sequence[NDArray[np.integer]],
        genre: str | None = None,
        precision: Precision = "auto",
    ) -> list[PieceScore]:
        assert isinstance(network, RollRNN)
        return roll_scores(network, vocabulary, documents, genre, precision)

    def has_note(self, document: NDArray[np.integer]) -> bool:
        return bool((whole(document) == ONSET).any())


REPRESENTATIONS: Mapping[str, Representation] = MappingProxyType({"tokens": _Tokens(), "rolls": _Rolls()})


def representation(architecture: str) -> Representation:
    """Of what a network of this architecture reads."""
    return REPRESENTATIONS[find_architecture(architecture).reads]


def _common(network: Network, config: TrainingSettings) -> dict[str, Any]:
    return {
        "batch_size": config.batch_size,
        "length": network.config.context,
        "genre_temperature": config.genre_temperature,
        "original_share": config.original_share,
        "genre_dropout": config.genre_dropout,
        "seed": config.seed,
    }
