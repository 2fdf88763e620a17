"""Claims of every source, and the sentences for label files that are wrong."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from music_assets.corpus.labels import (
    LAKH_RELIABILITY,
    BadLabels,
    claims,
    csv_claims,
    label_files,
    lakh_claims,
)
from music_assets.corpus.taxonomy import Taxonomy

TAXONOMY = Taxonomy.load()
FILES = pl.DataFrame(
    [("mine/jazz/Band/One.mid", "a" * 32), ("mine/Band/Two.mid", "b" * 32), ("lmd/0/x.mid", "c" * 32)],
    {"path": pl.String, "md5": pl.String},
    orient="row",
)


def write_csv(raw: Path, text: str, folder: str = "mine") -> Path:
    file = raw / folder / "genres.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_table_in_a_collection_and_one_beside_it(tmp_path: Path) -> None:
    inner = write_csv(tmp_path, "path,genre,confidence\nBand/Two.mid,R&B,0.4\n./jazz/Band/One.mid,Bebop,1\n")
    outer = write_csv(tmp_path, f"genre,md5\nSea shanty,{'C' * 32}\n", folder=".")
    assert label_files(tmp_path, tmp_path / "labels") == [tmp_path / "genres.csv", inner]
    assert csv_claims(inner, tmp_path, FILES, TAXONOMY)[0].sort("path").rows() == [
        ("mine/Band/Two.mid", "rnb_soul", "genres.csv", 0.4),
        ("mine/jazz/Band/One.mid", "jazz", "genres.csv", 1.0),
    ]
    table, notes = csv_claims(tmp_path / outer.name, tmp_path, FILES, TAXONOMY)
    assert table.rows() == [("lmd/0/x.mid", "sea_shanty", "genres.csv", 1.0)]
    assert notes == []


def test_rows_without_a_file_are_told_and_stop_nothing(tmp_path: Path) -> None:
    file = write_csv(tmp_path, "path,genre\nBand/Two.mid,rock\nBand/Three.mid,rock\nBand/Four.mid,rock\n")
    table, notes = csv_claims(file, tmp_path, FILES, TAXONOMY)
    assert len(table) == 1
    assert notes == [f"{file}, line 3: there is no file with path mine/Band/Three.mid. So it is with 2 of 3 rows."]


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
        ("path,genre\na,rock,jazz\n", "is not a table of comma-separated values in UTF-8"),
        ("", "is not a table of comma-separated values in UTF-8"),
    ],
)
def test_a_wrong_table_gets_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path, text)
    with pytest.raises(BadLabels) as caught:
        csv_claims(file, tmp_path, FILES, TAXONOMY)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["midi_genre_map.json", "midi_genre_map.json.gz"])
def test_the_lakh_map(name: str, tmp_path: Path) -> None:
    schemes = {
        "masd": {"b" * 32: ["Rock_Hard", "Metal_Heavy", "Metal_Death", "Experimental"], "d" * 32: ["Dance"]},
        "topmagd": {"b" * 32: ["Pop_Rock", "RnB"], "c" * 32: ["Comedy_Spoken"]},
        "magd": {},
    }
    data = json.dumps(schemes).encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    table = lakh_claims(file, FILES, TAXONOMY).sort("source")
    assert table.rows() == [
        ("mine/Band/Two.mid", "metal", "lakh masd", pytest.approx(LAKH_RELIABILITY["masd"] / 2)),
        ("mine/Band/Two.mid", "rnb_soul", "lakh topmagd", pytest.approx(LAKH_RELIABILITY["topmagd"] / 2)),
    ]


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"masd": {}}', b'{"masd": [], "topmagd": {}, "magd": {}}', b"\xff"])
def test_a_wrong_lakh_map_gets_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "midi_genre_map.json").write_bytes(data)
    with pytest.raises(BadLabels, match="is not a genre map: it must be JSON with masd, topmagd, magd"):
        lakh_claims(tmp_path / "midi_genre_map.json", FILES, TAXONOMY)


def test_all_claims_together(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,genre\njazz/Band/One.mid,blues\n")
    table, notes = claims(FILES, tmp_path, tmp_path / "labels", TAXONOMY)
    assert table.rows() == [
        ("mine/jazz/Band/One.mid", "blues", "genres.csv", 1.0),
        ("mine/jazz/Band/One.mid", "jazz", "folder", 0.9),
    ]
    assert notes == []
