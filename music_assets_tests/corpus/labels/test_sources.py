"""Claims of every source, and the sentences for label files that are wrong."""

import gzip
import json
import lzma
import os
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Literal, get_args

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from music_assets.corpus.labels.artists import ArtistTable
from music_assets.corpus.labels.by_artist import VOTES_NEEDED, VOTES_RELIABILITY, ArtistNames, ArtistVotes
from music_assets.corpus.labels.claims import CLAIMS_SCHEMA, RELIABILITY, SONGS_SCHEMA, Known, weighted_majority
from music_assets.corpus.labels.genre_folder import FOLDER_CONFIDENCE, GenreFolder
from music_assets.corpus.labels.genres_csv import GenresCsv
from music_assets.corpus.labels.lakh_map import LakhMap
from music_assets.corpus.labels.songs import fold_title, path_facts
from music_assets.corpus.labels.sources import claims, label_files
from music_assets.corpus.labels.taxonomy import BadLabels, Taxonomy
from music_assets_tests.permissions import bound_by_permissions

TAXONOMY = Taxonomy.load()
ARTISTS = ArtistTable.load()
KNOWN = Known(TAXONOMY, ARTISTS)
Form = Literal["NFC", "NFD"]


def songs_of(files: dict[str, str]) -> pl.DataFrame:
    """Files by path and their md5."""
    facts = [path_facts(path, TAXONOMY) for path in files]
    rows = [
        (path, md5, fact.genre, fact.artist, fold_title(fact.title) or None)
        for (path, md5), fact in zip(files.items(), facts, strict=True)
    ]
    return pl.DataFrame(rows, SONGS_SCHEMA, orient="row")


FILES = songs_of({"mine/jazz/Crew/One.mid": "a" * 32, "mine/Crew/Two.mid": "b" * 32, "lmd/0/x.mid": "c" * 32})


def write_csv(raw: Path, text: str, folder: str = "mine") -> Path:
    file = raw / folder / "genres.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def claims_on(rows: list[tuple[str, str, str, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, CLAIMS_SCHEMA, orient="row")


def test_a_table_in_a_collection_and_one_beside_it(tmp_path: Path) -> None:
    inner = write_csv(tmp_path, "path,genre,confidence\nCrew/Two.mid,R&B,0.4\n./jazz/Crew/One.mid,Bebop,1\n")
    write_csv(tmp_path, f"genre,md5\nSea shanty,{'C' * 32}\n", folder=".")
    assert GenresCsv(tmp_path).files() == [tmp_path / "genres.csv", inner]
    table, notes = GenresCsv(tmp_path).claims(FILES, KNOWN)
    assert table.sort("path").rows() == [
        ("lmd/0/x.mid", "sea_shanty", "genres.csv", 1.0),
        ("mine/Crew/Two.mid", "rnb_soul", "genres.csv", 0.4),
        ("mine/jazz/Crew/One.mid", "jazz", "genres.csv", 1.0),
    ]
    assert notes == []


def test_rows_without_a_file_are_told_and_stop_nothing(tmp_path: Path) -> None:
    file = write_csv(tmp_path, "path,genre\nCrew/Two.mid,rock\nCrew/Three.mid,rock\nCrew/Four.mid,rock\n")
    table, notes = GenresCsv(tmp_path).claims(FILES, KNOWN)
    assert len(table) == 1
    assert notes == [f"{file}, line 3: there is no file with path mine/Crew/Three.mid. So it is with 2 of 3 rows."]


def test_an_empty_confidence_is_a_sure_one_and_zero_claims_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path, "md5,genre,confidence\n" + f"{'a' * 32},rock,\n{'b' * 32},rock,0\n{'c' * 32},rock,0.25\n")
    table, notes = GenresCsv(tmp_path).claims(FILES, KNOWN)
    assert table.select("path", "confidence").sort("path").rows() == [
        ("lmd/0/x.mid", 0.25),
        ("mine/jazz/Crew/One.mid", 1.0),
    ]
    assert notes == []


def test_empty_rows_do_not_count_but_keep_their_place(tmp_path: Path) -> None:
    text = "path,genre\n\n  \nCrew/Two.mid,rock\n,\n , \n"
    write_csv(tmp_path, text)
    assert GenresCsv(tmp_path).claims(FILES, KNOWN).table["path"].to_list() == ["mine/Crew/Two.mid"]
    write_csv(tmp_path, f"{text}Crew/One.mid,\n")
    with pytest.raises(BadLabels, match=r"line 7: '' is no genre name"):
        GenresCsv(tmp_path).claims(FILES, KNOWN)


def test_spaces_around_values(tmp_path: Path) -> None:
    write_csv(tmp_path, " path , genre, confidence\n  Crew/Two.mid ,  rock , 0.5 \n")
    assert GenresCsv(tmp_path).claims(FILES, KNOWN).table.rows() == [("mine/Crew/Two.mid", "rock", "genres.csv", 0.5)]


@pytest.mark.parametrize("written", get_args(Form))
@pytest.mark.parametrize("indexed", get_args(Form))
@pytest.mark.parametrize("path", ["Café/Señor.mid", r"Café\Señor.mid", r".\Café\Señor.mid"])
def test_spellings_of_one_path(path: str, indexed: Form, written: Form, tmp_path: Path) -> None:
    songs = songs_of({unicodedata.normalize(indexed, "Möwe [1]/Café/Señor.mid"): "a" * 32})
    write_csv(tmp_path, f"path,genre\n{unicodedata.normalize(written, path)},rock\n", folder="Möwe [1]")
    table, notes = GenresCsv(tmp_path).claims(songs, KNOWN)
    assert table["path"].to_list() == songs["path"].to_list()
    assert notes == []


def test_a_contradiction_is_told(tmp_path: Path) -> None:
    rows = "Crew/Two.mid,Soul\nCrew/Two.mid,rock\njazz/Crew/One.mid,jazz\n./Crew/Two.mid,R&B\n"
    file = write_csv(tmp_path, f"path,genre\n{rows}")
    told = f"{file}, line 3: mine/Crew/Two.mid is rock here and rnb_soul in line 2, both with confidence 1; keep one."
    table, notes = GenresCsv(tmp_path).claims(FILES, KNOWN)
    assert (len(table), notes) == (4, [told])
    write_csv(tmp_path, f"path,genre\n{rows}jazz/Crew/One.mid,blues\n")
    assert GenresCsv(tmp_path).claims(FILES, KNOWN).notes == [f"{told} So it is with 2 files."]


def test_a_surer_row_contradicts_nothing(tmp_path: Path) -> None:
    write_csv(
        tmp_path, "path,genre,confidence\n" + "".join(f"Crew/Two.mid,{row}\n" for row in ("a b,0.5", "c d,0.5", "pop,"))
    )
    assert GenresCsv(tmp_path).claims(FILES, KNOWN).notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,genre,mood\na,b,c\n",
            "has the columns path, genre, mood; it needs genre, one of path and md5",
        ),
        ("path;genre\na;b\n", "has the columns path;genre; it needs genre"),
        ("path,md5,genre\na,b,c\n", "has the columns path, md5, genre; it needs genre, one of path and md5"),
        (
            "path,genre,confidence\na,rock,0.5\nb,rock,high\n",
            "line 3: confidence must be a number from 0 to 1",
        ),
        ("path,genre,confidence\na,rock,2\n", "line 2: confidence must be a number from 0 to 1"),
        ("path,genre\na,rock\nb,\n", "line 3: '' is no genre name"),
        ("path,genre\nb,7\n", "line 2: '7' is no genre name"),
        ("path,genre,confidence\na,rock,nan\n", "line 2: confidence must be a number from 0 to 1"),
        ("path,genre,line\na,rock,1\n", "is not a table of comma-separated values in UTF-8"),
        ("path,genre\na,rock,jazz\n", "is not a table of comma-separated values in UTF-8"),
        ("", "is not a table of comma-separated values in UTF-8"),
    ],
)
def test_a_wrong_table_gets_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path, text)
    with pytest.raises(BadLabels) as caught:
        GenresCsv(tmp_path).claims(FILES, KNOWN)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_genre_folders() -> None:
    table, notes = GenreFolder().claims(FILES, KNOWN)
    assert table.schema == CLAIMS_SCHEMA
    assert table.rows() == [("mine/jazz/Crew/One.mid", "jazz", "folder", FOLDER_CONFIDENCE)]
    assert notes == []


@pytest.mark.parametrize("name", ["midi_genre_map.json", "midi_genre_map.json.gz"])
def test_the_lakh_map(name: str, tmp_path: Path) -> None:
    schemes = {
        "masd": {"b" * 32: ["Rock_Hard", "Metal_Heavy", "Metal_Death", "Experimental"], "d" * 32: ["Polka"]},
        "topmagd": {"b" * 32: ["Pop_Rock", "RnB"], "c" * 32: ["Klezmer"]},
        "magd": {"c" * 32: ["Comedy_Spoken"]},
    }
    data = json.dumps(schemes).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert LakhMap(tmp_path).files() == [tmp_path / name]
    table, notes = LakhMap(tmp_path).claims(FILES, KNOWN)
    assert table.sort("source").rows() == [
        ("mine/Crew/Two.mid", "metal", "lakh masd", pytest.approx(RELIABILITY["masd"] / 2)),
        ("mine/Crew/Two.mid", "rnb_soul", "lakh topmagd", pytest.approx(RELIABILITY["topmagd"] / 2)),
    ]
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path / name}: the taxonomy does not know the label 'Klezmer' (used 1 times)")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"masd": {}}',
        b'{"masd": [], "topmagd": {}, "magd": {}}',
        b'{"masd": {"%s": 1}, "topmagd": {}, "magd": {}}' % (b"a" * 32),
        b'{"masd": {"%s": "Rock"}, "topmagd": {}, "magd": {}}' % (b"a" * 32),
        b'{"masd": {"%s": {"Rock": 1}}, "topmagd": {}, "magd": {}}' % (b"a" * 32),
        b'{"masd": {"%s": [1]}, "topmagd": {}, "magd": {}}' % (b"a" * 32),
        b"\xff",
    ],
)
def test_a_wrong_lakh_map_gets_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "midi_genre_map.json").write_bytes(data)
    with pytest.raises(BadLabels, match="is not a genre map: it must be JSON with masd, topmagd, magd") as caught:
        LakhMap(tmp_path).claims(FILES, KNOWN)
    assert "\n" not in str(caught.value)


labels_of_files = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from("xy"),
        st.sampled_from(["Rock", "Pop_Rock", "Jazz", "Swing", "Experimental", "Klezmer"]),
        st.integers(1, 4).map(float),
    )
)


@given(labels_of_files)
def test_the_weighted_majority_against_counting(rows: list[tuple[str, str, str, float]]) -> None:
    schema = {"md5": pl.String, "source": pl.String, "label": pl.String, "weight": pl.Float64}
    votes: dict[tuple[str, str], dict[str | None, float]] = defaultdict(lambda: defaultdict(float))
    for md5, source, label, weight in rows:
        votes[md5, source][TAXONOMY.known(label)] += weight
    expected = {}
    for key, weights in votes.items():
        known = [(-weight, genre) for genre, weight in weights.items() if genre]
        if known:
            weight, genre = min(known)
            expected[key] = (genre, pytest.approx(-weight / sum(weights.values())))
    majority = weighted_majority(pl.DataFrame(rows, schema, orient="row"), TAXONOMY)
    assert majority.columns == ["md5", "source", "genre", "share"]
    assert {(md5, source): (genre, share) for md5, source, genre, share in majority.iter_rows()} == expected
    assert len(majority) == len(expected)


def test_the_artist_table(tmp_path: Path) -> None:
    songs = songs_of({f"mine/{artist}/Song.mid": "a" * 32 for artist in ("ABBA", "Abba feat. Nobody", "Nobody")})
    table, notes = ArtistNames(tmp_path).claims(songs, KNOWN)
    abba = ARTISTS.find("ABBA")
    assert abba is not None
    assert table.sort("path").rows() == [
        ("mine/ABBA/Song.mid", abba.genre, "artist table", abba.confidence),
        ("mine/Abba feat. Nobody/Song.mid", abba.genre, "artist table", pytest.approx(abba.confidence * 0.9)),
    ]
    assert notes == []


def test_a_genre_of_the_artist_table_that_the_user_took_away(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("spelling,artist,genre\nCrew,,Sea Shanties\n")
    songs = songs_of({"mine/ABBA/Song.mid": "a" * 32, "mine/Crew/Song.mid": "b" * 32})
    artists = ArtistTable.load(tmp_path)
    abba = artists.find("ABBA")
    assert abba is not None
    taxonomy = Taxonomy.model_validate({"minimum_pieces": 1, "not_genres": [abba.genre], "genres": {}})
    table, _ = ArtistNames(tmp_path).claims(songs, Known(taxonomy, artists))
    assert table.select("path", "genre").rows() == [("mine/Crew/Song.mid", "sea_shanties")]


@pytest.mark.parametrize("genre", ["7", "Unknown", "various artists", "?"])
def test_what_is_no_genre_in_the_users_artist_table(genre: str, tmp_path: Path) -> None:
    file = tmp_path / "artists.csv"
    file.write_text(f"spelling,artist,genre\nCrew,,polka\n\nABBA,ABBA,{genre}\n")
    with pytest.raises(BadLabels) as caught:
        ArtistNames(tmp_path).claims(FILES, Known(TAXONOMY, ArtistTable.load(tmp_path)))
    assert str(caught.value) == (f"{file}, line 4: {genre!r} is no genre name; leave the genre empty if it is unknown.")


def voted(paths: list[str], earlier: list[tuple[str, str, str, float]]) -> dict[str, tuple[str, float]]:
    songs = songs_of(dict.fromkeys(paths, "a" * 32))
    table, _ = ArtistVotes().claims(songs, Known(TAXONOMY, ARTISTS, claims_on(earlier)))
    assert table.schema == CLAIMS_SCHEMA
    assert set(table["source"]) <= {"artist votes"}
    assert table["path"].is_unique().all()
    return {path: (genre, confidence) for path, genre, _, confidence in table.iter_rows()}


def test_three_other_songs_give_a_claim_and_two_do_not() -> None:
    paths = [f"mine/Some Crew/{title}.mid" for title in ("One", "Two", "Three", "Four")]
    earlier = [(path, "polka", "folder", 0.9) for path in paths[:3]]
    assert voted(paths, earlier) == {paths[3]: ("polka", pytest.approx(0.9 * VOTES_RELIABILITY))}
    assert voted(paths, earlier[:2]) == {}


def test_versions_of_a_song_have_one_vote_and_do_not_vote_on_each_other() -> None:
    versions = [f"mine/Some Crew/One{number}.mid" for number in ("", ".1", ".2", ".3")]
    paths = [*versions, "mine/Some Crew/Two.mid"]
    assert voted(paths, [(path, "polka", "folder", 0.9) for path in versions]) == {}


def test_a_song_without_title_is_one_by_itself() -> None:
    paths = [f"mine/Some Crew/{mark}.mid" for mark in ("!", "!!", "!!!", "?")]
    assert voted(paths, [(path, "polka", "folder", 0.9) for path in paths[:3]]).keys() == {paths[3]}


def test_spellings_vote_together_and_collections_of_many_artists_do_not() -> None:
    spelt = ["mine/ABBA/One.mid", "mine/Abba/Two.mid", "mine/Abba & Nobody/Three.mid", "mine/abba/Four.mid"]
    many = [f"mine/Various Artists/{title}.mid" for title in ("One", "Two", "Three", "Four")]
    earlier = [(path, "polka", "folder", 0.9) for path in [*spelt[:3], *many]]
    assert voted([*spelt, *many], earlier).keys() == {spelt[3]}


def test_a_vote_is_worth_its_confidence() -> None:
    paths = [f"mine/Some Crew/{number} song.mid" for number in range(6)]
    earlier = [(path, "rock", "lakh magd", 0.2) for path in paths[:3]]
    earlier += [(path, "polka", "folder", 0.9) for path in paths[3:5]]
    genre, confidence = voted(paths, earlier)[paths[5]]
    assert (genre, confidence) == ("polka", pytest.approx(VOTES_RELIABILITY * 1.8 / 5))


claims_on_songs = st.lists(
    st.tuples(
        st.sampled_from(["Band", "Other Band"]),
        st.sampled_from(["One", "Two", "Three", "Four", "Five", "Five.1"]),
        st.sampled_from(["rock", "jazz", "polka"]),
        st.sampled_from(["folder", "lakh masd"]),
        st.sampled_from([0.25, 0.5, 1.0]),
    ),
    max_size=20,
)


@pytest.mark.slow
@given(claims_on_songs)
def test_votes_against_counting(rows: list[tuple[str, str, str, str, float]]) -> None:
    earlier = sorted({(f"mine/{row[0]}/{row[1]}.mid", row[2], row[3], row[4]) for row in rows})
    paths = [f"mine/{artist}/{title}.mid" for artist in ("Band", "Other Band") for title in ("One", "Five", "Five.1")]
    paths = sorted({*paths, *(path for path, *_ in earlier)})
    song = {path: path.removesuffix(".mid").removesuffix(".1") for path in paths}
    said: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for path, genre, _, confidence in earlier:
        said[song[path]].append((genre, confidence))
    votes = {}
    for name, claimed in said.items():
        best = max(confidence for _, confidence in claimed)
        genres = {genre for genre, confidence in claimed if confidence == best}
        counts = {genre: sum(other == genre for other, _ in claimed) for genre in genres}
        votes[name] = (min(genres, key=lambda genre: (-counts[genre], genre)), best)
    expected = {}
    for path in paths:
        others = [vote for name, vote in votes.items() if name != song[path] and Path(name).parent == Path(path).parent]
        if len(others) >= VOTES_NEEDED:
            worth = {genre: sum(worth for other, worth in others if other == genre) for genre, _ in others}
            genre = min(worth, key=lambda genre: (-worth[genre], genre))
            expected[path] = (genre, pytest.approx(VOTES_RELIABILITY * worth[genre] / len(others)))
    assert voted(paths, earlier) == expected


def test_all_claims_together(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,genre\njazz/Crew/One.mid,blues\n")
    table, notes = claims(FILES, tmp_path, tmp_path / "labels", TAXONOMY, ARTISTS)
    assert table.rows() == [
        ("mine/jazz/Crew/One.mid", "blues", "genres.csv", 1.0),
        ("mine/jazz/Crew/One.mid", "jazz", "folder", 0.9),
    ]
    assert notes == []


def test_the_claims_of_an_artist_come_from_files_only(tmp_path: Path) -> None:
    songs = songs_of({f"mine/ABBA/{title}.mid": "a" * 32 for title in ("One", "Two", "Three", "Four", "Five")})
    table, _ = claims(songs, tmp_path, tmp_path / "labels", TAXONOMY, ARTISTS)
    assert set(table["source"]) == {"artist table"}
    write_csv(tmp_path, "".join(["path,genre\n", *(f"ABBA/{title}.mid,polka\n" for title in ("One", "Two", "Three"))]))
    table, _ = claims(songs, tmp_path, tmp_path / "labels", TAXONOMY, ARTISTS)
    assert table.filter(source="artist votes").select("path", "genre").rows() == [
        ("mine/ABBA/Five.mid", "polka"),
        ("mine/ABBA/Four.mid", "polka"),
    ]


def test_every_file_that_claims_depend_on(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    shipped = label_files(tmp_path, labels)
    assert [file.name for file in shipped] == ["artists.csv"]
    table = write_csv(tmp_path, "path,genre\n")
    for name in ("midi_genre_map.json", "match_scores.json", "msd_tagtraum_cd1.cls.zip", "artists.csv"):
        (labels / name).write_text("")
    assert {*label_files(tmp_path, labels)} == {*shipped, table, *labels.iterdir()}


@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_the_clean_midi_listing(tmp_path: Path) -> None:
    folder = Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "labels"
    with lzma.open(folder / "clean_midi_listing.tsv.xz", "rt", encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    songs = songs_of({f"clean_midi/{path}": md5 for *_, md5, path in rows})
    table, notes = claims(songs, tmp_path, folder, TAXONOMY, ARTISTS)
    assert notes == []
    reach = dict(table.group_by("source").agg(pl.col("path").n_unique()).iter_rows())
    # of the files whose md5 the map has, those with a label that means a genre
    assert [reach[f"lakh {scheme}"] for scheme in ("topmagd", "masd", "magd")] == [3919, 3108, 3984]
    assert reach["artist votes"] > 0.5 * len(songs)
    assert reach["artist table"] > 0.9 * len(songs)
    assert table["confidence"].is_between(0, 1, closed="right").all()
    shuffled = claims(songs.sample(fraction=1, shuffle=True, seed=1), tmp_path, folder, TAXONOMY, ARTISTS).table
    assert shuffled.equals(table)


@pytest.mark.parametrize(("folder", "seen"), [("", "raw"), ("mine", "raw/mine/genres.csv")])
def test_labels_that_cannot_be_seen_are_not_taken_for_none(tmp_path: Path, folder: str, seen: str) -> None:
    raw = tmp_path / "raw"
    table = write_csv(raw, "path,genre\nCrew/Two.mid,polka\n")
    (raw / folder).chmod(0)
    with bound_by_permissions(), pytest.raises(BadLabels, match=f"{tmp_path / seen} cannot be looked at"):
        GenresCsv(raw).files()
    (raw / folder).chmod(0o755)
    assert GenresCsv(raw).files() == [table]
