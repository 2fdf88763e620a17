"""Genre labels by way of the Million Song Dataset: which of its recordings a file matches, and what they are."""

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from music_assets.corpus.labels.claims import (
    CLAIMS_SCHEMA,
    RELIABILITY,
    Claims,
    Known,
    LabelSource,
    labels_not_covered,
    weighted_majority,
)
from music_assets.corpus.labels.taxonomy import BadLabels

MATCHES_NAME = "match_scores.json"
_ID = r"^TR[A-Z]{5}[0-9A-F]{11}$"
_LIMIT = 1 << 26
"""Bytes that a label file may have when unpacked, five times as many as the largest published one."""
_MAJORITY = 2 / 3
"""Weight of a recording's first label where it has a second: two of the three votes that tagtraum counted."""


class _Scheme(NamedTuple):
    file: str
    source: str
    reliability: float


SCHEMES = [
    _Scheme("msd-MASD-styleAssignment.cls", "msd masd", RELIABILITY["masd"]),
    _Scheme("msd-topMAGD-genreAssignment.cls", "msd topmagd", RELIABILITY["topmagd"]),
    _Scheme("msd-MAGD-genreAssignment.cls", "msd magd", RELIABILITY["magd"]),
    _Scheme("msd_tagtraum_cd1.cls", "tagtraum cd1", RELIABILITY["tagtraum"]),
    _Scheme("msd_tagtraum_cd2.cls", "tagtraum cd2", RELIABILITY["tagtraum"]),
    _Scheme("msd_tagtraum_cd2c.cls", "tagtraum cd2c", RELIABILITY["tagtraum"]),
]
"""The published label files by their names, each also as ``<name>.zip``."""


@dataclass(frozen=True)
class MsdRoute(LabelSource):
    """Lakh's ``match_scores.json`` (``{recording: {md5: score}}``) joined with lists of recordings and their genres.

    The lists are MAGD, topMAGD and MASD (Schindler, Mayer and Rauber, *Facilitating comprehensive benchmarking
    experiments on the Million Song Dataset*, 2012; lines of recording, tab, label) and tagtraum (Schreiber, *Improving
    genre annotations for the Million Song Dataset*, 2015; perhaps with a second label, and comments after ``#``). A
    claim's confidence is the reliability of the list times the share, weighted by score, of the matches that agree,
    among the file's matches that are in the list.
    """

    labels: Path
    """Folder of the label files."""

    def files(self) -> list[Path]:
        """The matches, if there is a list to join them with, and the lists that are there."""
        lists = [file for _, file in self._lists()]
        matches = self.labels / MATCHES_NAME
        return [*([matches] if lists and matches.is_file() else []), *lists]

    def claims(self, songs: pl.DataFrame, known: Known) -> Claims:
        """One claim a list for every file that matches a recording in it. Raises BadLabels."""
        lists = self._lists()
        matches = self.labels / MATCHES_NAME
        if not lists or not matches.is_file():
            notes = [f"{file} is of no use without {matches}." for _, file in lists[:1]]
            return Claims(CLAIMS_SCHEMA.to_frame(), notes)
        matched = _read_matches(matches, set(songs["md5"].drop_nulls()))
        tables, notes = [], []
        for scheme, file in lists:
            labels = _read_list(file).join(matched, on="recording")
            notes += labels_not_covered(labels, file, known.taxonomy)
            votes = labels.select(
                "md5", "label", source=pl.lit(scheme.source), weight=pl.col("weight") * pl.col("score")
            )
            majority = weighted_majority(votes, known.taxonomy)
            tables.append(majority.with_columns(confidence=pl.col("share") * scheme.reliability))
        found = pl.concat(tables).join(songs.select("path", "md5"), on="md5")
        return Claims(found.select(CLAIMS_SCHEMA.names()), notes)

    def _lists(self) -> list[tuple[_Scheme, Path]]:
        found = []
        for scheme in SCHEMES:
            plain, packed = self.labels / scheme.file, self.labels / f"{scheme.file}.zip"
            if plain.is_file() or packed.is_file():
                found.append((scheme, plain if plain.is_file() else packed))
        return found


def _read_matches(file: Path, md5s: set[str]) -> pl.DataFrame:
    """Columns ``recording, md5, score``, of the files with these md5 only."""
    try:
        rows = [
            (recording, md5, score)
            for recording, scores in json.loads(file.read_bytes()).items()
            for md5, score in scores.items()
            if md5 in md5s
        ]
    except (ValueError, AttributeError, TypeError) as error:
        raise BadLabels(
            f"{file} is not a list of matches: it must be JSON, from recording to md5 to a score "
            f"({type(error).__name__}: {error})."
        ) from None
    for recording, md5, score in rows:
        # a bool is an int
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 < score <= 1:
            raise BadLabels(
                f"{file}: the score of recording {recording} and md5 {md5} must be a number over 0 and up to 1, "
                f"not {score!r:.40}."
            )
    return pl.DataFrame(rows, {"recording": pl.String, "md5": pl.String, "score": pl.Float64}, orient="row")


def _read_list(file: Path) -> pl.DataFrame:
    """Columns ``recording, label, weight``: one row a label, the weights of a recording's labels sum to 1."""
    try:
        lines = _unpacked(file).decode().splitlines()
    except UnicodeDecodeError as error:
        raise BadLabels(f"{file} is not a list of recordings and genres in UTF-8 ({error.reason}).") from None
    fields = pl.col("text").str.split_exact("\t", 2).struct.rename_fields(["recording", "first", "second"])
    table = (
        pl.DataFrame({"text": lines}, {"text": pl.String})
        .with_row_index("line", offset=1)
        .filter(pl.col("text").str.strip_chars().ne("") & ~pl.col("text").str.starts_with("#"))
        .with_columns(fields.alias("fields"))
        .unnest("fields")
    )
    wrong = table.filter(~pl.col("recording").str.contains(_ID) | pl.col("first").is_null() | (pl.col("first") == ""))
    if len(wrong):
        line, text = wrong.row(0)[:2]
        raise BadLabels(f"{file}, line {line}: {text[:60]!r} is no recording of the dataset, a tab and its genre.")
    alone = pl.col("second").fill_null("") == ""
    return pl.concat(
        [
            table.select("recording", label="first", weight=pl.when(alone).then(1.0).otherwise(_MAJORITY)),
            table.filter(~alone).select("recording", label="second", weight=1 - _MAJORITY),
        ]
    )


def _unpacked(file: Path) -> bytes:
    """What stands in the file, or in the one ``.cls`` file of a zip archive."""
    if file.suffix != ".zip":
        return file.read_bytes()
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if Path(member.filename).name == file.stem]
            if len(members) != 1:
                raise BadLabels(f"{file} must hold one file named {file.stem}: unpack the right one beside it.")
            with archive.open(members[0]) as source:
                data = source.read(_LIMIT + 1)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise BadLabels(f"{file} cannot be unpacked ({error}): download it again.") from None
    if len(data) > _LIMIT:
        raise BadLabels(f"{file} unpacks to more than {_LIMIT:,} bytes: this is not the published list.")
    return data
