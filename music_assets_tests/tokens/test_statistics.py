from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from music_assets.tokens.shards import Shard, make_shard
from music_assets.tokens.statistics import token_statistics
from music_assets.tokens.vocabulary import RANGES


def shard(genre: str, lengths: list[int], notes: list[int]) -> Shard:
    """Pieces that are nothing but bars."""
    names = [f"{index:04}" for index in range(len(lengths))]
    documents = [np.full(length, RANGES["Bar"].start, np.uint16) for length in lengths]
    splits, seconds = ["train"] * len(names), [60.0] * len(names)
    return make_shard(genre, "original", names, names, splits, notes, seconds, documents)


def test_sums_lengths_and_octaves_over_several_shards() -> None:
    found = token_statistics([shard("jazz", [*range(1, 102)], [2] * 101), shard("rock", [700], [3])])
    assert (found.pieces, found.tokens, found.notes, found.seconds) == (102, 5151 + 700, 205, 102 * 60)
    assert found.tokens_per_note == pytest.approx(5851 / 205)
    assert found.lengths == {
        "shortest": 1, "5%": 6, "25%": 26, "median": 51, "75%": 77, "95%": 97, "longest": 700
    }  # fmt: skip
    assert found.length_histogram == {
        "from 1": 1, "from 2": 2, "from 4": 4, "from 8": 8, "from 16": 16, "from 32": 32, "from 64": 38,
        "from 128": 0, "from 256": 0, "from 512": 1,
    }  # fmt: skip
    assert found.token_types == {"Bar": 5851}


def test_losses_are_shares_and_means_of_all_notes_in_the_files() -> None:
    random = np.random.default_rng(0)
    shards, notes, sums = [], 0, dict.fromkeys(("dropped", "clipped", "displaced", "clipped_tempos"), 0)
    onset_error = duration_error = 0.0
    for genre in ("jazz", "rock"):
        kept = random.integers(1, 50, 30)
        made = shard(genre, [10] * 30, kept.tolist())
        losses = {name: random.integers(0, 9, 30) for name in sums}
        errors = {name: random.random(30).astype(np.float32) for name in ("onset_error", "duration_error")}
        columns = [pl.Series(name, values) for name, values in {**losses, **errors}.items()]
        rows = made.rows.with_columns(columns).cast(dict.fromkeys(sums, pl.Int32))
        shards.append(replace(made, rows=rows))
        for piece in range(30):
            read = kept[piece] + losses["dropped"][piece]
            notes += read
            onset_error += read * float(errors["onset_error"][piece])
            duration_error += read * float(errors["duration_error"][piece])
            for name in sums:
                sums[name] += losses[name][piece]
    found = token_statistics(shards)
    assert {name: getattr(found, name) for name in sums} == sums
    assert found.share(found.clipped) == pytest.approx(sums["clipped"] / notes)
    assert found.onset_error == pytest.approx(onset_error / notes)
    assert found.duration_error == pytest.approx(duration_error / notes)


@pytest.mark.parametrize("shards", [[], [shard("jazz", [], [])]])
def test_nothing_has_statistics_too(shards: list[Shard]) -> None:
    found = token_statistics(shards)
    assert (found.pieces, found.tokens, found.tokens_per_note, found.share(0), found.onset_error) == (0, 0, 0, 0, 0)
    assert found.lengths == found.length_histogram == found.token_types == {}
