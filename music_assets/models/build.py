"""From a configuration to a network."""

from typing import overload

from music_assets.models.config import AnyConfig, NetworkConfig, PianoRollConfig
from music_assets.models.gpt import GPT
from music_assets.models.network import Network
from music_assets.models.rnn import RNN
from music_assets.models.roll_rnn import PianoRoll

AnyNetwork = Network | PianoRoll


@overload
def build(config: NetworkConfig, vocab_size: int) -> Network: ...
@overload
def build(config: PianoRollConfig, vocab_size: int) -> PianoRoll: ...
def build(config: AnyConfig, vocab_size: int) -> AnyNetwork:
    """A freshly initialised network; one over tokens takes ids below ``vocab_size``."""
    if isinstance(config, PianoRollConfig):
        return PianoRoll(config)
    return (GPT if config.architecture == "gpt" else RNN)(config, vocab_size)
