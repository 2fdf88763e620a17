"""Clusters and leaks against comparing every pair, on edited tunes, and where hashing has no chance."""

import os
import random
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from symusic.core import ScoreTick

from music_assets.corpus.index import duplicates
from music_assets.corpus.index.duplicates import (
    THRESHOLD,
    BadFingerprints,
    bucket_pairs,
    near_duplicates,
    residual_leak,
)
from music_assets.corpus.reading.fingerprints import VALUES, WORDS, fingerprint, similarity
from music_assets.foundation.midi.reading import read_score
from music_assets_tests import midi_edits as edits
from music_assets_tests.midi_files import STYLES, make_tune

TUNES = {f"{style} {seed}": make_tune(style=style, seed=seed, bars=32) for style in STYLES for seed in range(8)}


def frame(fingerprints: Mapping[str, Sequence[int] | NDArray[np.uint32] | None]) -> pl.DataFrame:
    lists = [None if words is None else list(words) for words in fingerprints.values()]
    schema = {"piece_id": pl.String, "fingerprint": pl.List(pl.UInt32)}
    return pl.DataFrame({"piece_id": list(fingerprints), "fingerprint": lists}, schema=schema)


def of_scores(scores: dict[str, ScoreTick]) -> pl.DataFrame:
    return frame({name: fingerprint(score) for name, score in scores.items()})


def clusters(pieces: pl.DataFrame) -> dict[str, str]:
    return dict(near_duplicates(pieces).iter_rows())


def bins(seed: int) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 1 << 16, VALUES, dtype=np.uint16)


def varied(values: NDArray[np.uint16], share: float, seed: int) -> NDArray[np.uint16]:
    """Bins of which about this share are others."""
    chance = np.random.default_rng([seed, 1])
    other = chance.integers(0, 1 << 16, values.shape, dtype=np.uint16)
    return np.where(chance.random(values.shape) < share, other, values)


def family(originals: int, copies: int, share: float, seed: int = 0) -> dict[str, NDArray[np.uint32]]:
    """Fingerprints of originals and their varied copies; the ids of a family are scattered."""
    ids = [f"{number:05d}" for number in random.Random(seed).sample(range(100_000), originals * copies)]
    return {
        ids[original * copies + copy]: varied(
            bins(seed * 1000 + original), share if copy else 0.0, original * copies + copy
        ).view(np.uint32)
        for original in range(originals)
        for copy in range(copies)
    }


def every_pair(fingerprints: dict[str, NDArray[np.uint32]], threshold: float) -> dict[str, str]:
    """Components by comparing all with all."""
    cluster = {name: name for name in fingerprints}
    for left in sorted(fingerprints):
        for right in sorted(fingerprints):
            if similarity(fingerprints[left], fingerprints[right]) >= threshold:
                ends = {cluster[left], cluster[right]}
                cluster = {name: min(ends) if one in ends else one for name, one in cluster.items()}
    return cluster


EDITS: dict[str, Callable[[ScoreTick], ScoreTick]] = {
    "transposed up": lambda score: edits.transposed(score, 5),
    "transposed down": lambda score: edits.transposed(score, -6),
    "other tempo": lambda score: edits.retimed(score, 0.7),
    "double time": lambda score: edits.stretched(score, 2),
    "half time": lambda score: edits.stretched(score, 1, 2),
    "coarse resolution": lambda score: edits.resampled(score, 96),
    "odd resolution": lambda score: edits.resampled(score, 1001),
    "intro cut": lambda score: edits.without_intro(score, 4 * 4 * 480),
    "other velocities": lambda score: edits.with_velocities(score, seed=1),
    "played by hand": lambda score: edits.humanised(score, 8, seed=1),
    "transposed, resampled, cut, played by hand": lambda score: edits.humanised(
        edits.without_intro(edits.resampled(edits.transposed(score, 2), 192), 2 * 4 * 192), 5, seed=2
    ),
}


@cache
def real_scores() -> dict[str, ScoreTick]:
    """The first 150 files of the corpus."""
    with tarfile.open(Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "midi.tar.xz") as archive:
        files = (member for member in archive if member.name.startswith("./by_genre/") and member.isfile())
        return {
            file.name: read_score(data.read()).score
            for file in islice(files, 150)
            if (data := archive.extractfile(file))
        }


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edited_copy_is_found_and_nothing_else_is(edit: Callable[[ScoreTick], ScoreTick]) -> None:
    copies = {f"{name} copy": edit(tune) for name, tune in TUNES.items()}
    found = clusters(of_scores(TUNES | copies))
    assert all(found[f"{name} copy"] == found[name] for name in TUNES)
    assert len(set(found.values())) == len(TUNES)


@pytest.mark.parametrize("style", ["jig", "chorale", "band"])
def test_a_copy_without_one_of_its_tracks_is_found(style: str) -> None:
    tunes = {name: tune for name, tune in TUNES.items() if name.startswith(style)}
    copies = {
        f"{name} without {number}": edits.without_track(tune, number)
        for name, tune in tunes.items()
        for number, track in enumerate(tune.tracks)
        if track.name != "Melody"  # all that tells two tunes of a band apart
    }
    found = clusters(of_scores(TUNES | copies))
    assert all(found[copy] == found[copy.split(" without")[0]] for copy in copies)


def test_different_tunes_are_not_joined() -> None:
    found = clusters(of_scores(TUNES))
    assert found == {name: name for name in TUNES}


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(6))
def test_clusters_are_the_components_of_every_pair(threshold: float, seed: int) -> None:
    pieces = family(12, 6, share=0.15 * seed, seed=seed)
    assert clusters_at(pieces, threshold) == every_pair(pieces, threshold)


def clusters_at(pieces: dict[str, NDArray[np.uint32]], threshold: float) -> dict[str, str]:
    return dict(near_duplicates(frame(pieces), threshold=threshold).iter_rows())


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(60)), st.floats(0.1, 0.7))
def test_the_order_of_rows_does_not_matter(order: list[int], share: float) -> None:
    pieces = frame(family(12, 5, share))
    split = pieces.with_columns(split=pl.Series(["train", "test"] * 30))
    assert_frame_equal(near_duplicates(pieces[order]), near_duplicates(pieces))
    assert_frame_equal(residual_leak(split[order]).examples, residual_leak(split).examples)


def test_a_chain_of_small_changes_is_one_cluster() -> None:
    values, chain = bins(1), {}
    for number in range(20):
        chain[f"{number:02d}"] = values.view(np.uint32)
        values = varied(values, 0.2, number)
    assert similarity(chain["00"], chain["19"]) < THRESHOLD
    assert set(clusters(frame(chain)).values()) == {"00"}


@pytest.mark.parametrize("copies", [50, 400])
def test_pairs_to_compare_grow_with_the_copies_and_not_with_their_square(copies: int) -> None:
    pieces = family(10, copies, share=0.3)
    words = np.stack([pieces[name] for name in sorted(pieces)])
    pairs = sum(len(bucket_pairs(words[:, word])[0]) for word in range(WORDS))
    assert pairs <= 8 * len(pieces) * WORDS
    assert len(set(clusters(frame(pieces)).values())) == 10


def test_a_bucket_of_all_pieces_is_compared_in_linear_time() -> None:
    # everyone shares one word, and nothing else
    pieces = {f"{number:04d}": varied(bins(number), 0, 0) for number in range(2000)}
    for values in pieces.values():
        values[:2] = 7
    words = np.stack([values.view(np.uint32) for values in pieces.values()])
    assert len(bucket_pairs(words[:, 0])[0]) < 8 * len(pieces)
    found = clusters(frame({name: values.view(np.uint32) for name, values in pieces.items()}))
    assert len(set(found.values())) == len(pieces)


@given(st.lists(st.integers(0, 6), max_size=30))
def test_small_buckets_are_compared_in_full(keys: list[int]) -> None:
    left, right = bucket_pairs(np.array(keys, np.uint32))
    found = list(zip(left.tolist(), right.tolist(), strict=True))
    assert len(set(found)) == len(found)
    expected = {(a, b) for b in range(len(keys)) for a in range(b) if keys[a] == keys[b]}
    assert set(found) <= expected
    for key in set(keys):
        rows = [row for row, one in enumerate(keys) if one == key]
        if len(rows) <= 9:
            assert {(a, b) for a in rows for b in rows if a < b} <= set(found)
        assert set(pairwise(rows)) <= set(found)


def test_pieces_without_a_fingerprint_are_alone() -> None:
    one = bins(1).view(np.uint32)
    pieces = frame({"d": None, "c": one, "b": one, "a": [], "e": []})
    assert near_duplicates(pieces).rows() == [("a", "a"), ("b", "b"), ("c", "b"), ("d", "d"), ("e", "e")]


def test_no_pieces_make_no_clusters_and_no_leak() -> None:
    nothing = frame({})
    assert near_duplicates(nothing).rows() == []
    leak = residual_leak(nothing.with_columns(split=pl.lit("test")))
    assert (leak.pieces, leak.unknown, leak.leaking, leak.share, len(leak.examples)) == (0, 0, 0, 0.0, 0)


def test_fingerprints_of_another_layout_are_refused() -> None:
    with pytest.raises(BadFingerprints, match="piece x has 3 words and not 128: scan the files again"):
        near_duplicates(frame({"x": [1, 2, 3]}))


@pytest.mark.parametrize("matches_at_once", [1 << 22, 100, 1])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.75])
def test_the_leak_is_that_of_every_pair(share: float, matches_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_MATCHES_AT_ONCE", matches_at_once)
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 70)
    pieces = family(40, 5, share)
    chance = random.Random(1)
    splits = {name: chance.choice(("train", "train", "test", "valid", "excluded")) for name in pieces}
    expected = []
    for name in (name for name in pieces if splits[name] == "test"):
        train = [other for other in sorted(pieces) if splits[other] == "train"]
        alike = [similarity(pieces[name], pieces[other]) for other in train]
        if max(alike) >= THRESHOLD:
            expected.append((name, train[alike.index(max(alike))], max(alike)))
    table = frame(pieces).with_columns(split=pl.Series([splits[name] for name in pieces]))
    leak = residual_leak(table)
    assert leak.examples.rows() == sorted(expected, key=lambda row: (-row[2], row[0]))
    assert leak.leaking == len(expected) > 0
    assert leak.pieces == sum(split == "test" for split in splits.values())
    assert leak.share == leak.leaking / leak.pieces


def test_the_leak_of_another_split_and_of_pieces_without_a_fingerprint() -> None:
    one = bins(1).view(np.uint32)
    table = frame({"a": one, "b": one, "c": None, "d": []}).with_columns(
        split=pl.Series(["train", "valid", "valid", "test"])
    )
    valid, test = residual_leak(table, split="valid"), residual_leak(table)
    assert (valid.pieces, valid.unknown, valid.leaking, valid.share) == (2, 1, 1, 0.5)
    assert (test.pieces, test.unknown, test.leaking, test.share) == (1, 1, 0, 0.0)


def test_the_leak_finds_what_hashing_misses() -> None:
    # every other bin agrees, so no word does
    left, right = bins(1), bins(2)
    right[::2] = left[::2]
    pieces = frame({"a": left.view(np.uint32), "b": right.view(np.uint32)})
    assert clusters(pieces) == {"a": "a", "b": "b"}
    leak = residual_leak(pieces.with_columns(split=pl.Series(["train", "test"])))
    assert leak.examples.rows() == [("b", "a", 0.5)]


def test_clusters_leave_no_leak_and_files_do() -> None:
    copies = {f"{name} copy": edits.transposed(tune, 3) for name, tune in TUNES.items()}
    pieces = of_scores(TUNES | copies)
    by_cluster = near_duplicates(pieces).join(pieces, on="piece_id")
    names = by_cluster["cluster"].unique().sort()
    held_out = pl.col("cluster").is_in(names.gather_every(4).to_list())
    split = by_cluster.with_columns(split=pl.when(held_out).then(pl.lit("test")).otherwise(pl.lit("train")))
    assert residual_leak(split).leaking == 0
    torn = pieces.with_columns(
        split=pl.when(pl.col("piece_id").str.ends_with("copy")).then(pl.lit("test")).otherwise(pl.lit("train"))
    )
    assert residual_leak(torn).share == 1.0


@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edited_copies_of_real_files_are_found(edit: Callable[[ScoreTick], ScoreTick]) -> None:
    scores = real_scores()
    copies = {f"{name} copy": edit(score) for name, score in scores.items()}
    found = clusters(of_scores(scores | copies))
    assert np.mean([found[f"{name} copy"] == found[name] for name in scores]) >= 0.9
    assert len({found[name] for name in scores}) >= 0.97 * len(scores)
