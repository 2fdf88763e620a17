"""The corpus as a DuckDB file with documented tables, and as a Parquet file a genre."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from music_assets.corpus.facts import Facts
from music_assets.corpus.labels import claims, label_files
from music_assets.corpus.scan import files_digest
from music_assets.corpus.songs import fold_title, group_ids, path_facts, song_key
from music_assets.corpus.splits import SPLITS, WITHHELD, assign_splits
from music_assets.corpus.taxonomy import Taxonomy
from music_assets.corpus.verdicts import OK
from music_assets.paths import publish

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

INDEX_VERSION = 1
"""Raise it when the same files and labels would give another index."""

_FACTS = [name for name in Facts.descriptions() if name != "piece_id"]
_NO_ROWS = hashlib.blake2b(digest_size=16).hexdigest()
GENRE_COLUMNS = ["piece_id", "path", "md5", "group_id", "split", "genre", "artist", "title", *_FACTS]
"""Columns of :func:`genre_rows`."""

_SONG = {
    "artist": "Artist as the path gives it.",
    "title": "Title as the path gives it, without file suffix and version number.",
}
_TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "files": (
        "One row a MIDI file under the drop folder, usable or not.",
        {
            "path": "Path relative to the drop folder.",
            "collection": "First folder of the path.",
            "bytes": "Size of the file.",
            "md5": "md5 of the file; null if it could not be read to its end.",
            "verdict": "ok, or why the file is not used.",
            "detail": "The verdict in a sentence, and what was done to open the file.",
            **Facts.descriptions(),
            **_SONG,
        },
    ),
    "pieces": (
        "One row a piece: all usable files with the same music, shown by one of them.",
        {
            "piece_id": Facts.descriptions()["piece_id"],
            "path": "File that stands for the piece: with artist and title if possible, then first by path.",
            "collection": "Collection of that file.",
            "md5": "md5 of that file.",
            "copies": "Files with this music.",
            "group_id": "Pieces of one song share it: same artist and title, or same notes.",
            "split": f"{', '.join(SPLITS)}, or {WITHHELD}: a piece of its group is held out further.",
            "genre": "Chosen genre or null: highest confidence, then most claims, then first by name.",
            "genre_source": "Source of the chosen genre.",
            "genre_confidence": "Confidence of the chosen genre, 0..1.",
            **_SONG,
            **{name: text for name, text in Facts.descriptions().items() if name != "piece_id"},
        },
    ),
    "labels": (
        "Every claim that a file is of a genre.",
        {
            "path": "The file.",
            "genre": "Slug of the genre.",
            "source": "Who says so: folder, genres.csv, or a scheme of the Lakh genre map.",
            "confidence": "How sure the source is, 0..1.",
        },
    ),
    "genres": (
        "One row a genre that at least one piece has.",
        {
            "genre": "Slug: the partition key.",
            "name": "Name for people.",
            "pieces": "Pieces in a split.",
            **{split: f"Pieces in {split}." for split in SPLITS},
            "withheld": "Pieces in no split because their song is held out.",
            "enough": "Whether train has the minimum number of pieces.",
            "rows_hash": "Hash of the rows that are published for this genre.",
        },
    ),
    "build": (
        "One row: what this index was built from.",
        {
            "digest": "Hash of the files table, the label files, the taxonomy and the minimum.",
            "minimum_pieces": "Training pieces from which on a genre gets shards.",
            "notes": "Doubtful things in the label files, a sentence each.",
        },
    ),
}
_VIEWS = {
    "unlabelled": (
        "Pieces without a genre.",
        "select * exclude (genre, genre_source, genre_confidence) from pieces where genre is null",
    ),
    "genre_splits": (
        "Pieces, notes and hours by genre and split.",
        """
        select genre, split, count(*) as pieces, sum(notes)::bigint as notes, sum(seconds) / 3600 as hours
        from pieces where genre is not null group by all order by all
        """,
    ),
    "dropped": (
        "Files that reach no shard, and why.",
        f"""
        select files.path, case
            when files.verdict <> '{OK}' then files.verdict
            when files.path <> pieces.path then 'copy of ' || pieces.path
            when pieces.genre is null then 'no label'
            when pieces.split = '{WITHHELD}' then 'song is held out'
            else 'genre ' || pieces.genre || ' has too few pieces'
            end as reason
        from files left join pieces using (piece_id) left join genres using (genre)
        where files.verdict <> '{OK}' or files.path <> pieces.path or pieces.genre is null
            or pieces.split = '{WITHHELD}' or not genres.enough
        order by all
        """,
    ),
}


@dataclass(frozen=True)
class GenreSummary:
    """A genre's pieces by split, whether they are enough for shards, and the hash of its published rows."""

    train: int
    valid: int
    test: int
    withheld: int
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
    unlabelled: int
    """Pieces without a genre; they stay out of the shards."""
    withheld: int
    """Pieces in no split because their song is held out."""
    genres: dict[str, GenreSummary]
    """By slug, in alphabetical order."""
    minimum_pieces: int
    notes: list[str]
    """Doubtful things in the label files, a sentence each."""
    digest: str
    """Changes if and only if the files, the labels or the rules change."""
    rewritten: bool

    @property
    def enough(self) -> list[str]:
        """Genres with the minimum number of training pieces."""
        return [name for name, genre in self.genres.items() if genre.enough]

    def rows_hash(self, genre: str) -> str:
        """Hash of the rows that :func:`publish_genre` writes, also for a genre that has none."""
        return self.genres[genre].rows_hash if genre in self.genres else _NO_ROWS


def build_index(
    files_table: Path,
    raw: Path,
    labels: Path,
    index: Path,
    *,
    minimum_pieces: int | None = None,
    taxonomy: Taxonomy | None = None,
) -> IndexSummary:
    """Build the index from the table of :func:`music_assets.corpus.scan.scan`, unless it is up to date.

    ``labels`` is the folder of label files that belong to no collection; ``minimum_pieces`` defaults to the
    taxonomy's. Readers of the old file are not disturbed. Raises
    :class:`music_assets.corpus.labels.BadLabels`.
    """
    if not files_table.exists():
        raise FileNotFoundError(f"There is no table of files at {files_table}: scan the drop folder first.")
    taxonomy = taxonomy or Taxonomy.load()
    minimum_pieces = taxonomy.minimum_pieces if minimum_pieces is None else minimum_pieces
    files = pl.read_parquet(files_table).drop("mtime_ns")
    digest = _digest(files, label_files(raw, labels), taxonomy, minimum_pieces)
    if index.exists() and (summary := index_summary(index)).digest == digest:
        return summary
    usable = files.filter(pl.col("verdict") == OK)
    labels_table, notes = claims(usable, raw, labels, taxonomy)
    songs = [path_facts(path, taxonomy) for path in files["path"]]
    files = files.with_columns(
        pl.Series("artist", [song.artist for song in songs], pl.String),
        pl.Series("title", [song.title for song in songs], pl.String),
    )
    pieces = _pieces(files.filter(pl.col("verdict") == OK), labels_table)
    tables = {
        "files": files,
        "pieces": pieces,
        "labels": labels_table,
        "genres": _genres(pieces, taxonomy, minimum_pieces),
        "build": pl.DataFrame(
            {"digest": [digest], "minimum_pieces": [minimum_pieces], "notes": [notes]},
            schema_overrides={"notes": pl.List(pl.String)},
        ),
    }
    with publish(index) as target, _connect(target, read_only=False) as connection:
        for name, table in tables.items():
            _write_table(connection, name, table)
        for name, (comment, query) in _VIEWS.items():
            connection.execute(f"create view {name} as {query}")
            connection.execute(f"comment on view {name} is '{_quoted(comment)}'")
    return _summary(index, rewritten=True)


def missing_digest(files_table: Path, raw: Path, labels: Path, index: Path) -> str | None:
    """The digest that an index built now would have, with the minimum of the one that is there; None if that one has
    it already.
    """
    taxonomy = Taxonomy.load()
    built = index_summary(index) if index.exists() else None
    minimum_pieces = built.minimum_pieces if built else taxonomy.minimum_pieces
    files = pl.read_parquet(files_table).drop("mtime_ns")
    digest = _digest(files, label_files(raw, labels), taxonomy, minimum_pieces)
    return None if built and built.digest == digest else digest


def index_summary(index: Path) -> IndexSummary:
    """What the index says of itself. Raises FileNotFoundError with a sentence."""
    return _summary(index, rewritten=False)


def genre_rows(index: Path, genre: str) -> pl.DataFrame:
    """The pieces of a genre that are in a split: ``GENRE_COLUMNS``, sorted by ``piece_id``, perhaps none."""
    with _reading(index) as connection:
        return connection.sql(
            f"select {', '.join(GENRE_COLUMNS)} from pieces where genre = ? and split <> ? order by piece_id",
            params=[genre, WITHHELD],
        ).pl()


def publish_genre(index: Path, genre: str, target: Path) -> tuple[int, str, bool]:
    """Write :func:`genre_rows` as Parquet; return their number, their hash, and whether the file was
    rewritten."""
    with _reading(index) as connection:
        found = connection.execute("select pieces, rows_hash from genres where genre = ?", [genre]).fetchone()
    count, rows_hash = found or (0, _NO_ROWS)
    if target.exists() and pl.read_parquet_metadata(target).get("rows_hash") == rows_hash:
        return count, rows_hash, False
    with publish(target) as fresh:
        genre_rows(index, genre).write_parquet(fresh, metadata={"rows_hash": rows_hash})
    return count, rows_hash, True


def songs_in_two_splits(index: Path) -> list[str]:
    """Groups with pieces in more than one split: none, unless something is wrong."""
    with _reading(index) as connection:
        rows = connection.execute(
            """
            select group_id from pieces where split <> ?
            group by group_id having count(distinct split) > 1 order by group_id
            """,
            [WITHHELD],
        ).fetchall()
    return [group for (group,) in rows]


def _digest(files: pl.DataFrame, labels: list[Path], taxonomy: Taxonomy, minimum_pieces: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{INDEX_VERSION} {minimum_pieces} {files_digest(files)} {taxonomy.model_dump_json()}".encode())
    for file in labels:
        digest.update(f"{file.parent.name}/{file.name}".encode())
        digest.update(hashlib.blake2b(file.read_bytes()).digest())
    return digest.hexdigest()


def _pieces(files: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Fold the usable files into pieces and give each its group, split and genre."""
    keys = [
        (song_key(artist, title), fold_title(title)) for artist, title in files.select("artist", "title").iter_rows()
    ]
    files = files.with_columns(
        pl.Series("song_key", [key for key, _ in keys], pl.String),
        pl.Series("title_key", [title for _, title in keys], pl.String),
    )
    files = files.with_columns(group_id=group_ids(files))
    shown = files.sort(pl.col("song_key").is_null(), "path").unique("piece_id", keep="first", maintain_order=True)
    claimed = labels.join(files.select("path", "piece_id"), on="path")
    chosen = (
        claimed.sort("confidence", "source", descending=[True, False])
        .group_by("piece_id", "genre", maintain_order=True)
        .agg(
            pl.col("source").first().alias("genre_source"),
            pl.col("confidence").first().alias("genre_confidence"),
            pl.len().alias("claims"),
        )
        .sort("genre_confidence", "claims", "genre", descending=[True, True, False])
        .unique("piece_id", keep="first", maintain_order=True)
        .drop("claims")
    )
    pieces = (
        shown.join(files.group_by("piece_id").agg(pl.len().cast(pl.Int32).alias("copies")), on="piece_id")
        .join(assign_splits(files), on="piece_id")
        .join(chosen, on="piece_id", how="left")
    )
    return pieces.sort("piece_id").select(_TABLES["pieces"][1].keys())


def _genres(pieces: pl.DataFrame, taxonomy: Taxonomy, minimum_pieces: int) -> pl.DataFrame:
    counts = [pl.col("split").eq(split).sum().cast(pl.Int32).alias(split) for split in (*SPLITS, WITHHELD)]
    genres = pieces.drop_nulls("genre").group_by("genre").agg(counts).sort("genre")
    published = pieces.filter(pl.col("split") != WITHHELD).select(GENRE_COLUMNS)
    hashes = {genre: _rows_hash(rows) for (genre,), rows in published.group_by("genre")}
    return genres.with_columns(
        name=pl.col("genre").map_elements(taxonomy.title, pl.String),
        pieces=pl.sum_horizontal(SPLITS),
        enough=pl.col("train") >= minimum_pieces,
        rows_hash=pl.col("genre").map_elements(lambda genre: hashes.get(genre, _NO_ROWS), pl.String),
    ).select(_TABLES["genres"][1].keys())


def _rows_hash(rows: pl.DataFrame) -> str:
    return hashlib.blake2b(rows.sort("piece_id").write_ndjson().encode(), digest_size=16).hexdigest()


def _write_table(connection: "DuckDBPyConnection", name: str, table: pl.DataFrame) -> None:
    comment, columns = _TABLES[name]
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
def _reading(index: Path) -> "Iterator[DuckDBPyConnection]":
    """A short look into the index that blocks nobody."""
    if not index.exists():
        raise FileNotFoundError(f"There is no index at {index}: build it first.")
    with _connect(index, read_only=True) as connection:
        yield connection


def _summary(index: Path, *, rewritten: bool) -> IndexSummary:
    with _reading(index) as connection:
        totals = connection.execute(
            f"""
            select
                (select count(*) from files), (select count(*) from files where verdict = '{OK}'),
                count(*), count(*) filter (genre is null), count(*) filter (split = '{WITHHELD}') from pieces
            """
        ).fetchall()[0]
        genres = connection.execute(
            f"select genre, {', '.join(SPLITS)}, withheld, enough, rows_hash from genres order by genre"
        ).fetchall()
        digest, minimum_pieces, notes = connection.execute("select * from build").fetchall()[0]
    files, ok, pieces, unlabelled, withheld = totals
    return IndexSummary(
        files=files,
        ok=ok,
        pieces=pieces,
        copies=ok - pieces,
        unlabelled=unlabelled,
        withheld=withheld,
        genres={name: GenreSummary(*row) for name, *row in genres},
        minimum_pieces=minimum_pieces,
        notes=notes,
        digest=digest,
        rewritten=rewritten,
    )
