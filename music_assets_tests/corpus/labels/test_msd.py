"""Labels by way of the Million Song Dataset, in the formats of the published files, and files that are none."""

import json
import zipfile
from pathlib import Path

import polars as pl
import pytest

from music_assets.corpus.labels.claims import RELIABILITY, SONGS_SCHEMA, Known
from music_assets.corpus.labels.msd import MsdRoute
from music_assets.corpus.labels.taxonomy import BadLabels, Taxonomy

TAXONOMY = Taxonomy.load()
MASD, TOP, MAGD = "msd-MASD-styleAssignment.cls", "msd-topMAGD-genreAssignment.cls", "msd-MAGD-genreAssignment.cls"
CD1, CD2C = "msd_tagtraum_cd1.cls", "msd_tagtraum_cd2c.cls"
ONE, TWO, THREE = (f"TRAAA{letter * 2}128F421A76B"[:18] for letter in "ABC")
FILES = pl.concat(
    [
        SONGS_SCHEMA.to_frame(),
        pl.DataFrame({"path": [f"lmd/{letter}.mid" for letter in "abcd"], "md5": [letter * 32 for letter in "abcd"]}),
    ],
    how="diagonal",
)


def write_matches(labels: Path, matches: dict[str, dict[str, float]]) -> None:
    (labels / "match_scores.json").write_text(json.dumps(matches))


def claimed(labels: Path) -> list[tuple]:
    table, notes = MsdRoute(labels).claims(FILES, Known(TAXONOMY))
    assert notes == []
    return [
        (path, source, genre, pytest.approx(confidence))
        for path, genre, source, confidence in table.sort("path", "source").iter_rows()
    ]


def test_matches_are_weighed_by_their_score(tmp_path: Path) -> None:
    write_matches(tmp_path, {ONE: {"a" * 32: 0.6, "b" * 32: 0.9}, TWO: {"a" * 32: 0.7}, THREE: {"a" * 32: 0.5}})
    (tmp_path / MASD).write_text(f"{ONE}\tRock_Hard\n{TWO}\tDance\n{THREE}\tRock_College\n")
    assert claimed(tmp_path) == [
        ("lmd/a.mid", "msd masd", "rock", RELIABILITY["masd"] * 1.1 / 1.8),
        ("lmd/b.mid", "msd masd", "rock", RELIABILITY["masd"]),
    ]


def test_labels_without_genre_weaken_the_others(tmp_path: Path) -> None:
    write_matches(tmp_path, {ONE: {"a" * 32: 0.5}, TWO: {"a" * 32: 1.0, "b" * 32: 1.0}})
    (tmp_path / MAGD).write_text(f"{ONE}\tJazz\n{TWO}\tStage \n")
    assert claimed(tmp_path) == [("lmd/a.mid", "msd magd", "jazz", RELIABILITY["magd"] / 3)]


def test_recordings_that_a_list_leaves_out_do_not_count(tmp_path: Path) -> None:
    write_matches(tmp_path, {ONE: {"a" * 32: 0.5, "e" * 32: 1.0}, TWO: {"a" * 32: 1.0}})
    (tmp_path / TOP).write_text(f"{ONE}\tRap\n{THREE}\tJazz\n")
    assert claimed(tmp_path) == [("lmd/a.mid", "msd topmagd", "hiphop", RELIABILITY["topmagd"])]


TAGTRAUM = f"# by\r\n#\r\n\r\n{ONE}\tMetal\tRock\r\n{TWO}\tNew Age\r\n{THREE}\tRnB\t\r\n"


@pytest.mark.parametrize("packed", [False, True])
def test_tagtraum_with_comments_and_second_labels(packed: bool, tmp_path: Path) -> None:
    write_matches(tmp_path, {ONE: {"a" * 32: 0.5}, TWO: {"b" * 32: 0.5}, THREE: {"c" * 32: 0.5, "d" * 32: 0.9}})
    if packed:
        with zipfile.ZipFile(tmp_path / f"{CD1}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"__MACOSX/._{CD1}", b"\0")
            archive.writestr(CD1, TAGTRAUM)
    else:
        (tmp_path / CD1).write_text(TAGTRAUM, newline="")
    sure = RELIABILITY["tagtraum"]
    assert claimed(tmp_path) == [
        ("lmd/a.mid", "tagtraum cd1", "metal", sure * 2 / 3),
        ("lmd/b.mid", "tagtraum cd1", "newage", sure),
        ("lmd/c.mid", "tagtraum cd1", "rnb_soul", sure),
        ("lmd/d.mid", "tagtraum cd1", "rnb_soul", sure),
    ]


def test_every_list_is_a_source_and_plain_files_come_before_packed_ones(tmp_path: Path) -> None:
    write_matches(tmp_path, {ONE: {"a" * 32: 0.5}})
    (tmp_path / CD2C).write_text(f"{ONE}\tPunk\n")
    (tmp_path / f"{CD2C}.zip").write_bytes(b"broken")
    (tmp_path / TOP).write_text(f"{ONE}\tPop_Rock\n")
    (tmp_path / "msd-topMAGD-partition_percentageSplit_0.8-v1.0.cls").write_text(f"{ONE}\tTRAIN\n")
    assert [file.name for file in MsdRoute(tmp_path).files()] == ["match_scores.json", TOP, CD2C]
    assert [(source, genre) for _, source, genre, _ in claimed(tmp_path)] == [
        ("msd topmagd", "rock"),
        ("tagtraum cd2c", "punk"),
    ]


def test_half_of_the_route_claims_nothing(tmp_path: Path) -> None:
    write_matches(tmp_path, {ONE: {"a" * 32: 0.5}})
    assert MsdRoute(tmp_path).files() == []
    assert claimed(tmp_path) == []
    (tmp_path / MASD).write_text(f"{ONE}\tPunk\n")
    (tmp_path / "match_scores.json").unlink()
    table, notes = MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))
    assert len(table) == 0
    assert notes == [f"{tmp_path / MASD} is of no use without {tmp_path / 'match_scores.json'}."]


def test_a_label_that_the_taxonomy_does_not_foresee_is_told(tmp_path: Path) -> None:
    write_matches(tmp_path, {ONE: {"a" * 32: 0.5, "b" * 32: 0.5}, TWO: {"c" * 32: 0.5}})
    (tmp_path / MASD).write_text(f"{ONE}\tKlezmer\n{TWO}\tPolka\n")
    table, notes = MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))
    assert len(table) == 0
    assert notes == [
        f"{tmp_path / MASD}: the taxonomy does not know the label 'Klezmer' (used 2 times): make it an alias of a "
        "genre, or put it in labels_without_genre. So it is with 2 labels."
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>\n<body>404\n", "line 1: '<html>' is no recording of the dataset, a tab and its genre."),
        (f"# x\n{ONE}\tRock\n{TWO} Rock\n".encode(), f"line 3: '{TWO} Rock' is no recording"),
        (f"{ONE}\t\n".encode(), f"line 1: '{ONE}\\t' is no recording"),
        (b"\xff\xfe\tRock\n", "is not a list of recordings and genres in UTF-8"),
    ],
)
def test_a_wrong_list_gets_one_sentence(data: bytes, message: str, tmp_path: Path) -> None:
    write_matches(tmp_path, {})
    (tmp_path / MASD).write_bytes(data)
    with pytest.raises(BadLabels) as caught:
        MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))
    assert str(caught.value).startswith(str(tmp_path / MASD))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"TR": 1}', b'{"TR": {"%s": "high"}' % (b"a" * 32), b"\xff"])
def test_wrong_matches_get_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / MASD).write_text(f"{ONE}\tRock_Hard\n")
    (tmp_path / "match_scores.json").write_bytes(data)
    with pytest.raises(BadLabels, match="is not a list of matches: it must be JSON, from recording to md5 to a score"):
        MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))


@pytest.mark.parametrize("score", ["0", "-0.5", "1.01", "NaN", "Infinity", "null", "true", '"0.7"', "[0.7]", "9" * 400])
def test_a_score_that_is_none_gets_one_sentence(score: str, tmp_path: Path) -> None:
    (tmp_path / MASD).write_text(f"{ONE}\tRock_Hard\n")
    file = tmp_path / "match_scores.json"
    file.write_text(f'{{"{TWO}": {{"{"b" * 32}": 1}}, "{ONE}": {{"{"a" * 32}": {score}}}}}')
    with pytest.raises(BadLabels) as caught:
        MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))
    assert str(caught.value).startswith(
        f"{file}: the score of recording {ONE} and md5 {'a' * 32} must be a number over 0 and up to 1, not "
    )
    assert len(str(caught.value)) < len(str(file)) + 200


def test_a_wrong_archive_gets_one_sentence(tmp_path: Path) -> None:
    write_matches(tmp_path, {})
    file = tmp_path / f"{CD1}.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(BadLabels, match=r"must hold one file named msd_tagtraum_cd1.cls"):
        MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CD1, f"{ONE}\tRock\n" * 1000)
    whole = file.read_bytes()
    for damaged in (b"<html>", whole[:60] + b"\xff" * 20 + whole[80:]):
        file.write_bytes(damaged)
        with pytest.raises(BadLabels, match=r"msd_tagtraum_cd1.cls.zip cannot be unpacked .*: download it again"):
            MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    write_matches(tmp_path, {})
    file = tmp_path / f"{CD1}.zip"
    block = bytes(1 << 20)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(CD1, "w") as member:
        for _ in range(65):
            member.write(block)
    with pytest.raises(BadLabels, match="unpacks to more than 67,108,864 bytes"):
        MsdRoute(tmp_path).claims(FILES, Known(TAXONOMY))
