"""The networks that can be trained, a record each. Imports no torch: a network's own module is, once it is built.

A new network is a file beside this one, with its class and its configuration, and a record here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from music_assets.foundation.settings import InvalidSettings, invalid_settings

if TYPE_CHECKING:
    from music_assets.models.network import Network, NetworkConfig

UNITS = {"tokens": "tokens", "rolls": "roll steps"}
"""What is counted of each representation, in the plural: a network reads one of them at a time."""


@dataclass(frozen=True)
class Architecture:
    """What the program knows of a network before it is built."""

    name: str
    network: str  # its class, as module:class
    reads: Literal["tokens", "rolls"]
    presets: Mapping[str, Mapping[str, Any]]  # fields of its configuration: tiny for a CPU, small and base for a GPU
    optimizer: Literal["adamw", "muon"]  # by default
    worth_compiling: bool

    @property
    def unit(self) -> str:
        """What a network of this architecture reads one of at a time, in the plural."""
        return UNITS[self.reads]

    def preset(self, name: str) -> dict[str, Any]:
        """Fields of the configuration.

        Raises:
            InvalidSettings: there is no such preset.
        """
        if name not in self.presets:
            raise InvalidSettings(f"No preset {name!r} for {self.name}: choose one of {', '.join(self.presets)}.")
        return {"architecture": self.name, **self.presets[name]}

    def load(self) -> "type[Network]":
        """The network's class; imports torch."""
        module, name = self.network.split(":")
        return getattr(import_module(module), name)


_RECURRENT = {
    "tiny": {"layers": 2, "width": 384, "embedding": 192, "context": 256},
    "small": {"layers": 3, "width": 896, "embedding": 512, "dropout": 0.1},
    "base": {"layers": 3, "width": 1664, "embedding": 768, "dropout": 0.2},
    "note-rnn": {"layers": 2, "width": 256, "embedding": 128, "dropout": 0.3},
    "violin-lstm": {"layers": 3, "width": 256, "embedding": 256, "dropout": 0.3},
}

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        one.name: one
        for one in (
            Architecture(
                name="gpt",
                network="music_assets.models.gpt:GPT",
                reads="tokens",
                presets={
                    "tiny": {"layers": 3, "width": 256, "heads": 4, "context": 256},
                    "small": {"layers": 6, "width": 384, "heads": 6, "context": 1024, "dropout": 0.1},
                    "base": {"layers": 12, "width": 512, "heads": 8, "context": 2048, "dropout": 0.1},
                },
                optimizer="adamw",
                worth_compiling=True,
            ),
            *(
                Architecture(
                    name=cells,
                    network="music_assets.models.rnn:RNN",
                    reads="tokens",
                    presets=_RECURRENT,
                    optimizer="muon",
                    worth_compiling=False,
                )
                for cells in ("lstm", "gru")
            ),
            Architecture(
                name="pianoroll",
                network="music_assets.models.roll_rnn:RollRNN",
                reads="rolls",
                presets={
                    "tiny": {"layers": 2, "width": 256},
                    "small": {"layers": 2, "width": 512, "dropout": 0.3},
                    "base": {"layers": 3, "width": 1024, "dropout": 0.3},
                },
                optimizer="muon",
                worth_compiling=False,
            ),
        )
    }
)


def find_architecture(name: str) -> Architecture:
    """The record of a network.

    Raises:
        InvalidSettings: there is none of this name.
    """
    if name not in ARCHITECTURES:
        raise InvalidSettings(f"No architecture {name!r}: choose one of {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]


def network_config(
    architecture: str, preset: str = "tiny", overrides: Mapping[str, Any] | None = None
) -> "NetworkConfig":
    """The preset with some of its fields replaced.

    Raises:
        InvalidSettings: unknown architecture, preset or field, or a value that does not fit.
    """
    chosen = find_architecture(architecture)
    fields = chosen.preset(preset) | dict(overrides or {})
    try:
        return chosen.load().Config.model_validate(fields)
    except ValidationError as error:
        raise invalid_settings(error) from None


class _Stored(BaseModel):
    architecture: str


def read_config(text: str | bytes) -> "NetworkConfig":
    """The configuration that is stored as JSON.

    Raises:
        ValidationError: it is damaged (pydantic's).
        InvalidSettings: it is of an unknown architecture.
    """
    return find_architecture(_Stored.model_validate_json(text).architecture).load().Config.model_validate_json(text)


def build(config: "NetworkConfig", vocab_size: int) -> "Network":
    """A freshly initialised network; one over tokens takes ids below ``vocab_size``."""
    return find_architecture(config.architecture).load()(config, vocab_size)
