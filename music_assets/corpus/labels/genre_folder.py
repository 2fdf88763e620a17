"""The source that users sort: folders named by genres."""

from pathlib import Path

import polars as pl

from music_assets.corpus.labels.claims import Claims, Known, LabelSource

FOLDER_CONFIDENCE = 0.9


class GenreFolder(LabelSource):
    """Genre folders, see :func:`music_assets.corpus.labels.songs.path_facts`."""

    def files(self) -> list[Path]:
        """None: the paths say it."""
        return []

    def claims(self, songs: pl.DataFrame, known: Known) -> Claims:
        """One claim for every file in a genre folder."""
        said = {"genre": pl.col("folder_genre"), "source": pl.lit("folder"), "confidence": pl.lit(FOLDER_CONFIDENCE)}
        return Claims(songs.drop_nulls("folder_genre").select("path", **said), [])
