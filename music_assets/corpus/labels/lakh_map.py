"""Genre labels by the md5 of Lakh's files."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

LAKH_SCHEMES = ("masd", "topmagd", "magd")

_LAKH_NAMES = ("midi_genre_map.json", "midi_genre_map.json.gz")


@dataclass(frozen=True)
class LakhMap(LabelSource):
    """The Lakh genre map: ``{scheme: {md5: [label, ...]}}``, plain or gzip.

    A claim's confidence is the reliability of the scheme times the share of the file's labels that agree.
    """

    labels: Path
    """Folder of the label files."""

    def files(self) -> list[Path]:
        """The map, if it is there."""
        return [file for name in _LAKH_NAMES if (file := self.labels / name).is_file()][:1]

    def claims(self, songs: pl.DataFrame, known: Known) -> Claims:
        """One claim a scheme for every file in it. Raises BadLabels."""
        tables, notes = [CLAIMS_SCHEMA.to_frame()], []
        md5s = set(songs["md5"].drop_nulls())
        for file in self.files():
            for scheme, labels in _read_map(file, md5s).items():
                notes += labels_not_covered(labels, file, known.taxonomy)
                votes = labels.with_columns(source=pl.lit(f"lakh {scheme}"), weight=1.0)
                majority = weighted_majority(votes, known.taxonomy)
                matched = majority.join(songs.select("path", "md5"), on="md5")
                confidence = pl.col("share") * RELIABILITY[scheme]
                tables.append(matched.select("path", "genre", "source", confidence=confidence))
        return Claims(pl.concat(tables), notes)


def _read_map(file: Path, md5s: set[str]) -> dict[str, pl.DataFrame]:
    """Columns ``md5, label`` by scheme, of the files with these md5 only."""
    try:
        data = file.read_bytes()
        schemes = json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)
        return {
            scheme: pl.DataFrame(
                [(md5, label) for md5, labels in schemes[scheme].items() if md5 in md5s for label in _listed(labels)],
                {"md5": pl.String, "label": pl.String},
                orient="row",
            ).drop_nulls()
            for scheme in LAKH_SCHEMES
        }
    except (ValueError, KeyError, AttributeError, TypeError, EOFError, OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise BadLabels(
            f"{file} is not a genre map: it must be JSON with {', '.join(LAKH_SCHEMES)}, "
            f"each from md5 to a list of labels ({type(error).__name__}: {reason})."
        ) from None


def _listed(labels: Any) -> list[str | None]:
    # a string would be read letter by letter
    if not isinstance(labels, list) or not all(isinstance(label, str | None) for label in labels):
        raise TypeError(f"{labels!r:.40} is no list of labels")
    return labels
