"""Where genre labels come from: every source makes claims, the index keeps all and chooses one a piece."""

from pathlib import Path

import polars as pl

from music_assets.corpus.labels.artists import ArtistTable
from music_assets.corpus.labels.by_artist import ArtistNames, ArtistVotes
from music_assets.corpus.labels.claims import CLAIMS_SCHEMA, Claims, Known, LabelSource
from music_assets.corpus.labels.genre_folder import GenreFolder
from music_assets.corpus.labels.genres_csv import GenresCsv
from music_assets.corpus.labels.lakh_map import LakhMap
from music_assets.corpus.labels.msd import MsdRoute
from music_assets.corpus.labels.taxonomy import Taxonomy


def sources(raw: Path, labels: Path) -> list[LabelSource]:
    """Every source of labels; each is told what those before it have claimed.

    ``raw`` is the drop folder, ``labels`` the folder of label files that belong to no collection.
    """
    return [GenresCsv(raw), GenreFolder(), LakhMap(labels), MsdRoute(labels), ArtistNames(labels), ArtistVotes()]


def claims(songs: pl.DataFrame, raw: Path, labels: Path, taxonomy: Taxonomy, artists: ArtistTable) -> Claims:
    """Collect the claims of all sources about ``songs`` (``SONGS_SCHEMA``), sorted, and their notes.

    Raises:
        BadLabels: a label file cannot be understood.
    """
    table, notes = CLAIMS_SCHEMA.to_frame(), []
    for source in sources(raw, labels):
        found = source.claims(songs, Known(taxonomy, artists, table))
        table = pl.concat([table, found.table])
        notes += found.notes
    return Claims(table.unique().sort(CLAIMS_SCHEMA.names()), notes)


def label_files(raw: Path, labels: Path) -> list[Path]:
    """Every file that claims come from, the taxonomy left out: a change in one of them asks for a new index."""
    return [file for source in sources(raw, labels) for file in source.files()]
