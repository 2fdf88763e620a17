"""What paths say, how names are folded, and which files are one song."""

import re
import unicodedata
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.corpus.labels.songs import fold_artist, fold_title, group_ids, path_facts, song_key, song_variants
from music_assets.corpus.labels.taxonomy import Taxonomy, fold

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
        ("mine/Chopin/Etude Op.10.mid", (None, "Chopin", "Etude Op.10")),
        ("mine/Chopin/Etude Op.10.2.mid", (None, "Chopin", "Etude Op.10")),
        ("mine/Chopin/Etude Nr.12.mid", (None, "Chopin", "Etude Nr.12")),
        ("mine/ABBA/ABBA - Waterloo.mid", (None, "ABBA", "Waterloo")),
        ("mine/ABBA/Waterloo - Live.mid", (None, "ABBA", "Waterloo - Live")),
    ],
)
def test_what_a_path_says(path: str, expected: tuple[str | None, ...]) -> None:
    assert path_facts(path, TAXONOMY) == expected


def test_names_are_composed_however_the_disk_spells_them() -> None:
    path = "mine/ジャズ/Sigur Rós/ガラス.mid"
    assert path_facts(unicodedata.normalize("NFD", path), TAXONOMY) == ("ジャズ", "Sigur Rós", "ガラス")


def test_an_artist_with_albums_is_no_genre() -> None:
    path = "mine/Madonna/Like a Prayer/Cherish.mid"
    assert path_facts(path, TAXONOMY).genre == "madonna"
    assert path_facts(path, TAXONOMY, lambda name: name == "Madonna") == (None, "Madonna", "Cherish")


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
    assert len({fold_title(t) for t in ("Good Night", "Goodnight", "Good Night (live)", "[Encore] Good Night")}) == 1
    assert fold_title("(Untitled)") == "untitled"
    assert fold_title("Ein Lämmlein") == fold_title("Ein Lammlein") != fold_title("Lammlein Ein")
    assert fold_title("東風破") != ""
    assert fold_title("!!!") == fold_title(None) == ""


def test_marks_of_other_scripts_tell_titles_apart() -> None:
    titles = [
        "カラス",
        "ガラス",
        "はし",
        "ばし",
        "ぱし",
        "कि",
        "कु",
        "क",
        "ป่า",
        "ป้า",
        "ปา",
        "பல்",
        "பால்",
        "أن",
        "آن",
        "ان",
        "שׂר",
        "שׁר",
    ]
    assert len({fold_title(title) for title in titles}) == len(titles)


@pytest.mark.parametrize(
    ("spelling", "folded"),
    [
        ("ｶﾞﾗｽ", "ガラス"),
        ("カ\u3099ラス", "ガラス"),
        ("Ｒｏｃｋ", "rock"),
        ("발라드", "발라드"),
        (unicodedata.normalize("NFD", "발라드"), "발라드"),
        ("หมอลำ", "หมอลำ"),
        ("ໝໍລຳ", "ໝໍລຳ"),
        ("हिन्दी गीत", "हिन्दी गीत"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("葛\U000e0100", "葛"),
        ("ﻻ", "لا"),
        ("Sigur Rós", "sigur ros"),
        ("Ёлка Й", "елка и"),
        ("Ὀρφεύς", "ορφευσ"),
        ("Straße", "strasse"),
        ("İstanbul ılık", "istanbul ılık"),
        ("I ❤️ NY", "i ny"),
        ("゛ ̈ 1️⃣", "1"),
    ],
)
def test_what_folding_leaves(spelling: str, folded: str) -> None:
    assert fold(spelling) == folded


LATIN = st.characters(exclude_categories=["Cn", "Cs"], max_codepoint=0x36F).filter(lambda one: one != "\u034f")


@given(st.text(LATIN | st.sampled_from("ẤÅﬁＲ’&_")))
def test_latin_text_loses_its_accents_and_nothing_else(text: str) -> None:
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = re.findall(r"[^\W_]+", re.sub("['’`´]", "", plain.replace("&", " and ")))
    assert fold(text) == " ".join(words)


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_composed_and_decomposed_text_are_one(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(text) == unicodedata.normalize("NFC", fold(text))


def test_a_song_needs_artist_and_title() -> None:
    assert song_key("ABBA", "Waterloo") == song_key("Abba", "WATERLOO")
    assert song_key(None, "Waterloo") is None
    assert song_key("ABBA", None) is None
    assert song_key("The The", "Waterloo") is not None
    assert song_key("ABBA", "!") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Massachusetts", "Massachusettes", True),
        ("Fade to Grey", "Fade to Gray", True),
        ("Free Fallin'", "Free Falling", True),
        ("Cotton Eyed Joe (club mix)", "Cotton Eye Joe", True),
        ("Gone", "One", False),
        ("Fugue in A minor", "Fugue in E minor", False),
        ("Oxygene, Part 3", "Oxygene, Part 4", False),
        ("Oxygene, Part I", "Oxygene, Part II", False),
        ("Nocturne Op. 9", "Nocturne", False),
        ("Hello Goodbye", "Hello Goodness", False),
        ("カラスノナクコエガスル", "ガラスノナクコエガスル", False),
        ("사랑하기때문에그대", "사랑하기때문에그때", False),
        ("Подмосковные вечера", "Подмосковные вечора", True),
    ],
)
def test_titles_that_differ_by_a_letter(one: str, other: str, same: bool) -> None:
    assert bool(set(song_variants("A", one)) & set(song_variants("A", other))) == same
    assert not set(song_variants("A", one)) & set(song_variants("B", other))
    assert song_variants(None, one) == []


LINKS = ("song_key", "piece_id", "content_hash", "near_duplicates")
small = st.integers(0, 6)
Keys = tuple[str | None, str, str, str | None, list[str]]
file_keys = st.builds(
    lambda song, piece, notes, near, variants: (
        f"song {song}" if song is not None else None,
        f"piece {piece}",
        f"notes {notes}",
        f"cluster {near}" if near is not None else None,
        [f"variant {variant}" for variant in variants],
    ),
    st.none() | small,
    small,
    small,
    st.none() | small,
    st.lists(st.integers(0, 20), max_size=2),
)


def links(rows: list[Keys]) -> pl.DataFrame:
    schema = dict.fromkeys(LINKS, pl.String()) | {"song_variants": pl.List(pl.String())}
    return pl.DataFrame(rows, schema, orient="row")


def linked(one: Keys, other: Keys) -> bool:
    return any(a == b is not None for a, b in zip(one[:4], other[:4], strict=True)) or bool(set(one[4]) & set(other[4]))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(file_keys, min_size=1, max_size=25))
def test_groups_are_the_connected_components(rows: list[Keys]) -> None:
    groups = group_ids(links(rows)).to_list()
    component = list(range(len(rows)))  # slow reference: spread the smaller number until nothing changes
    for _ in rows:
        for one, other in combinations(range(len(rows)), 2):
            if linked(rows[one], rows[other]):
                component[one] = component[other] = min(component[one], component[other])
    for one, other in combinations(range(len(rows)), 2):
        assert (groups[one] == groups[other]) == (component[one] == component[other])


def test_another_version_of_a_song_keeps_the_group_id() -> None:
    before: list[Keys] = [("a/x", "p1", "c1", None, []), (None, "p2", "c2", None, [])]
    groups = group_ids(links(before))
    assert group_ids(links([*before, ("a/x", "p0", "c0", None, [])])).to_list() == [*groups, groups[0]]


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
