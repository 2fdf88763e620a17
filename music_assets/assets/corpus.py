"""corpus: MIDI files to a genre-labelled index."""

import dagster as dg
from pydantic import Field

from music_assets.assets.failures import clear_failures
from music_assets.assets.metadata import bars, log_progress, table
from music_assets.corpus.index import IndexSummary, build_index, publish_genre, songs_in_two_splits
from music_assets.corpus.scan import scan
from music_assets.partitions import GENRES, genres
from music_assets.resources import Data, available_cores


class ScanConfig(dg.Config):
    settle_seconds: float = Field(
        0.0, ge=0, description="Leave files that changed more recently than this for the next time."
    )


@dg.asset(group_name="corpus", kinds={"midi", "parquet"}, pool="index")
@clear_failures
def raw_midi(context: dg.AssetExecutionContext, config: ScanConfig, data: Data) -> dg.MaterializeResult:
    """Every MIDI file under `data/raw`: one row a file, with its musical facts or the reason why it is of no use.

    Only new and changed files are read, in worker processes, so that a file that kills its reader costs a row and
    not the run. Broken files stay where they are; their verdict says what is wrong.
    """
    paths = data.paths
    summary = scan(
        paths.raw,
        paths.files,
        workers=available_cores(),
        settle_seconds=config.settle_seconds,
        progress=log_progress(context, "files read"),
    )
    if not summary.seen:
        raise ValueError(
            f"There is no MIDI file under {paths.raw}: drop a folder of .mid files there, or run `make demo`."
        )
    context.log.info(f"{summary.seen:,} files, {summary.read:,} read, {summary.removed:,} gone")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.digest),
        metadata={
            "files": summary.seen,
            "files_read": summary.read,
            "files_unchanged": summary.unchanged,
            "files_removed": summary.removed,
            "verdicts": table({"verdict": v, "files": n} for v, n in summary.verdicts.items()),
            "path": dg.MetadataValue.path(paths.files),
        },
    )


class IndexConfig(dg.Config):
    minimum_pieces: int | None = Field(
        None,
        description="Training pieces from which on a genre gets a partition; as the taxonomy file says if None.",
    )


@dg.asset(
    group_name="corpus",
    kinds={"duckdb"},
    deps=[raw_midi],
    pool="index",
    check_specs=[
        dg.AssetCheckSpec(
            "no_song_in_two_splits", asset="midi_index", description="No song group has pieces in two splits."
        ),
        dg.AssetCheckSpec(
            "genres_above_minimum",
            asset="midi_index",
            description="Every labelled genre has its minimum of training pieces; one that has not waits for more.",
        ),
    ],
)
@clear_failures
def midi_index(context: dg.AssetExecutionContext, config: IndexConfig, data: Data) -> dg.MaterializeResult:
    """The corpus as a DuckDB file that you can query with SQL: pieces, musical facts, genre labels with source and
    confidence, song groups, and the split into train, valid and test.

    A genre with enough training pieces becomes a partition of everything that follows. Pieces without a label stay in
    the index and out of the shards.
    """
    paths = data.paths
    summary = build_index(paths.files, paths.raw, paths.labels, paths.index, minimum_pieces=config.minimum_pieces)
    if not summary.enough:
        raise ValueError(_why_no_genre(summary))
    context.instance.add_dynamic_partitions(GENRES, summary.enough)
    too_small = [genre for genre in summary.genres if genre not in summary.enough]
    context.log.info(
        f"{summary.pieces:,} pieces, {summary.unlabelled:,} of them without a label; "
        f"{len(summary.enough)} genres with at least {summary.minimum_pieces} training pieces"
    )
    leaks = songs_in_two_splits(paths.index)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.digest),
        metadata={
            "files": summary.files,
            "usable_files": summary.ok,
            "pieces": summary.pieces,
            "copies_folded": summary.copies,
            "pieces_without_label": summary.unlabelled,
            "pieces_withheld": summary.withheld,
            "rewritten": summary.rewritten,
            "pieces_by_genre": table(
                {
                    "genre": name,
                    "train": genre.train,
                    "valid": genre.valid,
                    "test": genre.test,
                    "withheld": genre.withheld,
                    "partition": genre.enough,
                }
                for name, genre in summary.genres.items()
            ),
            "training_pieces": bars({name: genre.train for name, genre in summary.genres.items()}),
            "label_notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in summary.notes) or "none"),
            "path": dg.MetadataValue.path(paths.index),
        },
        check_results=[
            dg.AssetCheckResult(check_name="no_song_in_two_splits", passed=not leaks, metadata={"groups": len(leaks)}),
            dg.AssetCheckResult(
                check_name="genres_above_minimum",
                passed=not too_small,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"Waiting for {summary.minimum_pieces} training pieces: {', '.join(too_small)}."
                if too_small
                else None,
            ),
        ],
    )


def _why_no_genre(summary: IndexSummary) -> str:
    if not summary.genres:
        return (
            f"None of the {summary.pieces} pieces has a genre: sort them into <collection>/<genre>/<artist>/ folders, "
            "put a genres.csv (path,genre) beside them, or put the Lakh map midi_genre_map.json into data/labels."
        )
    largest, genre = max(summary.genres.items(), key=lambda item: item[1].train)
    return (
        f"No genre has the minimum of {summary.minimum_pieces} training pieces (the largest, {largest}, has "
        f"{genre.train}): add pieces, or lower minimum_pieces in midi_index's configuration."
    )


@dg.asset(group_name="corpus", kinds={"parquet"}, partitions_def=genres, deps=[midi_index])
@clear_failures
def genre_pieces(context: dg.AssetExecutionContext, data: Data) -> dg.MaterializeResult:
    """One genre's part of the index as a Parquet file, which every later step reads instead of the database.

    Its data version is the hash of its rows; nothing is written when they are what they were.
    """
    paths = data.paths
    target = paths.genre_pieces(context.partition_key)
    count, digest, rewritten = publish_genre(paths.index, context.partition_key, target)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest),
        metadata={"pieces": count, "rewritten": rewritten, "path": dg.MetadataValue.path(target)},
    )
