"""Which pieces a model trains on: a pure function of the files, so that no order of arrival matters.

A file's own split comes from a hash of its key: its folded title, whoever plays it, so that all versions and covers
of a song agree; without a title one value of its fingerprint, which most near-duplicates share; without
either its ``piece_id``. A piece, that is all files with the same music, is as held out as its most held-out file:
test before valid before train. Where a group holds pieces of different splits, the most held-out ones stay and the
others are ``excluded`` from every split, so that no group is in two.

What follows when files arrive: a piece in test stays there, and a piece in valid never enters train. Nothing
at all changes unless music that is known, or nearly so, arrives under another key; then its piece, or pieces of its
group, can leave train and, where the other key is in test, valid. No rule without a memory of who came first can do
better: music known by a title of train is in train, by a title of test in test, and by both it is still one
piece.
"""

import polars as pl

from music_assets.foundation.hashing import hexdigest

TEST_SHARE = 0.05
VALID_SHARE = 0.05
SPLITS = ("train", "valid", "test")
"""From the least to the most held out."""
EXCLUDED = "excluded"


def own_split(key: str) -> str:
    """The split that a key has by itself."""
    position = int(hexdigest(key, size=8), 16) / 2**64
    if position < TEST_SHARE:
        return "test"
    return "valid" if position < TEST_SHARE + VALID_SHARE else "train"


def assign_splits(files: pl.DataFrame) -> pl.DataFrame:
    """``piece_id`` and ``split`` (one of ``SPLITS`` or ``EXCLUDED``), one row a piece, sorted.

    ``files`` has the columns ``piece_id``, ``group_id`` and ``split_key`` (string, never null).
    """
    rank = pl.col("split_key").map_elements(lambda key: SPLITS.index(own_split(key)), pl.Int8)
    pieces = files.select("piece_id", "group_id", rank=rank).group_by("piece_id", "group_id").agg(pl.col("rank").max())
    names = pl.col("rank").replace_strict(range(len(SPLITS)), SPLITS, return_dtype=pl.String)
    held_out = pl.col("rank") < pl.col("rank").max().over("group_id")
    return pieces.select("piece_id", split=pl.when(held_out).then(pl.lit(EXCLUDED)).otherwise(names)).sort("piece_id")
