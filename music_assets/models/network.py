"""The interfaces of all networks, and of those over tokens."""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor, nn
from typing_extensions import TypeVar

from music_assets.models.memory_embedding import MemoryEmbedding
from music_assets.tokens.memory import COLUMNS

IGNORED = -100
"""Target that costs nothing."""


@dataclass
class State:
    """What a network remembers of the tokens, or steps, decoded so far; ``tensors`` have the batch as dimension 1."""

    tensors: tuple[Tensor, ...]
    lengths: Tensor  # int64[B], tokens of each row, on the CPU
    capacity: int | None  # None: without limit

    def fits(self, tokens: int) -> bool:
        """Whether so many more tokens of each row can be decoded."""
        return self.capacity is None or int(self.lengths.max()) + tokens <= self.capacity


class NetworkConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What all networks have; with the vocabulary's size a configuration fixes every weight's shape."""

    architecture: str = Field(description="Name of the network's record in the registry")
    layers: int = Field(ge=1, description="Number of layers")
    width: int = Field(ge=8, description="Size of a layer's output")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of activations dropped between layers")
    context: int = Field(default=512, ge=8, description="Tokens or roll steps that the network is trained to look at")


C = TypeVar("C", bound=NetworkConfig, default=Any)


class CapacityExceeded(ValueError):
    """More tokens were decoded than the state has room for."""


class Network(nn.Module, ABC, Generic[C]):
    """What training, saving and decoding need of any network.

    Decoding a row in parts of any size gives the logits of one ``forward``.
    """

    Config: ClassVar[type[NetworkConfig]]
    """Class of the configuration that it is built from."""

    embedding: nn.Embedding
    head: nn.Linear

    def __init__(self, config: C, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size

    @abstractmethod
    def loss(self, *batch: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """Of a batch's fields in their order: what to train on, in nats summed over all targets that are scored,
        float32[]; and the number of these targets, int64[]."""

    @abstractmethod
    def initial_state(self, batch: int, capacity: int) -> State:
        """An empty state for ``batch`` rows of up to ``capacity`` tokens or steps; call it under the same autocast."""

    @abstractmethod
    def decode(self, part: Tensor, state: State, /) -> tuple[Tensor, State]:
        """The next part of each row to logits and the new state.

        The state given is used up: it may share memory with the one returned. No gradient flows.

        Raises:
            CapacityExceeded: the part does not fit the state.
        """

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def parameter_count(self) -> int:
        """Number of trained weights; tied ones count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def tied(self) -> bool:
        """Whether embedding and output layer share their weights."""
        return self.head.weight is self.embedding.weight


def run_cells(cells: nn.LSTM | nn.GRU, x: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
    """Recurrent layers over x [B, T, E] from a state; on a GPU in float32, since autocast runs cuDNN's in float16
    whatever it is asked for, whose gradients overflow."""
    with torch.autocast("cuda", enabled=False) if x.is_cuda else nullcontext():
        return cells(x, memory)


class Decoder(Protocol):
    """What a token network remembers of some rows.

    What it says of a row depends on that row alone: not on how many others there are, nor on the parts in which its
    tokens came; to the last bit on a CPU, and on a GPU for one number of rows.
    """

    lengths: NDArray[np.int64]
    """Tokens of each row so far."""

    def can_go_on(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether rows have begun and have room for one token more."""
        ...

    def begin(self, row: int) -> None:
        """Forget a row."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Let a row be as another one."""
        ...

    def advance(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], ids: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Read ``counts`` tokens more, int64[n], of each of n different ``rows``, end to end in ``ids`` int64[m].

        ``candidates`` int64[m, columns] are what memory says at them. The result is the logits after the
        last token of each row, float32[n, V].

        Raises:
            CapacityExceeded: a row has no room for them.
        """
        ...


class TokenNetwork(Network[C]):
    """Predicts the next token of each row."""

    memory: MemoryEmbedding | None
    """How it is told what memory foretells, if it is."""

    @property
    def columns(self) -> int:
        """Of :mod:`music_assets.tokens.memory` that it is told: all, or 0."""
        return COLUMNS if self.memory else 0

    @abstractmethod
    def forward(
        self, ids: Tensor, segment_ids: Tensor | None = None, candidates: Tensor | None = None, skip: int = 0
    ) -> Tensor:
        """``ids`` int64[B, T] to logits [B, T - skip, V]: those of the first ``skip`` places are not asked for.

        ``segment_ids`` int64[B, T] say where rows hold several pieces end to end: tokens that follow each other with
        one number are one piece, numbers rise from piece to piece. Nothing is known of another piece: the logits are
        those of each piece alone in a row. Without them a row is one piece.

        ``candidates`` int64[B, T, columns] are what :mod:`music_assets.tokens.memory` says at the ids; without them
        nothing.
        """

    def loss(
        self, ids: Tensor, targets: Tensor, segment_ids: Tensor | None = None, candidates: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of -ln p of ``targets`` int64[B, T], what follows each id, in nats, and the number of those that are not
        ``IGNORED``, which cost nothing."""
        logits = self(ids, segment_ids, candidates).flatten(0, 1).float()
        nats = F.cross_entropy(logits, targets.flatten(), reduction="sum", ignore_index=IGNORED)
        return nats, (targets != IGNORED).sum()

    @abstractmethod
    def decode(self, ids: Tensor, state: State, candidates: Tensor | None = None) -> tuple[Tensor, State]:
        """As :meth:`Network.decode`, of ``ids`` int64[B, t] (t = 1 or a prompt) to logits [B, t, V]."""

    def decoder(self, rows: int, capacity: int) -> Decoder:
        """What decodes ``rows`` rows of up to ``capacity`` tokens, if the network has a limit."""
        from music_assets.models.decoding import TorchDecoder

        return TorchDecoder(self, rows, capacity)

    def _dtype(self) -> torch.dtype:
        """In which matrices are multiplied: autocast's, if it is on."""
        kind = self.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.embedding.weight.dtype
