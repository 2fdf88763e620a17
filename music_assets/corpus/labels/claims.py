"""What a source of genre labels is, and how many labels of one file become one claim."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl

from music_assets.corpus.labels.artists import ArtistTable
from music_assets.corpus.labels.taxonomy import Taxonomy

CLAIMS_SCHEMA = pl.Schema(
    {"path": pl.String(), "genre": pl.String(), "source": pl.String(), "confidence": pl.Float64()}
)
"""A claim: this file is of this genre, says this source, with this confidence (0..1)."""

SONGS_SCHEMA = pl.Schema(
    {
        "path": pl.String(),
        "md5": pl.String(),
        "folder_genre": pl.String(),
        "artist": pl.String(),
        "title_key": pl.String(),
    }
)
"""What sources ask of a file: path relative to the drop folder, md5, what the path says (see
:func:`music_assets.corpus.labels.songs.path_facts`), and the folded title; all but the path null where unknown."""

RELIABILITY = {"masd": 0.6, "tagtraum": 0.6, "topmagd": 0.5, "magd": 0.45}
"""Confidence of a published genre list where all its labels of a file agree.

A file often matches a recording that somebody else made of its song: of the files in Clean MIDI by an artist whose
genre is sure, 63% have it in such a masd claim, 54% in one of topmagd or magd, which call most of them rock.
"""

DECIMALS = 9
"""Sums of confidences are rounded to so many, for their last bits depend on the order of the files."""
ARTIST_TABLE, ARTIST_VOTES = "artist table", "artist votes"
BY_ARTIST = (ARTIST_TABLE, ARTIST_VOTES)
"""Sources that say the same of all songs of an artist; every other one looks at single files."""


class Claims(NamedTuple):
    """The claims of a source."""

    table: pl.DataFrame
    """``CLAIMS_SCHEMA``, in no order."""
    notes: list[str]
    """A sentence for every doubtful thing."""


@dataclass(frozen=True)
class Known:
    """What a source may ask besides the songs."""

    taxonomy: Taxonomy
    artists: ArtistTable = field(default_factory=lambda: ArtistTable({}))
    earlier: pl.DataFrame = field(default_factory=CLAIMS_SCHEMA.to_frame)
    """Claims of the sources before it (``CLAIMS_SCHEMA``)."""


class LabelSource(Protocol):
    """Something that says of which genre files are."""

    def files(self) -> list[Path]:
        """The files that it reads besides music, those of them that are there.

        Raises:
            BadLabels: nobody can say now which are there.
        """
        ...

    def claims(self, songs: pl.DataFrame, known: Known) -> Claims:
        """Make its claims about ``songs`` (``SONGS_SCHEMA``).

        Raises:
            BadLabels: one of its files cannot be understood.
        """
        ...


def weighted_majority(labels: pl.DataFrame, taxonomy: Taxonomy) -> pl.DataFrame:
    """One genre for all rows of ``labels`` with one ``md5`` and ``source``: columns ``md5, source, genre, share``.

    ``labels`` has the columns ``md5, source, label, weight``. The genre is the one with most weight (of equals the
    first by name), its share (0..1) that weight by the weight of all labels, also of those that mean no known genre.
    """
    meanings = labels.select(pl.col("label").unique()).with_columns(
        genre=pl.col("label").map_elements(taxonomy.known, pl.String)
    )
    return (
        labels.with_columns(total=pl.col("weight").sum().over("md5", "source"))
        .join(meanings.drop_nulls("genre"), on="label")
        .group_by("md5", "source", "genre")
        .agg(share=(pl.col("weight").sum() / pl.col("total").first()).round(DECIMALS))
        .sort("share", "genre", descending=[True, False])
        .unique(["md5", "source"], keep="first", maintain_order=True)
        .select("md5", "source", "genre", "share")
    )


def labels_not_covered(labels: pl.DataFrame, file: Path, taxonomy: Taxonomy) -> list[str]:
    """Say in a sentence which labels of a published list (column ``label``) the taxonomy does not cover, if any."""
    counts = labels["label"].value_counts(sort=True).rows()
    unknown = [(label, count) for label, count in counts if not taxonomy.covers(label)]
    if not unknown:
        return []
    label, count = unknown[0]
    others = f" So it is with {len(unknown)} labels." if len(unknown) > 1 else ""
    return [
        f"{file}: the taxonomy does not know the label {label!r} (used {count} times): make it an alias of a genre, or "
        f"put it in labels_without_genre.{others}"
    ]
