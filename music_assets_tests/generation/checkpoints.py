"""Checkpoints of networks that are not trained, for tests that do not listen."""

from functools import cache
from pathlib import Path

import torch

from music_assets.checkpoints.runs import CheckpointFacts
from music_assets.checkpoints.storage import Checkpoint
from music_assets.models.network import TokenNetwork
from music_assets.models.registry import build, network_config
from music_assets.tokens.vocabulary import DRUMS, Vocabulary

VOCABULARY = Vocabulary(("reel", "jig"))
PROGRAMS = [0, 4, 24, 32, 33, 40, 73, DRUMS]


@cache
def untrained(architecture: str = "gpt", **fields: int) -> Checkpoint:
    """A small network whose logits are not flat, in a checkpoint that has heard some programs."""
    torch.manual_seed(0)
    sizes = {"layers": 1, "width": 32, "context": 96}
    extra = {"gpt": {"heads": 2}, "lstm": {"embedding": None}, "gru": {"embedding": None}}.get(architecture, {})
    network = build(network_config(architecture, "tiny", sizes | extra | fields), VOCABULARY.size)
    for parameter in network.parameters():
        if isinstance(network, TokenNetwork) and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    facts = CheckpointFacts(
        architecture=architecture,
        run="untrained",
        vocabulary=VOCABULARY.fingerprint,
        step=0,
        tokens=0,
        minutes=0,
        parameters=network.parameter_count,
        genres=list(VOCABULARY.genres),
        transpositions=["original"],
        programs=PROGRAMS,
        shards=[],
        dataset_hash="",
        validation_hash="",
        bits_per_note=None,
        measures={},
        seed=0,
        training={},
        torch_version=torch.__version__,
    )
    return Checkpoint(Path("untrained"), network.eval(), VOCABULARY, facts)
