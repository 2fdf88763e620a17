"""Where a training run stands, and whether the run in a folder is the one that is meant."""

from pathlib import Path

from pydantic import BaseModel

from music_assets.checkpoints.runs import CheckpointFacts
from music_assets.foundation.errors import MusicAssetsError
from music_assets.training.settings import TrainingSettings


class RunMismatch(MusicAssetsError):
    """A run's folder holds a run with other settings or other data."""


class Position(BaseModel):
    """Where a run stands, as far as it is not in the weights and the optimisers."""

    step: int = 0
    tokens: int = 0  # of a piano roll, steps
    seconds: float = 0.0
    prepared: float = 0.0  # share of the budget that was spent before the first step
    validations: int = 0
    best: float | None = None
    stale: int = 0  # validations since the best one
    loss_sum: float = 0.0  # since the last report
    loss_count: int = 0
    learning_rate: float = 0.0  # of the last step
    gradient_norm: float = 0.0
    first_loss: float | None = None
    last_loss: float | None = None

    def spent(self, settings: TrainingSettings) -> float:
        """Share of the budget that is spent; 1 or more: all of it."""
        tokens = self.tokens / settings.tokens if settings.tokens else 0.0
        minutes = self.seconds / 60 / settings.minutes if settings.minutes else 0.0
        return max(tokens, minutes)

    def is_over(self, settings: TrainingSettings) -> bool:
        """Whether the run ends here; it has at least one step, for compiling alone may take a whole short budget."""
        stale = settings.patience is not None and self.stale >= settings.patience
        return self.step > 0 and (self.spent(settings) >= 1 or stale)


def require_same_run(run: Path, wanted: CheckpointFacts, found: CheckpointFacts, same_vocabulary: bool) -> None:
    """Raises RunMismatch if ``found``, what the folder ``run`` holds, began with other settings or data."""
    different = [field for field in wanted.training if wanted.training[field] != found.training.get(field)]
    different += [
        field for field in ("architecture", "dataset_hash") if getattr(wanted, field) != getattr(found, field)
    ]
    different += [] if same_vocabulary else ["vocabulary"]
    if different:
        raise RunMismatch(
            f"{run} holds a run with another {', '.join(different)}: "
            "start a new run, or repeat the settings and data of that one to resume it."
        )
