"""The corpus as a DuckDB file with documented tables."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from music_assets.corpus.index.database import NoIndex, reading_index, writing_index
from music_assets.corpus.index.duplicates import near_duplicates, residual_leak
from music_assets.corpus.index.queries import GENRE_COLUMNS, NO_ROWS, IndexSummary, index_summary
from music_assets.corpus.index.settings import IndexSettings, keep_settings, last_settings
from music_assets.corpus.index.splits import EXCLUDED, SPLITS, assign_splits
from music_assets.corpus.index.tables import TABLES, VIEWS
from music_assets.corpus.labels.artists import ArtistTable
from music_assets.corpus.labels.audit import audit
from music_assets.corpus.labels.claims import SONGS_SCHEMA
from music_assets.corpus.labels.songs import fold_title, group_ids, path_facts, song_key, song_variants
from music_assets.corpus.labels.sources import claims, label_files
from music_assets.corpus.labels.taxonomy import Taxonomy
from music_assets.corpus.reading.scan import FILES_SCHEMA, files_digest, read_files
from music_assets.corpus.reading.verdicts import OK
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.publishing import publish
from music_assets.paths import DataPaths

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

INDEX_VERSION = 5
"""Raise it when the same files and labels would give another index."""

_NOT_IN_THE_INDEX = ("mtime_ns", "fingerprint")


def build_index(paths: DataPaths, settings: IndexSettings | None = None) -> IndexSummary:
    """Build the index from the table of :func:`music_assets.corpus.reading.scan.scan`, unless it is up to date.

    Readers of the old file are not disturbed; one that is damaged or of another version is replaced, and its settings
    stay.

    Raises:
        IndexUnavailable: there is an index, but it cannot be read now.
        BadLabels: a label file cannot be understood.
        NoFilesTable: nothing has been scanned.
    """
    files = _files(paths)
    taxonomy = Taxonomy.of(paths.labels)
    built = _built(paths.index)
    settings = last_settings(paths).model_copy(update=settings.model_dump(exclude_none=True) if settings else None)
    digest = _digest(files, paths, taxonomy, settings)
    if built and built.digest == digest:
        keep_settings(settings, paths)
        return built
    artists = ArtistTable.load(paths.labels)
    files = _with_names(files, taxonomy, artists)
    usable = files.filter(pl.col("verdict") == OK)
    labels, notes = claims(usable.select(SONGS_SCHEMA.names()), paths.raw, paths.labels, taxonomy, artists)
    fingerprints = _fingerprints(paths)
    pieces = _pieces(usable, labels, fingerprints, artists, settings)
    published = pieces.filter("published").join(fingerprints, on="piece_id")
    found = [residual_leak(published, split=split) for split in SPLITS[1:]]
    tables = {
        "files": files,
        "pieces": pieces,
        "labels": labels,
        "genres": _genres(pieces, taxonomy, settings),
        **audit(labels, usable.select("path", "piece_id").join(pieces.select("piece_id", "group_id"), on="piece_id")),
        "leaks": pl.concat(
            leak.examples.with_columns(split=pl.lit(split)) for split, leak in zip(SPLITS[1:], found, strict=True)
        ),
        "build": pl.DataFrame(
            [
                {"digest": digest, "notes": notes, "held_out_unknown": sum(leak.unknown for leak in found)}
                | settings.model_dump()
            ],
            schema_overrides={"notes": pl.List(pl.String), "minimum_pieces": pl.Int32},
        ),
    }
    keep_settings(settings, paths)
    # what a killed program meant to add to the old file would make the new one unreadable
    paths.index.with_name(f"{paths.index.name}.wal").unlink(missing_ok=True)
    with publish(paths.index) as target, writing_index(target) as connection:
        for name, table in tables.items():
            _write_table(connection, name, table)
        for name, (comment, query) in VIEWS.items():
            connection.execute(f"create view {name} as {query}")
            connection.execute(f"comment on view {name} is '{_quoted(comment)}'")
    return replace(index_summary(paths.index), rewritten=True)


def missing_digest(paths: DataPaths) -> str | None:
    """The digest that an index built now would have, with the settings of the last one; None if the one that is there
    has it already. Raises what :func:`build_index` does.
    """
    built = _built(paths.index)
    digest = _digest(_files(paths), paths, Taxonomy.of(paths.labels), last_settings(paths))
    return None if built and built.digest == digest else digest


def _built(index: Path) -> IndexSummary | None:
    """What the index says of itself, if there is one of this version. Raises IndexUnavailable."""
    try:
        return index_summary(index) if _is_whole(index) else None
    except NoIndex:
        return None


def _is_whole(index: Path) -> bool:
    """Whether no end is missing, as of a file that was copied in part; DuckDB sees that only when it reads there."""
    with reading_index(index) as connection:
        row = connection.execute("select block_size * total_blocks from pragma_database_size()").fetchone()
    return row is not None and index.stat().st_size >= row[0]


def _files(paths: DataPaths) -> pl.DataFrame:
    return read_files(paths.files, [name for name in FILES_SCHEMA if name not in _NOT_IN_THE_INDEX])


def _fingerprints(paths: DataPaths) -> pl.DataFrame:
    """``piece_id`` and ``fingerprint`` of every usable piece."""
    files = pl.scan_parquet(paths.files, glob=False).filter(pl.col("verdict") == OK).sort("path")
    # copies may divide their notes into tracks in other ways, and so differ here
    return files.select("piece_id", "fingerprint").unique("piece_id", keep="first").sort("piece_id").collect()


def _digest(files: pl.DataFrame, paths: DataPaths, taxonomy: Taxonomy, settings: IndexSettings) -> str:
    rules = (str(INDEX_VERSION), settings.model_dump_json(), files_digest(files), taxonomy.model_dump_json())
    parts: list[str | bytes] = [f"{rule}\n" for rule in rules]
    for file in label_files(paths.raw, paths.labels):
        parts += [f"{file.parent.name}/{file.name}", bytes.fromhex(hexdigest(file.read_bytes(), size=64))]
    return hexdigest(*parts)


def _with_names(files: pl.DataFrame, taxonomy: Taxonomy, artists: ArtistTable) -> pl.DataFrame:
    """Add what the paths say: ``folder_genre``, ``artist``, ``title``, and ``title_key``, null for none."""
    found = [path_facts(path, taxonomy, lambda name: artists.find(name) is not None) for path in files["path"]]
    names = {
        "folder_genre": [one.genre for one in found],
        "artist": [one.artist for one in found],
        "title": [one.title for one in found],
        "title_key": [fold_title(one.title) or None for one in found],
    }
    return files.with_columns(pl.Series(name, values, pl.String) for name, values in names.items())


def _pieces(
    files: pl.DataFrame,
    labels: pl.DataFrame,
    fingerprints: pl.DataFrame,
    artists: ArtistTable,
    settings: IndexSettings,
) -> pl.DataFrame:
    """Fold the usable files into pieces and give each its near-duplicates, group, split and genre."""
    files = files.join(near_duplicates(fingerprints), on="piece_id").rename({"cluster": "near_duplicates"})
    files = _with_song_keys(files, fingerprints, artists)
    files = files.with_columns(group_id=group_ids(files))
    shown = files.sort(pl.col("song_key").is_null(), "path").unique("piece_id", keep="first", maintain_order=True)
    pieces = (
        shown.join(files.group_by("piece_id").agg(pl.len().cast(pl.Int32).alias("copies")), on="piece_id")
        .join(assign_splits(files), on="piece_id")
        .join(_chosen(labels.join(files.select("path", "near_duplicates"), on="path")), "near_duplicates", "left")
    )
    # the first of a cluster stands for it: if possible in a split and with a name, then the longest
    order = pieces.sort(pl.col("split") == EXCLUDED, pl.col("song_key").is_null(), -pl.col("notes"), "piece_id")
    stands = order.group_by("near_duplicates").agg(stands=pl.col("piece_id").first())
    pieces = pieces.join(stands, on="near_duplicates").with_columns(
        duplicate_of=pl.when(pl.col("stands") != pl.col("piece_id")).then("stands")
    )
    published = pl.col("genre").is_not_null() & (pl.col("split") != EXCLUDED)
    if not settings.keep_near_duplicates:
        published &= pl.col("duplicate_of").is_null()
    return pieces.with_columns(published=published).sort("piece_id").select(TABLES["pieces"][1].keys())


def _with_song_keys(files: pl.DataFrame, fingerprints: pl.DataFrame, artists: ArtistTable) -> pl.DataFrame:
    """Add ``song_key``, ``song_variants`` and ``split_key``, see ``songs`` and ``splits``."""
    names = files.select("artist", "title").unique()
    songs = [(artists.canonical(artist) if artist else None, title) for artist, title in names.iter_rows()]
    names = names.with_columns(
        pl.Series("song_key", [song_key(*song) for song in songs], pl.String),
        pl.Series("song_variants", [song_variants(*song) for song in songs], pl.List(pl.String)),
    )
    # one bin of the sketch, which near-duplicates share as often as they are similar
    bins = fingerprints.select("piece_id", music_key=(pl.col("fingerprint").list.first() & 0xFFFF).cast(pl.String))
    return (
        files.join(names, on=["artist", "title"], nulls_equal=True)
        .join(bins, on="piece_id")
        .with_columns(split_key=pl.coalesce("title_key", "music_key", "piece_id"))
    )


def _chosen(claimed: pl.DataFrame) -> pl.DataFrame:
    """The genre of every cluster of near-duplicates that anybody claims to know."""
    return (
        claimed.sort("confidence", "source", descending=[True, False])
        .group_by("near_duplicates", "genre", maintain_order=True)
        .agg(
            pl.col("source").first().alias("genre_source"),
            pl.col("confidence").first().alias("genre_confidence"),
            pl.len().alias("claims"),
        )
        .sort("genre_confidence", "claims", "genre", descending=[True, True, False])
        .unique("near_duplicates", keep="first", maintain_order=True)
        .drop("claims")
    )


def _genres(pieces: pl.DataFrame, taxonomy: Taxonomy, settings: IndexSettings) -> pl.DataFrame:
    labelled = pieces.drop_nulls("genre")
    published = labelled.filter("published")
    counts = [(pl.col("published") & (pl.col("split") == split)).sum().cast(pl.Int32).alias(split) for split in SPLITS]
    excluded = pl.col("split") == EXCLUDED
    counts += [
        (~pl.col("published") & ~excluded).sum().cast(pl.Int32).alias("duplicates"),
        excluded.sum().cast(pl.Int32).alias("excluded"),
    ]
    hashes = {genre: _rows_hash(rows) for (genre,), rows in published.select(GENRE_COLUMNS).group_by("genre")}
    return (
        labelled.group_by("genre")
        .agg(counts)
        .sort("genre")
        .with_columns(
            name=pl.col("genre").map_elements(taxonomy.title, pl.String),
            pieces=pl.sum_horizontal(SPLITS),
            minimum_pieces=pl.col("genre").map_elements(
                lambda genre: taxonomy.minimum(genre, settings.minimum_pieces), pl.Int32
            ),
            rows_hash=pl.col("genre").map_elements(lambda genre: hashes.get(genre, NO_ROWS), pl.String),
        )
        .with_columns(enough=pl.col("train") >= pl.col("minimum_pieces"))
        .with_columns(rows_hash=pl.when("enough").then("rows_hash").otherwise(pl.lit(NO_ROWS)))
        .select(TABLES["genres"][1].keys())
    )


def _rows_hash(rows: pl.DataFrame) -> str:
    return hexdigest(rows.sort("piece_id").write_ndjson())


def _write_table(connection: "DuckDBPyConnection", name: str, table: pl.DataFrame) -> None:
    comment, columns = TABLES[name]
    connection.register("source", table.select(columns.keys()))
    connection.execute(f"create table {name} as select * from source")
    connection.unregister("source")
    connection.execute(f"comment on table {name} is '{_quoted(comment)}'")
    for column, text in columns.items():
        connection.execute(f"comment on column {name}.{column} is '{_quoted(text)}'")


def _quoted(text: str) -> str:
    return text.replace("'", "''")
