"""The source that users write: ``genres.csv``."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from music_assets.corpus.labels.claims import CLAIMS_SCHEMA, Claims, Known, LabelSource
from music_assets.corpus.labels.csv_tables import read_table
from music_assets.corpus.labels.taxonomy import BadLabels, Taxonomy

CSV_NAME = "genres.csv"

CSV_CONFIDENCE = 1.0


@dataclass(frozen=True)
class GenresCsv(LabelSource):
    r"""``genres.csv`` in the drop folder and in its collections.

    Columns: ``genre``, then ``path`` (relative to the folder of the table) or ``md5``, and perhaps ``confidence``
    (0..1, 1 if left out or empty; a row with 0 claims nothing). In a path ``\`` is read as ``/``, and letters with
    accents may be composed or not. Empty rows do not count.
    """

    raw: Path
    """The drop folder."""

    def files(self) -> list[Path]:
        """The tables, sorted. Raises BadLabels where one may be that cannot be seen now."""
        try:
            folders = [self.raw, *sorted(folder for folder in self.raw.iterdir() if folder.is_dir())]
            return [file for folder in folders if (file := folder / CSV_NAME).is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BadLabels(
                f"{error.filename} cannot be looked at ({error.strerror}), so the labels of its folder are unknown: "
                f"mend that, or move the folder out of {self.raw}."
            ) from None

    def claims(self, songs: pl.DataFrame, known: Known) -> Claims:
        """One claim for every row and file that it means; a note where rows mean no file or contradict each other.

        Raises BadLabels.
        """
        found = [self._claims(file, songs, known.taxonomy) for file in self.files()]
        return Claims(
            pl.concat([CLAIMS_SCHEMA.to_frame(), *(table for table, _ in found)]),
            [note for _, notes in found for note in notes],
        )

    def _claims(self, file: Path, songs: pl.DataFrame, taxonomy: Taxonomy) -> Claims:
        table = read_table(file)
        columns = table.columns[1:]
        keys = [name for name in ("path", "md5") if name in columns]
        unknown = [name for name in columns if name not in ("path", "md5", "genre", "confidence")]
        if unknown or len(keys) != 1 or "genre" not in columns:
            raise BadLabels(
                f"{file} has the columns {', '.join(columns)}; it needs genre, one of path and md5, "
                "and may have confidence."
            )
        key = keys[0]
        if "confidence" not in columns:
            table = table.with_columns(confidence=pl.lit(""))
        given = pl.col("confidence")
        confidence = pl.when(given == "").then(CSV_CONFIDENCE).otherwise(given.cast(pl.Float64, strict=False))
        slugs = pl.col("genre").map_elements(taxonomy.slug, pl.String, skip_nulls=False)
        table = table.with_columns(slugs, given="genre", confidence=confidence)
        wrong = table.filter(~pl.col("confidence").is_between(0, 1).fill_null(False))
        if len(wrong):
            raise BadLabels(f"{file}, line {wrong['line'][0]}: confidence must be a number from 0 to 1.")
        wrong = table.filter(pl.col("genre").is_null())
        if len(wrong):
            raise BadLabels(f"{file}, line {wrong['line'][0]}: {wrong['given'][0]!r} is no genre name.")
        if key == "path":
            prefix = "" if file.parent == self.raw else f"{file.parent.name}/"
            table = table.with_columns(
                key=_same_path(pl.lit(prefix) + _same_path(pl.col("path")).str.strip_prefix("./"))
            )
            meant = songs.select("path", key=_same_path(pl.col("path")))
        else:
            table = table.with_columns(key=pl.col("md5").str.to_lowercase())
            meant = songs.select("path", key="md5")
        lost = table.join(meant, on="key", how="anti")
        notes = [f"{file}, line {lost['line'][0]}: there is no file with {key} {lost['key'][0]}."] if len(lost) else []
        if len(lost) > 1:
            notes = [f"{notes[0]} So it is with {len(lost)} of {len(table)} rows."]
        matched = table.filter(pl.col("confidence") > 0).select("line", "key", "genre", "confidence")
        matched = matched.join(meant, on="key")
        return Claims(
            matched.select("path", "genre", source=pl.lit(CSV_NAME), confidence="confidence"),
            [*notes, *_contradiction(matched, file)],
        )


def _same_path(path: pl.Expr) -> pl.Expr:
    r"""What the spellings of one path share: some systems decompose letters with accents, or write ``\``."""
    return path.str.normalize("NFC").str.replace_all("\\", "/", literal=True)


def _contradiction(rows: pl.DataFrame, file: Path) -> list[str]:
    """A sentence if the surest ``rows`` on one path (columns ``line, path, genre, confidence``) differ in genre."""
    surest = pl.col("confidence") == pl.col("confidence").max().over("path")
    differing = (
        rows.filter(surest)
        .sort("line", "path")
        .unique(["path", "genre"], keep="first", maintain_order=True)
        .filter(pl.len().over("path") > 1)
    )
    if not len(differing):
        return []
    first, second = differing.filter(path=differing["path"][0]).head(2).iter_rows(named=True)
    files = differing["path"].n_unique()
    others = f" So it is with {files} files." if files > 1 else ""
    return [
        f"{file}, line {second['line']}: {second['path']} is {second['genre']} here and {first['genre']} in line "
        f"{first['line']}, both with confidence {first['confidence']:g}; keep one.{others}"
    ]
