"""What paths say, how names are folded, and which files are one song."""

from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.corpus.songs import fold_artist, fold_title, group_ids, path_facts, song_key
from music_assets.corpus.taxonomy import Taxonomy, fold

TAXONOMY = Taxonomy.load()
MD5 = "738c7647c1489cd94edb951f470428f2"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("clean_midi/ABBA/Waterloo.mid", (None, "ABBA", "Waterloo")),
        ("clean_midi/ABBA/Waterloo.2.mid", (None, "ABBA", "Waterloo")),
        ("clean_midi/Amos, Tori/1000 Oceans.MID", (None, "Amos, Tori", "1000 Oceans")),
        ("by_genre/jazz/Miles Davis/So What.mid", ("jazz", "Miles Davis", "So What")),
        ("by_genre/Heavy Metal/Slayer/X.mid", ("metal", "Slayer", "X")),
        ("by_genre/Sea Shanties/Crew/Away.kar", ("sea_shanties", "Crew", "Away")),
        ("mine/jazz/So What.mid", ("jazz", None, "So What")),
        ("mine/jazz/Miles Davis - So What.mid.gz", ("jazz", "Miles Davis", "So What")),
        ("mine/jazz/Miles Davis/Kind of Blue/So What.mid", ("jazz", "Miles Davis", "So What")),
        ("Jazz/Miles Davis/So What.mid", ("jazz", "Miles Davis", "So What")),
        ("Jazz/Miles Davis/Kind of Blue/So What.mid", ("jazz", "Miles Davis", "So What")),
        ("rock/punk/Band/Song.mid", ("punk", "Band", "Song")),
        ("lakh/clean_midi/ABBA/Waterloo.mid", (None, "ABBA", "Waterloo")),
        ("mine/A/ABBA/Waterloo.mid", (None, "ABBA", "Waterloo")),
        (f"lmd_full/7/{MD5}.mid", (None, None, None)),
        (f"lmd_matched/A/B/C/TRABC/{MD5}.mid", (None, None, None)),
        (f"mine/jazz/{MD5}.mid", ("jazz", None, None)),
        ("mine/Waterloo.mid", (None, None, "Waterloo")),
        ("Waterloo.mid", (None, None, "Waterloo")),
        ("mine/ABBA/.2.mid", (None, "ABBA", None)),
    ],
)
def test_what_a_path_says(path: str, expected: tuple[str | None, ...]) -> None:
    assert path_facts(path, TAXONOMY) == expected


@pytest.mark.parametrize(
    "spellings",
    [
        ("Elton John", "John Elton", "JOHN, ELTON", "john  elton"),
        ("Gaye,Marvin", "Marvin Gaye"),
        ("The Beatles", "Beatles, The", "Beatles"),
        ("Simon & Garfunkel", "Garfunkel and Simon"),
        ("Beyoncé", "Beyonce"),
    ],
)
def test_spellings_of_an_artist(spellings: tuple[str, ...]) -> None:
    assert len({fold_artist(artist) for artist in spellings}) == 1


def test_spellings_of_a_title() -> None:
    assert len({fold_title(t) for t in ("Don't Stop!", "Dont Stop", "DON’T  STOP", "don`t_stop")}) == 1
    assert fold_title("Ein Lämmlein") == fold_title("Ein Lammlein") != fold_title("Lammlein Ein")
    assert fold_title("東風破") != ""
    assert fold_title("!!!") == fold_title(None) == ""


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_a_song_needs_artist_and_title() -> None:
    assert song_key("ABBA", "Waterloo") == song_key("Abba", "WATERLOO")
    assert song_key(None, "Waterloo") is None
    assert song_key("ABBA", None) is None
    assert song_key("The The", "Waterloo") is not None
    assert song_key("ABBA", "!") is None


small = st.integers(0, 6)
file_keys = st.tuples(st.none() | small, small, small)


@settings(deadline=None)
@given(st.lists(file_keys, min_size=1, max_size=25))
def test_groups_are_the_connected_components(keys: list[tuple[int | None, int, int]]) -> None:
    rows = [(f"song {song}" if song is not None else None, f"piece {p}", f"notes {c}") for song, p, c in keys]
    groups = group_ids(
        pl.DataFrame(rows, dict.fromkeys(("song_key", "piece_id", "content_hash"), pl.String), orient="row")
    ).to_list()
    component = list(range(len(rows)))  # slow reference: spread the smaller number until nothing changes
    for _ in rows:
        for one, other in combinations(range(len(rows)), 2):
            if any(a == b is not None for a, b in zip(rows[one], rows[other], strict=True)):
                component[one] = component[other] = min(component[one], component[other])
    for one, other in combinations(range(len(rows)), 2):
        assert (groups[one] == groups[other]) == (component[one] == component[other])


def test_another_version_of_a_song_keeps_the_group_id() -> None:
    schema = ["song_key", "piece_id", "content_hash"]
    before = pl.DataFrame([("a/x", "p1", "c1"), (None, "p2", "c2")], schema, orient="row")
    after = pl.DataFrame([("a/x", "p1", "c1"), (None, "p2", "c2"), ("a/x", "p0", "c0")], schema, orient="row")
    assert group_ids(after).to_list() == [*group_ids(before), group_ids(before)[0]]


def test_the_taxonomy_knows_other_names() -> None:
    assert TAXONOMY.slug("R&B") == TAXONOMY.slug("RnB") == TAXONOMY.slug("r'n'b") == "rnb_soul"
    assert TAXONOMY.slug("Sea Shanties") == "sea_shanties"
    assert [TAXONOMY.slug(name) for name in ("A", "1998", "!!", "clean_midi")] == [None] * 4
    assert TAXONOMY.title("rnb_soul") == "R&B and soul"
    assert TAXONOMY.title("sea_shanties") == "Sea shanties"


def test_a_name_of_two_genres_is_refused() -> None:
    genre = {"name": "Jazz", "aliases": []}
    with pytest.raises(ValueError, match="'Jazz' to one and to two"):
        Taxonomy.model_validate({"minimum_pieces": 1, "not_genres": [], "genres": {"one": genre, "two": genre}})
