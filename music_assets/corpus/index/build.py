"""The corpus as a DuckDB file with documented tables, and as a Parquet file a genre."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, Field, ValidationError

from music_assets.corpus.index.duplicates import near_duplicates, residual_leak
from music_assets.corpus.index.splits import SPLITS, WITHHELD, assign_splits
from music_assets.corpus.index.tables import FACTS, TABLES, VIEWS
from music_assets.corpus.labels.artists import ArtistTable
from music_assets.corpus.labels.audit import TABLES as AUDIT_TABLES
from music_assets.corpus.labels.audit import audit
from music_assets.corpus.labels.claims import SONGS_SCHEMA
from music_assets.corpus.labels.songs import fold_title, group_ids, path_facts, song_key, song_variants
from music_assets.corpus.labels.sources import claims, label_files
from music_assets.corpus.labels.taxonomy import Taxonomy
from music_assets.corpus.reading.scan import FILES_SCHEMA, files_digest, read_files
from music_assets.corpus.reading.verdicts import OK
from music_assets.foundation.publishing import publish
from music_assets.paths import DataPaths

if TYPE_CHECKING:
    import duckdb
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
    """There is no index, or it is damaged or of another version."""


class IndexUnavailable(ValueError):
    """There may be an index, but it cannot be read now; the message says what is in the way."""


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
    """Build the index from the table of :func:`music_assets.corpus.reading.scan.scan`, unless it is up to date.

    Readers of the old file are not disturbed; one that is damaged or of another version is replaced, and its settings
    stay. Raises :class:`IndexUnavailable`, :class:`music_assets.corpus.labels.sources.BadLabels` and
    :class:`music_assets.corpus.reading.scan.NoFilesTable`.
    """
    files = _files(paths)
    taxonomy = Taxonomy.of(paths.labels)
    built = _built(paths.index)
    settings = _last_settings(paths).model_copy(update=settings.model_dump(exclude_none=True) if settings else None)
    digest = _digest(files, paths, taxonomy, settings)
    if built and built.digest == digest:
        _keep(settings, paths)
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
    _keep(settings, paths)
    # what a killed program meant to add to the old file would make the new one unreadable
    paths.index.with_name(f"{paths.index.name}.wal").unlink(missing_ok=True)
    with publish(paths.index) as target, _writing(target) as connection:
        for name, table in tables.items():
            _write_table(connection, name, table)
        for name, (comment, query) in VIEWS.items():
            connection.execute(f"create view {name} as {query}")
            connection.execute(f"comment on view {name} is '{_quoted(comment)}'")
    return _summary(paths.index, rewritten=True)


def missing_digest(paths: DataPaths) -> str | None:
    """The digest that an index built now would have, with the settings of the last one; None if the one that is there
    has it already. Raises what :func:`build_index` does.
    """
    built = _built(paths.index)
    digest = _digest(_files(paths), paths, Taxonomy.of(paths.labels), _last_settings(paths))
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


def _last_settings(paths: DataPaths) -> IndexSettings:
    """Those of the last build, whatever has become of its index. Raises IndexUnavailable."""
    file = paths.index_settings
    try:
        return IndexSettings.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return _settings_within(paths.index)
    except OSError as error:
        raise _in_the_way(file, error) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise IndexUnavailable(
            f"{file} has no settings of the index ({place}: {first['msg']}): mend it, or delete it to take those that "
            "the index was built with."
        ) from None


def _settings_within(index: Path) -> IndexSettings:
    """Those that an index of any version holds."""
    try:
        with reading_index(index) as connection:
            build = _dicts(connection, "from build")[0]
    except NoIndex:
        return IndexSettings()
    return IndexSettings(**{name: build.get(name) for name in IndexSettings.model_fields})


def _keep(settings: IndexSettings, paths: DataPaths) -> None:
    text = settings.model_dump_json()
    if not paths.index_settings.exists() or paths.index_settings.read_text() != text:
        with publish(paths.index_settings) as fresh:
            fresh.write_text(text)


def index_summary(index: Path) -> IndexSummary:
    """What the index says of itself. Raises NoIndex and IndexUnavailable."""
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
    if _published_hash(target) == rows_hash:
        return count, rows_hash, False
    with publish(target) as fresh:
        genre_rows(index, genre).write_parquet(fresh, metadata={"rows_hash": rows_hash})
    return count, rows_hash, True


def _published_hash(file: Path) -> str | None:
    try:
        return pl.read_parquet_metadata(file).get("rows_hash")
    except (FileNotFoundError, pl.exceptions.PolarsError):  # none yet, or a damaged one
        return None


def verdict_counts(index: Path) -> list[dict[str, Any]]:
    """Files by verdict, the most frequent first."""
    with reading_index(index) as connection:
        return _dicts(
            connection, "select verdict, count(*) as files from files group by all order by files desc, verdict"
        )


def label_audit(index: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables of :func:`music_assets.corpus.labels.audit.audit` by name."""
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
    files = pl.scan_parquet(paths.files, glob=False).filter(pl.col("verdict") == OK).sort("path")
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


@contextmanager
def _writing(index: Path) -> "Iterator[DuckDBPyConnection]":
    import duckdb

    with tempfile.TemporaryDirectory() as elsewhere:
        # DuckDB takes ``?`` for the end of a path when it names what it writes beside the file
        place = Path(elsewhere) / index.name if "?" in str(index) else index
        with duckdb.connect(str(place)) as connection:
            yield connection
        if place != index:
            shutil.move(place, index)


@contextmanager
def reading_index(index: Path) -> "Iterator[DuckDBPyConnection]":
    """A short look into the index that blocks nobody.

    Raises:
        NoIndex: there is none, it is damaged, or it has other tables than this version makes.
        IndexUnavailable: it cannot be read now.
    """
    # Imported here, so that steps which never open the database load no DuckDB: beside PyTorch it complains at exit.
    import duckdb

    try:
        with duckdb.connect(str(index), read_only=True) as connection:
            yield connection
    except (duckdb.CatalogException, duckdb.BinderException):
        raise _none(index) from None
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        damage = (duckdb.OperationalError, duckdb.InternalError, duckdb.FatalException)
        if not isinstance(error, damage) and type(error) is not duckdb.Error:  # which a wrong checksum is
            raise
        raise _unreadable(index, error) from None


def _none(index: Path) -> NoIndex:
    return NoIndex(f"There is no index of this version at {index}: run `music-assets corpus update`.")


def _unreadable(index: Path, error: "duckdb.Error") -> Exception:
    """What DuckDB's failure to read the index means: that something is in the way now, or that the index is no more."""
    import duckdb

    here = isinstance(error, duckdb.ConnectionException)  # of this process, for writing
    if here or "Could not set lock on file" in str(error):
        holder = re.search(r"held in (.+?)(?:\. |$)", str(error))
        program = "this program" if here else holder[1] if holder else "another program"
        return IndexUnavailable(
            f"The index {index} is open for writing in {program}: close it there, or open it there for reading only "
            "(read_only=True, `duckdb -readonly`)."
        )
    try:
        with index.open("rb") as file:
            while file.read(1 << 24):
                pass
    except (FileNotFoundError, NotADirectoryError):
        return _none(index)
    except OSError as failure:
        return _in_the_way(index, failure)
    return NoIndex(
        f"The index {index} is damaged, or of another version of DuckDB: delete it and run `music-assets corpus "
        "update`, which builds it with the same settings."
    )


def _in_the_way(file: Path, error: OSError) -> IndexUnavailable:
    return IndexUnavailable(
        f"{file} cannot be read ({error.strerror}): see to it that its disk is there, that it is a file, and that you "
        "may read it."
    )


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
