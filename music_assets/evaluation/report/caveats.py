"""What a reader must know of the corpus before believing a number."""

import polars as pl

from music_assets.evaluation.subject import Subject
from music_assets.tokens.shards import stored_hash

FLAT_LEVELS = 8
"""A piece with no more different velocities was not played."""
FEW_PIECES = 30
"""Fewer test pieces of a genre give intervals that are worth a warning."""


def corpus_caveats(subject: Subject) -> list[str]:
    """Sentences on the pieces that the checkpoint was trained and is judged on."""
    paths, facts = subject.paths, subject.facts
    columns = ["genre", "split", "velocity_levels"]
    pieces = pl.concat(
        pl.read_parquet(paths.genre_pieces(genre), columns=columns, glob=False) for genre in facts.genres
    )
    flat = pieces.filter(pl.col("split") == "train")["velocity_levels"].le(FLAT_LEVELS).mean()
    test = (pl.col("split") == "test").sum().alias("test")
    few = pieces.group_by("genre").agg(test).filter(pl.col("test") < FEW_PIECES).sort("genre")
    learned = {shard.genre: shard.hash for shard in facts.shards if shard.transposition == "original"}
    sentences = ["One training with one seed: another would give somewhat other numbers."]
    if isinstance(flat, float) and flat > 0.05:
        sentences.append(
            f"{flat:.0%} of the training pieces have at most eight different velocities: they were typed or converted, "
            "not played, and numbers on velocity say nothing of performance."
        )
    if len(few):
        counts = ", ".join(f"{genre} {count}" for genre, count in few.iter_rows())
        sentences.append(f"Few test pieces, so wide intervals: {counts}.")
    if any(stored_hash(paths.shard(genre, "original")) != learned.get(genre) for genre in facts.genres):
        sentences.append(
            "Shards have changed since this checkpoint was trained: the counts of pieces are today's, and a test piece "
            "may be one that it has learned under another title."
        )
    return sentences
