"""Recurrent network over piano rolls: what sounds in each 16th note, given all of them before."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from music_assets.models.network import Network, NetworkConfig, State, run_cells
from music_assets.tokens.rolls import KEYS
from music_assets.tokens.vocabulary import GENRE_SLOTS, RANGES, Vocabulary

PLANES = 2 * KEYS
"""Cells of a step: for every key whether it is struck, then whether it is held."""
NO_GENRE = 0
"""Number that stands for no genre; genre slot ``i`` is ``i + 1``."""


class RollRNNConfig(NetworkConfig, frozen=True):
    """The shape of a recurrent network over piano rolls and the weight of its loss."""

    architecture: Literal["pianoroll"] = "pianoroll"
    context: int = Field(default=256, ge=8, description="Steps (16th notes) that the network is trained to look at")
    positive_weight: float = Field(
        default=4.0, gt=0, description="How many silent cells a struck or held one outweighs in the training loss"
    )


class RollRNN(Network[RollRNNConfig]):
    """Predicts the next step's planes from those before, :func:`music_assets.tokens.rolls.planes`.

    A key is struck by the chance sigmoid(first plane), and if it is not, held by sigmoid(second plane).
    """

    Config = RollRNNConfig

    def __init__(self, config: RollRNNConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        between_layers = config.dropout if config.layers > 1 else 0.0
        self.embedding = nn.Embedding(1 + GENRE_SLOTS, PLANES)  # of genres
        self.cells = nn.LSTM(PLANES, config.width, config.layers, batch_first=True, dropout=between_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, PLANES)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, -4.0)  # few cells are not silent

    def forward(self, planes: Tensor, genres: Tensor | None = None) -> Tensor:
        """``planes`` [B, T, 176] of 0 and 1, ``genres`` int64[B], to the logits [B, T, 176] of each one's next step."""
        output, _ = run_cells(self.cells, self._input(planes, genres))  # [B, T, W]
        return self.head(self.dropout(output))

    def loss(self, planes: Tensor, targets: Tensor, scored: Tensor, genres: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the weighted :func:`nats` of the steps ``targets`` [B, T, 176], what follows each step of ``planes``,
        and their number, where ``scored`` bool[B, T]."""
        weighted = nats(self(planes, genres), targets, self.config.positive_weight)
        return (weighted * scored).sum(), scored.sum()

    def initial_state(self, batch: int, capacity: int) -> State:
        """An empty state; it has one size for any number of steps: ``capacity`` is not a limit."""
        shape = (self.config.layers, batch, self.config.width)  # [L, B, W]
        tensors = torch.zeros(shape, device=self.device), torch.zeros(shape, device=self.device)
        return State(tensors, torch.zeros(batch, dtype=torch.int64), None)

    @torch.no_grad()
    def decode(self, planes: Tensor, state: State, genres: Tensor | None = None) -> tuple[Tensor, State]:
        """The next ``planes`` [B, t, 176] of each roll to logits [B, t, 176] and the new state. No gradient flows."""
        output, memory = run_cells(self.cells, self._input(planes, genres), state.tensors)
        return self.head(self.dropout(output)), State(memory, state.lengths + planes.shape[1], None)

    def _input(self, planes: Tensor, genres: Tensor | None) -> Tensor:
        if genres is None:
            genres = torch.full((len(planes),), NO_GENRE, device=self.device)
        return planes.to(self.embedding.weight.dtype) + self.embedding(genres)[:, None]  # [B, T, 176]


def genre_number(vocabulary: Vocabulary, genre: str | None) -> int:
    """The number of a genre. Raises UnknownGenre."""
    return NO_GENRE if genre is None else vocabulary.genre_id(genre) - RANGES["Genre"].start + 1


def nats(logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
    """-ln p of each step of a roll, float32[B, T], of logits and planes [B, T, 176].

    Whether a struck key would have been held is not asked. With a ``positive_weight`` w it is a loss to train on:
    binary cross-entropy in which a cell that is not silent counts w times. Its minimum would be where the odds are w
    times the true ones, so it takes the logits plus ln w: they stay those of the true chances.
    """
    struck = targets[..., :KEYS].float()  # [B, T, 88]
    weight = torch.full((), positive_weight, device=logits.device)
    cells = F.binary_cross_entropy_with_logits(
        logits.float() + math.log(positive_weight), targets.float(), pos_weight=weight, reduction="none"
    )
    strike, hold = _planes(cells)
    return (strike + hold * (1 - struck)).sum(-1)


def density(planes: Tensor) -> Tensor:
    """Keys that sound in each step, float32[...], of planes [..., 176]."""
    return planes.float().sum(-1)


def expected_density(logits: Tensor) -> Tensor:
    """Keys that sound in each step on average, float32[...], by the chances of logits [..., 176]."""
    strike, hold = _planes(logits.float().sigmoid())
    return (strike + (1 - strike) * hold).sum(-1)


def _planes(cells: Tensor) -> tuple[Tensor, Tensor]:
    """What is said of strikes and of holds, [..., 88] each, of [..., 176]."""
    return cells[..., :KEYS], cells[..., KEYS:]
