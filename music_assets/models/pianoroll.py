"""Recurrent network over piano rolls: what sounds in each 16th note, given all of them before."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from music_assets.models.network import State
from music_assets.tokens.pianoroll import KEYS
from music_assets.tokens.vocabulary import GENRE_SLOTS

PLANES = 2 * KEYS
"""Cells of a step: for every key whether it is struck, then whether it is held."""
NO_GENRE = 0
"""Number that stands for no genre; genre slot ``i`` is ``i + 1``."""


class PianoRollConfig(BaseModel):
    """The shape of a piano-roll network and the weight of its loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["pianoroll"] = "pianoroll"
    layers: int = Field(2, ge=1, description="Number of LSTM layers")
    width: int = Field(512, ge=8, description="Size of each layer")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of activations dropped between layers")
    context: int = Field(256, ge=8, description="Steps (16th notes) that the network is trained to look at")
    positive_weight: float = Field(
        4.0, gt=0, description="How many silent cells a struck or held one outweighs in the training loss"
    )


class PianoRoll(nn.Module):
    """Predicts the next step's planes from those before, :func:`music_assets.tokens.pianoroll.planes`.

    A key is struck by the chance sigmoid(first plane), and if it is not, held by sigmoid(second plane).
    Decoding a roll in parts of any size gives the logits of one ``forward``.
    """

    def __init__(self, config: PianoRollConfig) -> None:
        super().__init__()
        between_layers = config.dropout if config.layers > 1 else 0.0
        self.config = config
        self.embedding = nn.Embedding(1 + GENRE_SLOTS, PLANES)  # of genres
        self.cells = nn.LSTM(PLANES, config.width, config.layers, batch_first=True, dropout=between_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, PLANES)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, -4.0)  # few cells are not silent

    def forward(self, planes: Tensor, genres: Tensor | None = None) -> Tensor:
        """``planes`` [B, T, 176] of 0 and 1, ``genres`` int64[B], to the logits [B, T, 176] of each one's next step."""
        output, _ = self.cells(self._input(planes, genres))  # [B, T, W]
        return self.head(self.dropout(output))

    def initial_state(self, batch: int, capacity: int) -> State:
        """An empty state; it has one size for any number of steps: ``capacity`` is not a limit."""
        shape = (self.config.layers, batch, self.config.width)  # [L, B, W]
        return State((torch.zeros(shape, device=self.device), torch.zeros(shape, device=self.device)), 0, None)

    @torch.no_grad()
    def decode(self, planes: Tensor, state: State, genres: Tensor | None = None) -> tuple[Tensor, State]:
        """The next ``planes`` [B, t, 176] of each roll to logits [B, t, 176] and the new state. No gradient flows."""
        output, memory = self.cells(self._input(planes, genres), state.tensors)
        return self.head(self.dropout(output)), State(memory, state.length + planes.shape[1], None)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def parameter_count(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _input(self, planes: Tensor, genres: Tensor | None) -> Tensor:
        if genres is None:
            genres = torch.full((len(planes),), NO_GENRE, device=self.device)
        return planes.to(self.embedding.weight.dtype) + self.embedding(genres)[:, None]  # [B, T, 176]


def nats(logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
    """-ln p of each step of a roll, float32[B, T], of logits and planes [B, T, 176].

    Whether a struck key would have been held is not asked. With a ``positive_weight`` w it is a loss to train on:
    binary cross-entropy in which a cell that is not silent counts w times. Its minimum would be where the odds are w
    times the true ones, so it takes the logits plus ln w: they stay those of the true chances.
    """
    struck = targets[..., :KEYS].float()  # [B, T, 88]
    weight = logits.new_tensor(positive_weight, dtype=torch.float32)
    cells = F.binary_cross_entropy_with_logits(
        logits.float() + weight.log(), targets.float(), pos_weight=weight, reduction="none"
    )
    strike, hold = cells.unflatten(-1, (2, KEYS)).unbind(-2)
    return (strike + hold * (1 - struck)).sum(-1)


def density(planes: Tensor) -> Tensor:
    """Keys that sound in each step, float32[...], of planes [..., 176]."""
    return planes.float().sum(-1)


def expected_density(logits: Tensor) -> Tensor:
    """Keys that sound in each step on average, float32[...], by the chances of logits [..., 176]."""
    strike, hold = logits.float().sigmoid().unflatten(-1, (2, KEYS)).unbind(-2)
    return (strike + (1 - strike) * hold).sum(-1)
