"""Tables of comma-separated values that people write."""

from pathlib import Path

import polars as pl

from music_assets.corpus.labels.taxonomy import BadLabels


def read_table(file: Path) -> pl.DataFrame:
    """A table of comma-separated values: texts, empty where nothing stands, and ``line``, its place in the file.

    Spaces around a value and rows without any value are left out. Raises
    :class:`music_assets.corpus.labels.taxonomy.BadLabels`.
    """
    try:
        # bytes, for in a path brackets and stars would be a pattern and a folder all its files
        texts = pl.read_csv(file.read_bytes(), infer_schema=False).rename(str.strip)
        table = texts.select(pl.all().fill_null("").str.strip_chars()).with_row_index("line", offset=2)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise BadLabels(f"{file} is not a table of comma-separated values in UTF-8: {reason}") from None
    return table.filter(pl.any_horizontal(pl.exclude("line") != ""))
