"""Spellings of artists: the shipped table, the user's over it, guests, and tables that are wrong."""

import lzma
import os
from pathlib import Path

import pytest

from music_assets.corpus.labels.artists import GUEST_SHARE, OWN_CONFIDENCE, Artist, ArtistTable, artist_files
from music_assets.corpus.labels.songs import fold_artist
from music_assets.corpus.labels.taxonomy import BadLabels, Taxonomy

SHIPPED = ArtistTable.load()


def own(labels: Path, rows: str, columns: str = "spelling,artist,genre,confidence") -> Path:
    file = labels / "artists.csv"
    file.write_text(f"{columns}\n{rows}", "utf-8")
    return file


def test_the_shipped_table_is_sound() -> None:
    taxonomy = Taxonomy.load()
    assert len(SHIPPED.artists) > 1500
    for key, artist in SHIPPED.artists.items():
        assert key == fold_artist(key) != ""
        assert artist.genre is None or artist.genre in taxonomy.genres
        assert (0 < artist.confidence <= 1) if artist.genre else artist.confidence == 0
        assert SHIPPED.find(artist.name) == artist


def test_every_artist_has_one_canonical_name_and_genre() -> None:
    artists = set(SHIPPED.artists.values())
    assert len({artist.name for artist in artists}) == len({fold_artist(artist.name) for artist in artists})
    assert len({artist.name for artist in artists}) == len(artists)


def test_spellings_of_one_artist() -> None:
    elton = SHIPPED.find("Elton John")
    assert elton == SHIPPED.find("JOHN, Elton") == SHIPPED.find("elton john")
    assert elton is not None
    assert elton.name == SHIPPED.canonical("JOHN ELTON") == "Elton John"


def test_unknown_artists() -> None:
    assert SHIPPED.find("Nobody Knows Whom, Surely") is None
    assert SHIPPED.find(None) is SHIPPED.find("") is SHIPPED.find("!!!") is None
    assert SHIPPED.canonical("Nobody Knows Whom, Surely") == "Nobody Knows Whom, Surely"


@pytest.mark.parametrize(
    "spelling",
    [
        "Elton John feat. Nobody",
        "Elton John (Featuring Nobody)",
        "Elton John ft Nobody",
        "Elton John & Nobody",
        "JOHN, Elton with Nobody",
        "Elton John and Nobody vs. Somebody",
    ],
)
def test_guests_are_left_out_where_all_together_are_unknown(spelling: str) -> None:
    alone, together = SHIPPED.find("Elton John"), SHIPPED.find(spelling)
    assert alone is not None
    assert together is not None
    assert (together.name, together.genre) == (alone.name, alone.genre)
    assert together.confidence == pytest.approx(alone.confidence * GUEST_SHARE)


def test_the_longest_known_name_counts(tmp_path: Path) -> None:
    own(tmp_path, "Ann,Ann,pop,1\nAnn & Ben,Ann & Ben,jazz,1\nFeatherweight,,folk,1\n")
    table = ArtistTable.load(tmp_path)
    assert table.canonical("Ann & Ben") == "Ann & Ben"
    assert table.canonical("Ann & Ben & Cyd") == "Ann & Ben"
    assert table.canonical("Ann & Cyd") == "Ann"
    assert table.canonical("Cyd & Ann") == "Cyd & Ann"
    assert table.canonical("Featherweights") == "Featherweights"


def test_a_row_of_the_user_counts_for_all_spellings(tmp_path: Path) -> None:
    own(tmp_path, "Elton John,Elton John,Sea Shanty,0.5\nNew Band,,polka,\n")
    table = ArtistTable.load(tmp_path)
    assert table.find("JOHN ELTON") == Artist("Elton John", "Sea Shanty", 0.5)
    assert table.find("New Band") == Artist("New Band", "polka", OWN_CONFIDENCE)
    assert table.find("ABBA") == SHIPPED.find("ABBA")


def test_a_new_spelling_leaves_the_genre(tmp_path: Path) -> None:
    own(tmp_path, "Captain Fantastic,Elton John,,\n")
    assert ArtistTable.load(tmp_path).find("Captain Fantastic") == SHIPPED.find("Elton John")


def test_two_shipped_artists_can_be_made_one(tmp_path: Path) -> None:
    own(tmp_path, "ABBA,Elton John,\n", "spelling,artist,genre")
    table = ArtistTable.load(tmp_path)
    assert table.find("ABBA") == table.find("Elton John") == SHIPPED.find("Elton John")


def test_files_of_the_table(tmp_path: Path) -> None:
    shipped = artist_files(None)
    assert [file.name for file in shipped] == ["artists.csv"]
    assert artist_files(tmp_path) == shipped
    mine = own(tmp_path, "")
    assert artist_files(tmp_path) == [*shipped, mine]


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").mkdir()
    for reads in (artist_files, ArtistTable.load):
        with pytest.raises(BadLabels) as caught:
            reads(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path / 'artists.csv'} is no file: put a table of artists there, or move it away."
        )


def test_empty_rows_do_not_count(tmp_path: Path) -> None:
    own(tmp_path, "\nNew Band, ,polka , \n,,,\n \n")
    table = ArtistTable.load(tmp_path)
    assert table.find("New Band") == Artist("New Band", "polka", OWN_CONFIDENCE)
    assert table.own_genres == {"polka": f"{tmp_path / 'artists.csv'}, line 3"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("A Band,A Band,rock,much\n", "line 2: confidence must be a number over 0 and up to 1."),
        ("A Band,A Band,rock,0\n", "line 2: confidence must be a number over 0 and up to 1."),
        ("A Band,A Band,rock,nan\n", "line 2: confidence must be a number over 0 and up to 1."),
        ("!!!,!!!,rock,1\n", "line 2: '!!!' by '!!!' has no letters that name an artist."),
        (
            "Zed Band,Zed Band,rock,1\nZedd,The Zed Band,rock,1\n",
            "line 3: The Zed Band is rock with confidence 1, but a line above says Zed Band is rock with confidence 1; "
            "give an artist one name.",
        ),
        (
            "Zed Band,Zed Band,rock,1\nZedd,Zed Band,pop,1\n",
            "line 3: Zed Band is pop with confidence 1, but a line above says Zed Band is rock with confidence 1; "
            "give an artist one name.",
        ),
        (
            'Zed Band,Zed Band,rock,1\n"Band, Zed",Zedd,rock,1\n',
            "line 3: 'band zed' means Zedd here and Zed Band in another line; keep one.",
        ),
        (
            "Zed,Zed Band,rock,1\nZedd,Zed,rock,1\n",
            "line 3: 'zed' means Zed here and Zed Band in another line; keep one.",
        ),
    ],
)
def test_a_wrong_table_gets_one_sentence(rows: str, message: str, tmp_path: Path) -> None:
    file = own(tmp_path, rows)
    with pytest.raises(BadLabels) as caught:
        ArtistTable.load(tmp_path)
    assert str(caught.value) == f"{file}, {message}"


def test_wrong_columns_get_one_sentence(tmp_path: Path) -> None:
    file = own(tmp_path, "", "artist,genre")
    with pytest.raises(BadLabels) as caught:
        ArtistTable.load(tmp_path)
    assert str(caught.value) == (
        f"{file} has the columns artist, genre; it needs spelling, artist and genre, and may have confidence."
    )


@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_nine_tenths_of_the_clean_midi_listing_have_a_genre() -> None:
    listing = Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "labels" / "clean_midi_listing.tsv.xz"
    with lzma.open(listing, "rt", encoding="utf-8") as lines:
        spellings = [line.split("\t")[1] for line in lines]
    found = [SHIPPED.find(spelling) for spelling in spellings]
    assert all(found)
    assert sum(artist is not None and artist.genre is not None for artist in found) / len(found) >= 0.9
