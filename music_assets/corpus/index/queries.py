"""What the index says: a summary of it, the rows of a genre, and what the reports show."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from music_assets.corpus.index.database import dicts, reading_index
from music_assets.corpus.index.settings import IndexSettings
from music_assets.corpus.index.splits import EXCLUDED, SPLITS
from music_assets.corpus.index.tables import FACTS
from music_assets.corpus.labels.audit import TABLES as AUDIT_TABLES
from music_assets.corpus.reading.verdicts import OK
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.publishing import publish

NO_ROWS = hexdigest()
"""Hash of the rows of a genre that publishes none."""
GENRE_COLUMNS = ["piece_id", "path", "md5", "group_id", "split", "genre", "artist", "title", *FACTS]
"""Columns of :func:`genre_rows`."""


@dataclass(frozen=True)
class GenreSummary:
    """A genre's published pieces by split, what was left out, whether the rest is enough for shards, and the hash
    of its rows."""

    train: int
    valid: int
    test: int
    duplicates: int
    excluded: int
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
    excluded: int
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
        return self.genres[genre].rows_hash if genre in self.genres else NO_ROWS


def index_summary(index: Path) -> IndexSummary:
    """What the index says of itself.

    Raises:
        NoIndex, IndexUnavailable: see :func:`music_assets.corpus.index.database.reading_index`.
    """
    with reading_index(index) as connection:
        totals = connection.execute(
            f"""
            select
                (select count(*) from files), (select count(*) from files where verdict = '{OK}'),
                count(*), count(duplicate_of), count(*) filter (genre is null),
                count(*) filter (split = '{EXCLUDED}'), count(*) filter (published and split <> '{SPLITS[0]}'),
                (select count(*) from leaks),
                (select coalesce(max(count), 0) from
                    (select count(*) as count from pieces group by coalesce(duplicate_of, piece_id)))
            from pieces
            """
        ).fetchall()[0]
        columns = ["genre", *(field.name for field in fields(GenreSummary))]
        genres = connection.execute(f"select {', '.join(columns)} from genres order by genre").fetchall()
        build = dicts(connection, "from build")[0]
    files, ok, pieces, near, unlabelled, excluded, held_out, leaking, largest_cluster = totals
    return IndexSummary(
        files=files,
        ok=ok,
        pieces=pieces,
        copies=ok - pieces,
        near_duplicates=near,
        largest_cluster=largest_cluster,
        unlabelled=unlabelled,
        excluded=excluded,
        held_out=held_out,
        leaking=leaking,
        held_out_unknown=build["held_out_unknown"],
        genres={name: GenreSummary(*row) for name, *row in genres},
        settings=IndexSettings(**{name: build[name] for name in IndexSettings.model_fields}),
        notes=build["notes"],
        digest=build["digest"],
        rewritten=False,
    )


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
    count, rows_hash = found or (0, NO_ROWS)
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
        return dicts(
            connection, "select verdict, count(*) as files from files group by all order by files desc, verdict"
        )


def label_audit(index: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables of :func:`music_assets.corpus.labels.audit.audit` by name."""
    with reading_index(index) as connection:
        return {name: dicts(connection, f"from {name}") for name in AUDIT_TABLES}


def songs_in_two_splits(index: Path) -> list[str]:
    """Groups with pieces in more than one split: none, unless something is wrong."""
    with reading_index(index) as connection:
        rows = connection.execute(
            """
            select group_id from pieces where split <> ?
            group by group_id having count(distinct split) > 1 order by group_id
            """,
            [EXCLUDED],
        ).fetchall()
    return [group for (group,) in rows]
