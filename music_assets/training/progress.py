"""What a training tells while it runs, and when it is done."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from music_assets.checkpoints.runs import CheckpointFacts

if TYPE_CHECKING:
    from music_assets.training.validation import ValidationSet


@dataclass(frozen=True)
class Score:
    """Bits per note, over all pieces together and by genre.

    A piano roll's are bits of the roll per key that it strikes, and compare with those of other piano rolls alone.
    """

    bits_per_note: float
    by_genre: dict[str, float]
    measures: dict[str, float] = field(default_factory=dict)
    """What else was measured, by name, on average: :func:`music_assets.training.validation.validate`."""


@dataclass(frozen=True)
class TrainingProgress:
    """A point of the training curves. Where a network learns piano rolls, its steps are counted as tokens."""

    step: int
    tokens: int
    seconds: float
    fraction: float  # of the budget
    loss: float  # nats per token, mean since the last point; of a piano roll, weighted
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens_per_second: float  # since the last point, or the validation after it
    waited: float  # share of that time spent waiting for batches to be drawn
    score: Score | None  # where the network was validated at this step
    unit: str = "tokens"  # what a token is called

    def line(self) -> str:
        """For people who watch."""
        line = (
            f"{min(self.fraction, 1):4.0%}  {self.tokens:,} {self.unit}, {self.tokens_per_second:,.0f} a second, "
            f"loss {self.loss:.3f}"
        )
        return line + (f", validation {self.score.bits_per_note:.3f} bits per note" if self.score else "")


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
    validation: "ValidationSet"
