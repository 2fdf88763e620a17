"""The pieces that the training benchmarks learn from."""

from pathlib import Path

from music_assets.paths import DataPaths
from music_assets.tokens.shards import Shard, read_shard
from music_assets_tests.training.corpus import shards


def read_pieces(data: Path | None) -> list[Shard]:
    """The original shards of a data folder, where `token_shards` were materialised; without one, written tunes."""
    if data is None:
        return shards(pieces=24, bars=64)
    found = sorted(DataPaths(data).root.glob("tokens/*/original.arrow"))
    if not found:
        raise SystemExit(f"There are no token shards under {data}: materialise token_shards first.")
    return [read_shard(path) for path in found]
