"""The corpus as a DuckDB file with documented tables, and as a Parquet file a genre."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, Field

from music_assets.corpus.artists import ArtistTable
from music_assets.corpus.audit import TABLES as AUDIT_TABLES
from music_assets.corpus.audit import audit
from music_assets.corpus.claims import SONGS_SCHEMA
from music_assets.corpus.duplicates import near_duplicates, residual_leak
from music_assets.corpus.labels import claims, label_files
from music_assets.corpus.scan import FILES_SCHEMA, files_digest, read_files
from music_assets.corpus.songs import fold_title, group_ids, path_facts, song_key, song_variants
from music_assets.corpus.splits import SPLITS, WITHHELD, assign_splits
from music_assets.corpus.tables import FACTS, TABLES, VIEWS
from music_assets.corpus.taxonomy import Taxonomy
from music_assets.corpus.verdicts import OK
from music_assets.paths import DataPaths, publish

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

INDEX_VERSION = 4
"""Raise it when the same files and labels would give another index."""

_NOT_IN_THE_INDEX = ("mtime_ns", "fingerprint")
_NO_ROWS = hashlib.blake2b(digest_size=16).hexdigest()
GENRE_COLUMNS = ["piece_id", "path", "md5", "group_id", "split", "genre", "artist", "title", *FACTS]
"""Columns of :func:`genre_rows`."""


class IndexSettings(BaseModel):
    """What goes into the shards; what is None stays as it was in the last index."""

    minimum_pieces: int | None = Field(
        default=None,
        ge=1,
        description="Training pieces from which on a genre gets shards, unless the taxonomy file has a number for it; "
        "as the last time if not given, at first the taxonomy's number for all genres.",
    )
    keep_near_duplicates: bool | None = Field(
        default=None,
        description="Publish every near-duplicate, and not only the one that stands for them; as the last time if not "
        "given, at first not.",
    )


class NoIndex(FileNotFoundError):
    """No index that can be read."""


@dataclass(frozen=True)
class GenreSummary:
    """A genre's published pieces by split, what was left out, whether the rest is enough for shards, and the hash
    of its rows."""

    train: int
    valid: int
    test: int
    duplicates: int
    withheld: int
    minimum_pieces: int
    enough: bool
    rows_hash: str


@dataclass(frozen=True)
class IndexSummary:
    """What an index holds."""

    files: int
    ok: int
    pieces: int
    copies: int
    """Usable files that were folded into another one with the same music."""
    near_duplicates: int
    """Pieces for which a near-duplicate stands."""
    largest_cluster: int
    """Pieces in the largest cluster of near-duplicates; a very large one has been chained together wrongly."""
    unlabelled: int
    """Pieces without a genre; they stay out of the shards."""
    withheld: int
    """Pieces in no split because their song is held out."""
    held_out: int
    """Published pieces in valid and test."""
    leaking: int
    """Those of them that resemble a published training piece as near-duplicates do."""
    held_out_unknown: int
    """Those of them that are too short to be compared."""
    genres: dict[str, GenreSummary]
    """By slug, in alphabetical order."""
    settings: IndexSettings
    notes: list[str]
    """Doubtful things in the label files, a sentence each."""
    digest: str
    """Changes if and only if the files, the labels or the rules change."""
    rewritten: bool

    @property
    def enough(self) -> list[str]:
        """Genres with their minimum number of training pieces."""
        return [name for name, genre in self.genres.items() if genre.enough]

    @property
    def leak(self) -> float:
        """Share of the held-out pieces that leak into training, 0..1; 0 if nothing is held out."""
        return self.leaking / max(self.held_out, 1)

    def rows_hash(self, genre: str) -> str:
        """Hash of the rows that :func:`publish_genre` writes, also for a genre that has none."""
        return self.genres[genre].rows_hash if genre in self.genres else _NO_ROWS


def build_index(paths: DataPaths, settings: IndexSettings | None = None) -> IndexSummary:
    """Build the index from the table of :func:`music_assets.corpus.scan.scan`, unless it is up to date.

    Readers of the old file are not disturbed; one that cannot be read any more is replaced. Raises
    :class:`music_assets.corpus.labels.BadLabels` and :class:`music_assets.corpus.scan.NoFilesTable`.
    """
    files = _files(paths)
    taxonomy = Taxonomy.of(paths.labels)
    built = _built(paths.index)
    last = built.settings if built else IndexSettings()
    settings = last.model_copy(update=settings.model_dump(exclude_none=True) if settings else None)
    digest = _digest(files, paths, taxonomy, settings)
    if built and built.digest == digest:
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
    with publish(paths.index) as target, _connect(target, read_only=False) as connection:
        for name, table in tables.items():
            _write_table(connection, name, table)
        for name, (comment, query) in VIEWS.items():
            connection.execute(f"create view {name} as {query}")
            connection.execute(f"comment on view {name} is '{_quoted(comment)}'")
    return _summary(paths.index, rewritten=True)


def missing_digest(paths: DataPaths) -> str | None:
    """The digest that an index built now would have, with the settings of the one that is there; None if that one
    has it already.
    """
    built = _built(paths.index)
    settings = built.settings if built else IndexSettings()
    digest = _digest(_files(paths), paths, Taxonomy.of(paths.labels), settings)
    return None if built and built.digest == digest else digest


def _built(index: Path) -> IndexSummary | None:
    """What the index says of itself, if there is one of this version."""
    try:
        return index_summary(index)
    except NoIndex:
        return None


def index_summary(index: Path) -> IndexSummary:
    """What the index says of itself. Raises FileNotFoundError with a sentence."""
    return _summary(index, rewritten=False)


def genre_rows(index: Path, genre: str) -> pl.DataFrame:
    """The published pieces of a genre, ``GENRE_COLUMNS`` sorted by ``piece_id``; none if it has not enough."""
    with reading_index(index) as connection:
        return connection.sql(
            f"""
            select {", ".join(f"pieces.{name}" for name in GENRE_COLUMNS)} from pieces join genres using (genre)
            where genre = ? and published and enough order by piece_id
            """,
            params=[genre],
        ).pl()


def publish_genre(index: Path, genre: str, target: Path) -> tuple[int, str, bool]:
    """Write :func:`genre_rows` as Parquet; return their number, their hash, and whether the file was
    rewritten."""
    with reading_index(index) as connection:
        found = connection.execute(
            "select pieces, rows_hash from genres where genre = ? and enough", [genre]
        ).fetchone()
    count, rows_hash = found or (0, _NO_ROWS)
    if target.exists() and pl.read_parquet_metadata(target).get("rows_hash") == rows_hash:
        return count, rows_hash, False
    with publish(target) as fresh:
        genre_rows(index, genre).write_parquet(fresh, metadata={"rows_hash": rows_hash})
    return count, rows_hash, True


def verdict_counts(index: Path) -> list[dict[str, Any]]:
    """Files by verdict, the most frequent first."""
    with reading_index(index) as connection:
        return _dicts(
            connection, "select verdict, count(*) as files from files group by all order by files desc, verdict"
        )


def label_audit(index: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables of :func:`music_assets.corpus.audit.audit` by name."""
    with reading_index(index) as connection:
        return {name: _dicts(connection, f"from {name}") for name in AUDIT_TABLES}


def _dicts(connection: "DuckDBPyConnection", sql: str) -> list[dict[str, Any]]:
    return connection.sql(sql).pl().to_dicts()


def songs_in_two_splits(index: Path) -> list[str]:
    """Groups with pieces in more than one split: none, unless something is wrong."""
    with reading_index(index) as connection:
        rows = connection.execute(
            """
            select group_id from pieces where split <> ?
            group by group_id having count(distinct split) > 1 order by group_id
            """,
            [WITHHELD],
        ).fetchall()
    return [group for (group,) in rows]


def _files(paths: DataPaths) -> pl.DataFrame:
    return read_files(paths.files, [name for name in FILES_SCHEMA if name not in _NOT_IN_THE_INDEX])


def _fingerprints(paths: DataPaths) -> pl.DataFrame:
    """``piece_id`` and ``fingerprint`` of every usable piece."""
    files = pl.scan_parquet(paths.files).filter(pl.col("verdict") == OK).sort("path")
    # copies may divide their notes into tracks in other ways, and so differ here
    return files.select("piece_id", "fingerprint").unique("piece_id", keep="first").sort("piece_id").collect()


def _digest(files: pl.DataFrame, paths: DataPaths, taxonomy: Taxonomy, settings: IndexSettings) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (str(INDEX_VERSION), settings.model_dump_json(), files_digest(files), taxonomy.model_dump_json()):
        digest.update(f"{part}\n".encode())
    for file in label_files(paths.raw, paths.labels):
        digest.update(f"{file.parent.name}/{file.name}".encode())
        digest.update(hashlib.blake2b(file.read_bytes()).digest())
    return digest.hexdigest()


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
    order = pieces.sort(pl.col("split") == WITHHELD, pl.col("song_key").is_null(), -pl.col("notes"), "piece_id")
    stands = order.group_by("near_duplicates").agg(stands=pl.col("piece_id").first())
    pieces = pieces.join(stands, on="near_duplicates").with_columns(
        duplicate_of=pl.when(pl.col("stands") != pl.col("piece_id")).then("stands")
    )
    published = pl.col("genre").is_not_null() & (pl.col("split") != WITHHELD)
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
    withheld = pl.col("split") == WITHHELD
    counts += [
        (~pl.col("published") & ~withheld).sum().cast(pl.Int32).alias("duplicates"),
        withheld.sum().cast(pl.Int32).alias("withheld"),
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
            rows_hash=pl.col("genre").map_elements(lambda genre: hashes.get(genre, _NO_ROWS), pl.String),
        )
        .with_columns(enough=pl.col("train") >= pl.col("minimum_pieces"))
        .with_columns(rows_hash=pl.when("enough").then("rows_hash").otherwise(pl.lit(_NO_ROWS)))
        .select(TABLES["genres"][1].keys())
    )


def _rows_hash(rows: pl.DataFrame) -> str:
    return hashlib.blake2b(rows.sort("piece_id").write_ndjson().encode(), digest_size=16).hexdigest()


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


def _connect(path: Path, *, read_only: bool) -> "DuckDBPyConnection":
    # Imported here, so that steps which never open the database load no DuckDB: beside PyTorch it complains at exit.
    import duckdb

    return duckdb.connect(str(path), read_only=read_only)


@contextmanager
def reading_index(index: Path) -> "Iterator[DuckDBPyConnection]":
    """A short look into the index that blocks nobody.

    Raises:
        NoIndex: there is none, it is damaged, or it has other tables than this version makes.
    """
    import duckdb

    try:
        if not index.exists():
            raise duckdb.IOException
        with _connect(index, read_only=True) as connection:
            yield connection
    except (duckdb.IOException, duckdb.CatalogException, duckdb.BinderException, duckdb.FatalException):
        raise NoIndex(f"There is no index of this version at {index}: run `music-assets corpus update`.") from None


def _summary(index: Path, *, rewritten: bool) -> IndexSummary:
    with reading_index(index) as connection:
        totals = connection.execute(
            f"""
            select
                (select count(*) from files), (select count(*) from files where verdict = '{OK}'),
                count(*), count(duplicate_of), count(*) filter (genre is null),
                count(*) filter (split = '{WITHHELD}'), count(*) filter (published and split <> '{SPLITS[0]}'),
                (select count(*) from leaks),
                (select coalesce(max(count), 0) from
                    (select count(*) as count from pieces group by coalesce(duplicate_of, piece_id)))
            from pieces
            """
        ).fetchall()[0]
        columns = ["genre", *(field.name for field in fields(GenreSummary))]
        genres = connection.execute(f"select {', '.join(columns)} from genres order by genre").fetchall()
        build = _dicts(connection, "from build")[0]
    files, ok, pieces, near, unlabelled, withheld, held_out, leaking, largest_cluster = totals
    return IndexSummary(
        files=files,
        ok=ok,
        pieces=pieces,
        copies=ok - pieces,
        near_duplicates=near,
        largest_cluster=largest_cluster,
        unlabelled=unlabelled,
        withheld=withheld,
        held_out=held_out,
        leaking=leaking,
        held_out_unknown=build["held_out_unknown"],
        genres={name: GenreSummary(*row) for name, *row in genres},
        settings=IndexSettings(**{name: build[name] for name in IndexSettings.model_fields}),
        notes=build["notes"],
        digest=build["digest"],
        rewritten=rewritten,
    )
