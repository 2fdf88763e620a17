"""Settings of one training run."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from music_assets.foundation.settings import Settings

Precision = Literal["auto", "float32"]


class TrainingSettings(Settings):
    """How a network is trained. The run ends when the first of its budgets (minutes, tokens) is spent.

    A pianoroll has no controls and no infills.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field(default="tiny", description="Size of the network: tiny (CPU), small, base (one big GPU)")
    network: dict[str, Any] = Field(
        default={}, description="Fields of the network that differ from the preset, such as {layers: 5, dropout: 0.1}"
    )
    minutes: float | None = Field(default=3.5, gt=0, description="Budget in minutes, validation included")
    tokens: int | None = Field(
        default=None, gt=0, description="Budget in training tokens; of a pianoroll, in steps of rolls"
    )
    batch_size: int = Field(
        default=12,
        ge=1,
        description="Rows computed at once, which take the memory; a row is as long as the network's context",
    )
    accumulate: int = Field(default=1, ge=1, description="Batches whose gradients make one step")
    processes: int = Field(
        default=1,
        ge=1,
        description="Processes that share each batch's rows, one a GPU or, on CPUs, one a group of cores",
    )
    optimizer: Literal["auto", "adamw", "muon"] = Field(
        default="auto",
        description="adamw for all weights; muon: Muon for the matrices inside the layers, AdamW for the rest; auto: "
        "adamw for a gpt, muon for the others",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Peak learning rate; if not given, what suits the optimizer and the network"
    )
    weight_decay: float = Field(default=0.1, ge=0, description="Decoupled weight decay of the matrices")
    warmup: float = Field(default=0.03, ge=0, lt=1, description="Share of the budget in which the learning rate rises")
    final_rate: float = Field(
        default=0.02, ge=0, le=1, description="Learning rate at the end of the decay, as a share of the peak"
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="Largest norm of a step's gradient")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="End after so many validations in a row without improvement; never, if not given",
    )
    compile: bool | None = Field(
        default=None,
        description="Use torch.compile; if not given, for a gpt with a budget of 2 minutes or more, or of 3 million "
        "tokens and no minutes, where it works",
    )
    precision: Precision = Field(
        default="auto",
        description="auto: bfloat16 for matrix products where that is faster; or float32",
    )
    genre_temperature: float = Field(
        default=5.0,
        ge=1,
        description="Genres are drawn by tokens ** (1 / temperature): 1 as they come, a large value equally",
    )
    genre_dropout: float = Field(
        default=0.1, ge=0, le=1, description="Share of pieces shown without their genre, for unconditional generation"
    )
    control_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of pieces shown with controls: instruments, tempo, density, bars, key, time signature",
    )
    control_dropout: float = Field(
        default=0.3, ge=0, le=1, description="Share of these controls left out nevertheless, each on its own"
    )
    infill_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of pieces shown as an infill: some bars, or a program in them, come last",
    )
    original_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of pieces drawn in their own key; the rest evenly in the other ones"
    )
    beginning_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of rows that begin where their piece does, as music from nothing does; the rest anywhere",
    )
    memory_dropout: float = Field(
        default=0.4, ge=0, le=1, description="Share of pieces at which the network is told nothing of memory"
    )
    transpositions: list[str] | None = Field(
        default=None,
        description="Transpositions to train on, such as [original, up2]; all materialised ones if not given",
    )
    validations: int = Field(
        default=4, ge=1, description="How often to validate, evenly over the budget, the end included"
    )
    validation_tokens: int = Field(
        default=60_000,
        ge=1,
        description="About how many tokens of whole held-out pieces, in equal parts a genre, to score",
    )
    samples: int = Field(
        default=1,
        ge=0,
        description="Samples to hear in MLflow after each validation, of one genre after the other; none where several "
        "processes train",
    )
    report_every: int = Field(default=20, ge=1, description="Steps between two points of the training curves")
    save_minutes: float = Field(default=5.0, gt=0, description="Minutes of work that a kill may cost at most")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the weights, the batches and dropout")
    device: str = Field(default="auto", description="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one")

    @model_validator(mode="after")
    def _has_budget(self) -> Self:
        if self.minutes is None and self.tokens is None:
            raise ValueError("A training run needs a budget: give minutes, tokens or both.")
        return self
