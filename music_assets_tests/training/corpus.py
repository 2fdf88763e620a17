"""Small token shards, made from written tunes, and a training configuration that fits them."""

import hashlib

from music_assets.tokens.remi import encode
from music_assets.tokens.shards import Shard, make_shard
from music_assets.tokens.transposition import TRANSPOSITIONS, shift
from music_assets.training.settings import TrainingSettings
from music_assets_tests.architectures import fields
from music_assets_tests.midi_files import make_tune

GENRES = {"reel": "reel", "waltz": "waltz"}


def shards(pieces: int = 12, bars: int = 8, transpositions: tuple[str, ...] = ("original", "up2")) -> list[Shard]:
    """Two genres; every sixth piece is held out for validation, every sixth for the test."""
    made = []
    for genre, style in GENRES.items():
        rows = []
        for seed in range(pieces):
            score = make_tune(style=style, seed=seed, bars=bars)
            split = {0: "valid", 1: "test"}.get(seed % 6, "train")
            piece = hashlib.md5(f"{genre} {seed}".encode()).hexdigest()
            rows.append((piece, split, score.note_num(), score.end() / 960, encode(score)))
        for name in transpositions:
            kept = [row for row in rows if name == "original" or row[1] == "train"]
            ids, splits, notes, seconds, documents = zip(*kept, strict=True)
            moved = [shift(document, TRANSPOSITIONS[name]) for document in documents]
            made.append(make_shard(genre, name, ids, ids, splits, notes, seconds, moved))
    return made


def small_config(architecture: str = "gpt", **other) -> TrainingSettings:
    """A network over tokens that takes milliseconds a step."""
    return _config(fields(architecture, heads=2) | other.pop("network", {}), other)


def small_roll_config(**other) -> TrainingSettings:
    """A network over piano rolls that takes milliseconds a step."""
    return _config(other.pop("network", {}), other)


def _config(network, other) -> TrainingSettings:
    network = {"layers": 1, "width": 32, "context": 64} | network
    defaults = {"minutes": None, "tokens": 4 * 64 * 12, "batch_size": 4, "report_every": 1, "validations": 2}
    return TrainingSettings(**({"network": network} | defaults | other))
