"""What all parts of the page share."""

from dataclasses import dataclass, field
from functools import cached_property

from music_assets.app.events import Stops
from music_assets.app.pages import Pages
from music_assets.checkpoints.runs import CheckpointFacts
from music_assets.checkpoints.storage import Checkpoint
from music_assets.generation.choices import Choices, choices
from music_assets.models.registry import find_architecture
from music_assets.paths import DataPaths


@dataclass(frozen=True)
class Model:
    """A champion, and what it can be asked for."""

    checkpoint: Checkpoint

    @property
    def facts(self) -> CheckpointFacts:
        return self.checkpoint.facts

    @cached_property
    def can(self) -> Choices:
        """What it can be asked for."""
        return choices(self.facts)

    @property
    def reads_tokens(self) -> bool:
        """Whether it writes for several instruments, and fills."""
        return find_architecture(self.facts.architecture).reads == "tokens"

    @property
    def remembers(self) -> bool:
        """Whether memory tells it what it wrote before."""
        return self.reads_tokens and self.checkpoint.token_network.columns > 0


@dataclass(frozen=True)
class Studio:
    """Whose music it is, where results lie, who is there, and what is being written."""

    paths: DataPaths
    model: Model
    piano: Model | None
    """A pianoroll's champion beside the model."""
    stops: Stops = field(default_factory=Stops)
    pages: Pages = field(default_factory=Pages)

    @property
    def models(self) -> list[Model]:
        """All that can be asked."""
        return [self.model, *([self.piano] if self.piano else [])]

    @property
    def idle(self) -> bool:
        """Whether no page is open and nothing is being written."""
        return not self.pages.count and not self.stops.count
