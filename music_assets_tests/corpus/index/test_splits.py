"""The split is a function of the set of files, and arrivals leave what is held out where it is."""

from collections import Counter, defaultdict

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.corpus.index.splits import EXCLUDED, SPLITS, TEST_SHARE, VALID_SHARE, assign_splits, own_split
from music_assets.corpus.labels.songs import group_ids, song_key

pytestmark = pytest.mark.slow

TITLES = [next(f"{split} {i}" for i in range(1000) if own_split(f"{split} {i}") == split) for split in SPLITS] + [
    next(f"other {split} {i}" for i in range(1000) if own_split(f"other {split} {i}") == split) for split in SPLITS
]
"""Two titles of every split."""

# artist and title, each perhaps unknown; the music, its notes without dynamics, its near-duplicates: ever fewer
files = st.lists(
    st.tuples(
        st.sampled_from([None, "artist one", "artist two"]),
        st.sampled_from([None, *TITLES]),
        st.integers(0, 12).map(lambda n: (f"piece {n}", f"notes {n // 2}", f"near {n // 4}")),
    ),
    min_size=1,
    max_size=20,
)
File = tuple[str | None, str | None, tuple[str, str, str]]


def frame(files: list[File]) -> pl.DataFrame:
    rows = [
        (song_key(artist, title), title or piece, piece, notes, near, [])
        for artist, title, (piece, notes, near) in files
    ]
    names = ("song_key", "split_key", "piece_id", "content_hash", "near_duplicates")
    schema = dict.fromkeys(names, pl.String()) | {"song_variants": pl.List(pl.String())}
    table = pl.DataFrame(rows, schema, orient="row")
    return table.with_columns(group_id=group_ids(table))


def splits(files: list[File]) -> dict[str, str]:
    return dict(assign_splits(frame(files)).iter_rows())


@settings(deadline=None)
@given(files, st.randoms())
def test_the_order_of_arrival_does_not_matter(files: list[File], chance) -> None:
    shuffled = list(files)
    chance.shuffle(shuffled)
    assert splits(shuffled) == splits(files)


@settings(deadline=None)
@given(files)
def test_no_group_is_in_two_splits(files: list[File]) -> None:
    table = frame(files).join(assign_splits(frame(files)), on="piece_id")
    seen = defaultdict(set)
    for group, split in table.select("group_id", "split").iter_rows():
        seen[group].add(split)
    assert all(len(found - {EXCLUDED}) == 1 for found in seen.values())


@settings(deadline=None)
@given(files, files)
def test_what_is_held_out_never_becomes_training(files: list[File], arrivals: list[File]) -> None:
    before, after = splits(files), splits(files + arrivals)
    allowed = {
        "test": {"test"},
        "valid": {"valid", "test", EXCLUDED},
        "train": {"train", "valid", "test", EXCLUDED},
        EXCLUDED: {EXCLUDED, "valid", "test"},
    }
    for piece, split in before.items():
        assert after[piece] in allowed[split]


@settings(deadline=None)
@given(files, files)
def test_nothing_moves_unless_known_music_arrives_under_another_title(files: list[File], arrivals: list[File]) -> None:
    titles: dict[str, str | None] = {}
    one_title_each = [f for f in files + arrivals if titles.setdefault(f[2][2], f[1]) == f[1] is not None]
    known = [file for file in files if file in one_title_each]
    before, after = splits(known) if known else {}, splits(one_title_each) if one_title_each else {}
    assert before.items() <= after.items()
    assert EXCLUDED not in after.values()


def test_a_copy_takes_nothing_from_test_and_brings_its_song_along() -> None:
    train, _, test = TITLES[:3]
    files: list[File] = [("a", test, ("p1", "n1", "c1")), ("a", train, ("p2", "n2", "c2"))]
    assert splits(files) == {"p1": "test", "p2": "train"}
    # the test piece under the training title: the group is held out, the training piece belongs nowhere
    assert splits([*files, ("a", train, ("p1", "n1", "c1"))]) == {"p1": "test", "p2": EXCLUDED}


def test_shares() -> None:
    counts = Counter(own_split(f"title {i}") for i in range(20_000))
    assert abs(counts["test"] / 20_000 - TEST_SHARE) < 0.006
    assert abs(counts["valid"] / 20_000 - VALID_SHARE) < 0.006
