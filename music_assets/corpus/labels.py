"""Where genre labels come from: every source makes claims, the index keeps all and chooses one a piece."""

import gzip
import json
from collections import Counter
from pathlib import Path

import polars as pl

from music_assets.corpus.songs import path_facts
from music_assets.corpus.taxonomy import Taxonomy

CLAIMS_SCHEMA = pl.Schema(
    {"path": pl.String(), "genre": pl.String(), "source": pl.String(), "confidence": pl.Float64()}
)
"""A claim: this file is of this genre, says this source, with this confidence (0..1)."""

CSV_NAME = "genres.csv"
CSV_CONFIDENCE = 1.0
FOLDER_CONFIDENCE = 0.9
LAKH_RELIABILITY = {"masd": 0.7, "topmagd": 0.6, "magd": 0.5}
"""Confidence when all labels of a file agree. masd first: topmagd and magd call 70% of all files Pop_Rock."""
_LAKH_NAMES = ("midi_genre_map.json", "midi_genre_map.json.gz")


class BadLabels(ValueError):
    """A label file that cannot be understood; the message names the file, the field and the way out."""


def label_files(raw: Path, labels: Path) -> list[Path]:
    """Every file that claims may come from, sorted."""
    tables = [file for folder in _csv_folders(raw) if (file := folder / CSV_NAME).is_file()]
    maps = [file for name in _LAKH_NAMES if (file := labels / name).is_file()]
    return tables + maps[:1]


def claims(files: pl.DataFrame, raw: Path, labels: Path, taxonomy: Taxonomy) -> tuple[pl.DataFrame, list[str]]:
    """All claims about ``files`` (columns ``path`` and ``md5``), and a sentence for every doubtful thing.

    Raises :class:`BadLabels`.
    """
    tables, notes = [folder_claims(files, taxonomy)], []
    for file in label_files(raw, labels):
        if file.name == CSV_NAME:
            table, unmatched = csv_claims(file, raw, files, taxonomy)
            notes += unmatched
        else:
            table = lakh_claims(file, files, taxonomy)
        tables.append(table)
    return pl.concat(tables).unique().sort(CLAIMS_SCHEMA.names()), notes


def folder_claims(files: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """Genre folders, see :func:`music_assets.corpus.songs.path_facts`."""
    rows = [
        (path, genre, "folder", FOLDER_CONFIDENCE)
        for path in files["path"]
        if (genre := path_facts(path, taxonomy).genre)
    ]
    return pl.DataFrame(rows, CLAIMS_SCHEMA, orient="row")


def csv_claims(file: Path, raw: Path, files: pl.DataFrame, taxonomy: Taxonomy) -> tuple[pl.DataFrame, list[str]]:
    """The claims of one ``genres.csv``, and a sentence where rows match no file.

    Columns: ``genre``, then ``path`` (relative to the folder of the table) or ``md5``, and perhaps
    ``confidence`` (0..1, 1 if left out). Raises :class:`BadLabels`.
    """
    try:
        table = pl.read_csv(file, infer_schema=False).fill_null("")
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise BadLabels(f"{file} is not a table of comma-separated values in UTF-8: {reason}") from None
    keys = [name for name in ("path", "md5") if name in table.columns]
    unknown = [name for name in table.columns if name not in ("path", "md5", "genre", "confidence")]
    if unknown or len(keys) != 1 or "genre" not in table.columns:
        raise BadLabels(
            f"{file} has the columns {', '.join(table.columns)}; it needs genre, one of path and md5, "
            "and may have confidence."
        )
    key = keys[0]
    confidence = (
        pl.col("confidence").cast(pl.Float64, strict=False) if "confidence" in table.columns else CSV_CONFIDENCE
    )
    table = table.with_row_index("line", offset=2).with_columns(
        pl.col("genre").map_elements(taxonomy.slug, pl.String, skip_nulls=False),
        given="genre",
        confidence=confidence,
    )
    wrong = table.filter(~pl.col("confidence").is_between(0, 1).fill_null(False))
    if len(wrong):
        raise BadLabels(f"{file}, line {wrong['line'][0]}: confidence must be a number from 0 to 1.")
    wrong = table.filter(pl.col("genre").is_null())
    if len(wrong):
        raise BadLabels(f"{file}, line {wrong['line'][0]}: {wrong['given'][0]!r} is no genre name.")
    if key == "path":
        prefix = "" if file.parent == raw else f"{file.parent.name}/"
        table = table.with_columns(path=prefix + pl.col("path").str.strip_prefix("./"))
    else:
        table = table.with_columns(pl.col("md5").str.to_lowercase())
    lost = table.join(files, on=key, how="anti")
    notes = [f"{file}, line {lost['line'][0]}: there is no file with {key} {lost[key][0]}."] if len(lost) else []
    if len(lost) > 1:
        notes = [f"{notes[0]} So it is with {len(lost)} of {len(table)} rows."]
    matched = table.join(files.select("path", "md5"), on=key, how="inner")
    return matched.select("path", "genre", source=pl.lit(CSV_NAME), confidence="confidence"), notes


def lakh_claims(file: Path, files: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """The Lakh genre map: ``{scheme: {md5: [label, ...]}}``, plain or gzip. One claim a scheme and file.

    The claim is the genre that most of the file's labels mean (of equals the first by name); its confidence
    is their share times the scheme's reliability. Labels that mean no known genre count against it.
    Raises :class:`BadLabels`.
    """
    try:
        data = file.read_bytes()
        schemes = json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)
        rows = [
            (md5, f"lakh {scheme}", *_majority(tuple(labels), taxonomy), reliability)
            for scheme, reliability in LAKH_RELIABILITY.items()
            for md5 in files["md5"].drop_nulls().unique()
            if (labels := schemes[scheme].get(md5))
        ]
    except (ValueError, KeyError, AttributeError, TypeError, EOFError, OSError) as error:
        raise BadLabels(
            f"{file} is not a genre map: it must be JSON with {', '.join(LAKH_RELIABILITY)}, "
            f"each from md5 to a list of labels ({type(error).__name__}: {error})."
        ) from None
    schema = {
        "md5": pl.String,
        "source": pl.String,
        "genre": pl.String,
        "share": pl.Float64,
        "reliability": pl.Float64,
    }
    table = pl.DataFrame(rows, schema, orient="row").drop_nulls("genre").join(files.select("path", "md5"), on="md5")
    return table.select("path", "genre", "source", confidence=pl.col("share") * pl.col("reliability"))


def _majority(labels: tuple[str, ...], taxonomy: Taxonomy) -> tuple[str | None, float]:
    counts = Counter(genre for label in labels if (genre := taxonomy.known(label)))
    if not counts:
        return None, 0.0
    genre = min(counts, key=lambda genre: (-counts[genre], genre))
    return genre, counts[genre] / len(labels)


def _csv_folders(raw: Path) -> list[Path]:
    return [raw, *sorted(folder for folder in raw.glob("*") if folder.is_dir())]
