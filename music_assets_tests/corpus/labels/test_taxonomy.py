"""The taxonomy file: what it must cover, what users may change, and the sentences for a file that is wrong."""

from pathlib import Path

import pytest

from music_assets.corpus.labels.taxonomy import BadLabels, Taxonomy

TAXONOMY = Taxonomy.load()
DEFAULT_GENRES = {
    *("rock", "pop", "classical", "jazz", "blues", "rnb_soul", "hiphop", "electronic", "metal", "punk", "country"),
    *("folk", "latin", "reggae", "gospel", "ragtime", "newage", "game", "holiday", "world"),
}
DANCES = {"anthem", "chorale", "funk", "hornpipe", "jig", "reel", "slip_jig", "strathspey"}
MAGD = [
    *("Pop_Rock", "Electronic", "Country", "RnB", "Latin", "Jazz", "International", "Easy_Listening", "Rap", "Vocal"),
    *("Religious", "New Age", "Classical", "Children", "Folk", "Reggae", "Stage ", "Blues", "Comedy_Spoken"),
    *("Holiday", "Avant_Garde"),
]
MASD = [
    *("Big_Band", "Blues_Contemporary", "Country_Traditional", "Dance", "Electronica", "Experimental", "Punk"),
    *("Folk_International", "Gospel", "Grunge_Emo", "Hip_Hop_Rap", "Jazz_Classic", "Metal_Alternative"),
    *("Metal_Death", "Metal_Heavy", "Pop_Contemporary", "Pop_Indie", "Pop_Latin", "Reggae", "RnB_Soul"),
    *("Rock_Alternative", "Rock_College", "Rock_Contemporary", "Rock_Hard", "Rock_Neo_Psychedelia"),
]
TAGTRAUM = [
    *("Reggae", "Latin", "RnB", "Jazz", "Metal", "Pop", "Punk", "Country", "New Age", "Rap", "Rock", "World"),
    *("Blues", "Electronic", "Folk"),
]
WITHOUT_GENRE = {"Children", "Stage ", "Comedy_Spoken", "Avant_Garde", "Experimental"}
SMALL = """
minimum_pieces = 5
not_genres = ["misc"]
[genres.jazz]
name = "Jazz"
aliases = ["swing"]
[genres.polka]
name = "Polka"
minimum_pieces = 2
"""


def write(labels: Path, text: str) -> Path:
    labels.mkdir(exist_ok=True)
    file = labels / "taxonomy.toml"
    file.write_text(text, "utf-8")
    return file


def test_the_default_genres() -> None:
    assert set(TAXONOMY.genres) == DEFAULT_GENRES | DANCES


@pytest.mark.parametrize("label", sorted({*MAGD, *MASD, *TAGTRAUM}))
def test_every_published_label_has_a_place(label: str) -> None:
    assert TAXONOMY.covers(label)
    assert (TAXONOMY.known(label) is None) == (label in WITHOUT_GENRE)


def test_labels_mean_what_they_say() -> None:
    meant = {TAXONOMY.known(label) for label in TAGTRAUM}
    assert meant == {TAXONOMY.known(label.casefold()) for label in TAGTRAUM}
    assert len(meant) == len(TAGTRAUM)
    assert TAXONOMY.known("Metal_Death") == "metal"
    assert TAXONOMY.known("Big_Band") == "jazz"
    assert TAXONOMY.known("Religious") == "gospel"
    assert not TAXONOMY.covers("Polka")


def test_a_folder_may_bear_a_label_without_genre() -> None:
    assert TAXONOMY.slug("Experimental") == "experimental"


@pytest.mark.parametrize(
    "name", ["ジャズ", "バラード", "हिन्दी", "தமிழ்", "발라드", "락", "歌", "หมอลำ", "أغاني", "ශ්\u200dරී"]
)
def test_a_genre_in_any_script_keeps_its_letters(name: str) -> None:
    assert TAXONOMY.slug(name) == name


@pytest.mark.parametrize("name", ["A", "Я", "あ", "7", "!", "\u0301"])
def test_a_shelf_is_no_genre(name: str) -> None:
    assert TAXONOMY.slug(name) is None


def test_names_that_name_nothing() -> None:
    assert TAXONOMY.is_not_genre("Various Artists")
    assert not TAXONOMY.is_not_genre("311")


def test_the_users_file_counts_instead_of_the_shipped_one(tmp_path: Path) -> None:
    assert Taxonomy.of(tmp_path) == TAXONOMY
    write(tmp_path, SMALL)
    own = Taxonomy.of(tmp_path)
    assert own.genres.keys() == {"jazz", "polka"}
    assert own.known("Swing") == "jazz"
    assert own.known("Rock") is None
    write(tmp_path, SMALL.replace("swing", "rock"))
    assert Taxonomy.of(tmp_path).known("Rock") == "jazz"


def test_minimum_of_a_genre(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    own = Taxonomy.of(tmp_path)
    assert [own.minimum(genre) for genre in ("jazz", "polka", "sea_shanty")] == [5, 2, 5]
    assert [own.minimum(genre, 30) for genre in ("jazz", "polka", "sea_shanty")] == [30, 2, 30]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("minimum_pieces = \n", "Invalid value"),
        ("minimum_pieces = 1\nnot_genres = []\n", "genres: Field required"),
        (SMALL.replace("= 5", "= 0"), "minimum_pieces: Input should be greater than or equal to 1"),
        (SMALL.replace("= 2", '= "two"'), "genres.polka.minimum_pieces: Input should be a valid integer"),
        (SMALL.replace("aliases", "alias"), "genres.jazz.alias: Extra inputs are not permitted"),
        (SMALL.replace("swing", "Polka"), "The taxonomy gives 'polka' to jazz and to polka"),
        (SMALL.replace("swing", "Misc"), "'Misc' cannot name the genre jazz, for it names none"),
        (SMALL.replace("swing", "!"), "'!' cannot name the genre jazz, for it names none"),
        (SMALL.replace("genres.jazz", 'genres."../jazz"'), "The genre '../jazz' must be written 'jazz'"),
        (SMALL.replace("genres.jazz", 'genres."Free Jazz"'), "The genre 'Free Jazz' must be written 'free_jazz'"),
        ('labels_without_genre = ["Swing"]' + SMALL, "The label 'swing' cannot both name jazz and be without genre"),
    ],
)
def test_a_wrong_file_gets_one_sentence(text: str, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(BadLabels) as caught:
        Taxonomy.of(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{file} is not a taxonomy ({reason}")
    assert "\n" not in message
    assert message.endswith("mend it, or move it away to use the one that comes with the package.")


def test_a_file_of_other_bytes_or_a_folder_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taxonomy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadLabels, match=r"is not a taxonomy .*utf-8"):
        Taxonomy.of(tmp_path)
    (tmp_path / "taxonomy.toml").unlink()
    (tmp_path / "taxonomy.toml").mkdir()
    with pytest.raises(BadLabels, match=r"is not a taxonomy .*directory"):
        Taxonomy.of(tmp_path)
