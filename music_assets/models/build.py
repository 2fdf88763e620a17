"""From a configuration to a network."""

from music_assets.models.config import NetworkConfig
from music_assets.models.gpt import GPT
from music_assets.models.network import Network
from music_assets.models.rnn import RNN


def build(config: NetworkConfig, vocab_size: int) -> Network:
    """A freshly initialised network for ids below ``vocab_size``."""
    return (GPT if config.architecture == "gpt" else RNN)(config, vocab_size)
