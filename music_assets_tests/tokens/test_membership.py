"""What is said of a piece that is meant for shards."""

from pathlib import Path

import numpy as np

from music_assets.paths import DataPaths
from music_assets.tokens.membership import in_shards
from music_assets.tokens.shards import make_shard, write_shard


def test_a_piece_is_in_shards_or_the_reason_is_told(tmp_path: Path) -> None:
    paths = DataPaths(tmp_path)
    assert in_shards(paths, "reel", "a").startswith("in none yet: those of reel are still to be written")
    ids = np.zeros(4, np.uint16)
    failed = {"b": "b.mid: It would take 1,041,506 token ids."}
    shard = make_shard("reel", "original", ["a"], ["a"], ["train"], [1], [1.0], [ids], failed)
    write_shard(paths.shard("reel", "original"), shard, [ids])
    assert in_shards(paths, "reel", "a") == "in those of reel"
    assert in_shards(paths, "reel", "b") == "in none: b.mid: It would take 1,041,506 token ids."
    assert "the piece was not there or its file could not be read" in in_shards(paths, "reel", "c")
    paths.shard("reel", "original").write_bytes(b"nothing")
    assert in_shards(paths, "reel", "a").startswith("in none that can be read: ")
