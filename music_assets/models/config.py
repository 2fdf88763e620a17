"""What a network is made of, and the presets: `tiny` for a laptop's CPU, `small` and `base` for a GPU."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args, overload

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from music_assets.foundation.settings import InvalidSettings, Settings, invalid_settings
from music_assets.tokens.repeats import ORDERS

TokenArchitecture = Literal["gpt", "lstm", "gru"]
TOKEN_ARCHITECTURES: tuple[TokenArchitecture, ...] = get_args(TokenArchitecture)
"""Those that read and write tokens; `pianoroll` reads and writes steps of a piano roll."""


class _Shape(Settings):
    """What all networks have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1, description="Number of layers")
    width: int = Field(ge=8, description="Size of a layer's output")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of activations dropped between layers")


class NetworkConfig(_Shape):
    """The shape of one network over tokens; with the vocabulary's size it fixes every weight's shape."""

    architecture: TokenArchitecture = Field(description="gpt (decoder-only transformer), lstm or gru")
    heads: int = Field(1, ge=1, description="Attention heads (gpt only)")
    embedding: int | None = Field(
        None, ge=1, description="Size of a token's embedding where it differs from width (lstm, gru)"
    )
    context: int = Field(512, ge=8, description="Tokens that the network is trained to look at, prompt included")
    tied: bool = Field(False, description="Whether input embedding and output layer share their weights")

    @property
    def orders(self) -> tuple[int, ...]:
        """Of the repeats that the network is told of, :mod:`music_assets.tokens.repeats`."""
        return ORDERS if self.architecture == "gpt" else ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.architecture == "gpt" and self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} over {self.heads} heads leaves no even head size: choose a multiple of "
                f"{2 * self.heads}."
            )
        if self.architecture == "gpt" and self.embedding is not None:
            raise ValueError("embedding applies to lstm and gru only: a gpt embeds tokens in its full width.")
        if self.tied and self.embedding not in (None, self.width):
            raise ValueError(
                f"tied weights need embedding and width to be equal, not {self.embedding} and {self.width}."
            )
        return self


class PianoRollConfig(_Shape):
    """The shape of a piano-roll network and the weight of its loss."""

    architecture: Literal["pianoroll"] = "pianoroll"
    context: int = Field(default=256, ge=8, description="Steps (16th notes) that the network is trained to look at")
    positive_weight: float = Field(
        default=4.0, gt=0, description="How many silent cells a struck or held one outweighs in the training loss"
    )


AnyConfig = NetworkConfig | PianoRollConfig
_STORED: TypeAdapter[AnyConfig] = TypeAdapter(Annotated[AnyConfig, Field(discriminator="architecture")])


def read_config(text: str | bytes) -> AnyConfig:
    """The configuration that is stored as JSON. Raises pydantic's ValidationError if it is damaged."""
    return _STORED.validate_json(text)


def unit(architecture: str) -> str:
    """What a network of an architecture reads one of at a time, in the plural: what `tokens` counts in a training."""
    return "tokens" if architecture in TOKEN_ARCHITECTURES else "roll steps"


def _gpt(layers: int, width: int, heads: int, **other: Any) -> NetworkConfig:
    return NetworkConfig(architecture="gpt", layers=layers, width=width, heads=heads, **other)


def _recurrent(architecture: TokenArchitecture) -> dict[str, NetworkConfig]:
    def network(layers: int, width: int, **other: Any) -> NetworkConfig:
        return NetworkConfig(architecture=architecture, layers=layers, width=width, **other)

    return {
        "tiny": network(2, 384, embedding=192, context=256),
        "small": network(3, 896, embedding=512, dropout=0.1),
        "base": network(3, 1664, embedding=768, dropout=0.2),
        "note-rnn": network(2, 256, embedding=128, dropout=0.3),
        "violin-lstm": network(3, 256, embedding=256, dropout=0.3),
    }


PRESETS: Mapping[str, Mapping[str, AnyConfig]] = {
    "gpt": {
        "tiny": _gpt(3, 256, 4, context=256),
        "small": _gpt(6, 384, 6, context=1024, dropout=0.1),
        "base": _gpt(12, 512, 8, context=2048, dropout=0.1),
    },
    "lstm": _recurrent("lstm"),
    "gru": _recurrent("gru"),
    "pianoroll": {
        "tiny": PianoRollConfig(layers=2, width=256),
        "small": PianoRollConfig(layers=2, width=512, dropout=0.3),
        "base": PianoRollConfig(layers=3, width=1024, dropout=0.3),
    },
}


@overload
def network_config(
    architecture: TokenArchitecture, preset: str = "tiny", overrides: dict[str, Any] | None = None
) -> NetworkConfig: ...
@overload
def network_config(
    architecture: Literal["pianoroll"], preset: str = "tiny", overrides: dict[str, Any] | None = None
) -> PianoRollConfig: ...
@overload
def network_config(architecture: str, preset: str = "tiny", overrides: dict[str, Any] | None = None) -> AnyConfig: ...
def network_config(architecture: str, preset: str = "tiny", overrides: dict[str, Any] | None = None) -> AnyConfig:
    """The preset with some of its fields replaced.

    Raises:
        InvalidSettings: unknown architecture, preset or field, or a value that does not fit.
    """
    if architecture not in PRESETS:
        raise InvalidSettings(f"No architecture {architecture!r}: choose one of {', '.join(PRESETS)}.")
    if preset not in PRESETS[architecture]:
        choices = ", ".join(PRESETS[architecture])
        raise InvalidSettings(f"No preset {preset!r} for {architecture}: choose one of {choices}.")
    chosen = PRESETS[architecture][preset]
    try:
        return type(chosen).model_validate(chosen.model_dump() | (overrides or {}))
    except ValidationError as error:
        raise invalid_settings(error) from None
