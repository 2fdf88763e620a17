"""corpus: MIDI files to a genre-labelled index."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from music_assets.corpus.fetch.lakh import ATTRIBUTION, LABELS, LICENCE, fetch_lakh
from music_assets.corpus.index.build import INDEX_VERSION, build_index
from music_assets.corpus.index.queries import (
    IndexSummary,
    label_audit,
    publish_genre,
    songs_in_two_splits,
    verdict_counts,
)
from music_assets.corpus.index.settings import IndexSettings
from music_assets.corpus.reading.scan import scan
from music_assets.corpus.reading.verdicts import READER_VERSION
from music_assets.defs.failures import AssetConfig, user_errors_as_failures
from music_assets.defs.metadata import bars, log_progress, table
from music_assets.defs.partitions import GENRES, genres
from music_assets.defs.resources import Data, available_cores
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.settings import Settings


class LakhConfig(AssetConfig):
    """What to fetch, and where from."""

    collection: Literal["clean_midi", "lmd_full"] = Field(
        "clean_midi",
        description="clean_midi: 17,256 files by artist and title, 234 MB to fetch; lmd_full: 178,561 files, 1.8 GB.",
    )
    archive: str | None = Field(
        None, description="Path of the archive if you have it already; otherwise it is fetched to data/downloads."
    )
    sha256: str | None = Field(None, description="Hash of the archive if another one than the published is meant.")
    labels: list[str] = Field(
        list(LABELS), description="Label files to have in data/labels; those that are there are used as they are."
    )
    mirror: str | None = Field(
        None, description="Address of a folder that has the archive and the label files, instead of their publishers."
    )


@dg.asset(group_name="corpus", kinds={"midi"}, code_version="1", pool="downloads")
@user_errors_as_failures
def lakh_archive(context: dg.AssetExecutionContext, config: LakhConfig, data: Data) -> dg.MaterializeResult:
    """The Lakh MIDI Dataset in `data/raw`, and genre labels for it in `data/labels`: on demand, never by itself.

    A download that breaks off goes on where it was, also in a later run. Nothing is unpacked before its sha256 is
    checked, and nothing but MIDI files; what is there already is not fetched again.
    """
    done, labels = fetch_lakh(
        config.collection,
        config.labels,
        data.paths,
        archive=Path(config.archive).expanduser() if config.archive else None,
        sha256=config.sha256,
        mirror=config.mirror,
        report=partial(log_progress, context),
    )
    context.log.info(f"{done.path}: {done.files:,} files")
    hashes = " ".join([done.sha256, *sorted(label.sha256 for label in labels)])
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hexdigest(hashes)),
        metadata={
            "collection": done.name,
            "files": done.files,
            "bytes": done.bytes,
            "sha256": done.sha256,
            "bytes_downloaded": done.downloaded + sum(label.downloaded for label in labels),
            "labels": table({"file": one.name, "bytes": one.bytes, "sha256": one.sha256} for one in labels),
            "licence": dg.MetadataValue.md(f"{ATTRIBUTION}. {LICENCE}."),
            "path": dg.MetadataValue.path(done.path),
        },
    )


SHOWN_REASONS = 100
"""Files and folders out of reach that the UI names."""


class ScanConfig(AssetConfig, Settings):
    """What the reading may be told in the launchpad."""

    settle_seconds: float = Field(
        0.0, ge=0, description="Leave files that changed more recently than this for the next time."
    )


@dg.asset(
    group_name="corpus",
    kinds={"midi", "parquet"},
    code_version=f"reader {READER_VERSION}",
    deps=[lakh_archive],
    pool="index",
)
@user_errors_as_failures
def raw_midi(context: dg.AssetExecutionContext, config: ScanConfig, data: Data) -> dg.MaterializeResult:
    """Every MIDI file under `data/raw`: one row a file, with its musical facts or the reason why it is of no use.

    Only new and changed files are read, in worker processes, so that a file that kills its reader costs a row and
    not the run. Broken files stay where they are; their verdict says what is wrong.

    A file that cannot be read is tried again every time and every night, one that has killed its reader three times in
    all. Of a folder that cannot be listed the rows stay as they were.
    """
    paths = data.paths
    summary = scan(
        paths.raw,
        paths.files,
        workers=available_cores(),
        settle_seconds=config.settle_seconds,
        progress=log_progress(context, "files read"),
    )
    for warning in summary.warnings:
        context.log.warning(warning)
    if not summary.seen:
        none = (
            f"There is no MIDI file under {paths.raw}: drop a folder of .mid files there, materialise lakh_archive, "
            "or run `make demo`."
        )
        raise MusicAssetsError(" ".join([none, *summary.warnings]))
    context.log.info(f"{summary.seen:,} files, {summary.read:,} read, {summary.removed:,} gone")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.digest),
        metadata={
            "files": summary.seen,
            "files_read": summary.read,
            "files_unchanged": summary.unchanged,
            "files_removed": summary.removed,
            "files_tried_again": len(summary.again),
            "tried_again": _first(summary.again),
            "cannot_be_looked_into": _first(summary.unseen),
            "verdicts": table({"verdict": v, "files": n} for v, n in summary.verdicts.items()),
            "files_by_verdict": bars(summary.verdicts),
            "path": dg.MetadataValue.path(paths.files),
        },
    )


def _first(reasons: dict[str, str]) -> dg.MetadataValue:
    return table({"path": path or ".", "why": why} for path, why in islice(reasons.items(), SHOWN_REASONS))


class IndexConfig(AssetConfig, IndexSettings):
    """What the index may be told in the launchpad."""


MAXIMUM_LEAK = 0.005
"""Share of held-out pieces that may resemble a training piece as near-duplicates do."""


@dg.asset(
    group_name="corpus",
    kinds={"duckdb"},
    code_version=f"index {INDEX_VERSION}",
    deps=[raw_midi],
    pool="index",
    check_specs=[
        dg.AssetCheckSpec(
            "no_song_in_two_splits", asset="midi_index", description="No song group has pieces in two splits."
        ),
        dg.AssetCheckSpec(
            "held_out_music_is_unknown",
            asset="midi_index",
            description=f"At most {MAXIMUM_LEAK:.1%} of the held-out pieces resemble a training piece as "
            "near-duplicates do, by a search through all pairs.",
        ),
        dg.AssetCheckSpec(
            "genres_above_minimum",
            asset="midi_index",
            description="Every labelled genre has its minimum of training pieces; one that has not waits for more.",
        ),
    ],
)
@user_errors_as_failures
def midi_index(context: dg.AssetExecutionContext, config: IndexConfig, data: Data) -> dg.MaterializeResult:
    """The corpus as a DuckDB file that you can query with SQL: pieces, musical facts, genre labels with source and
    confidence, near-duplicates, song groups, and the split into train, valid and test.

    A genre with enough training pieces becomes a partition of everything that follows. Pieces without a label stay in
    the index and out of the shards, and so do near-duplicates of a piece that stands for them.
    """
    paths = data.paths
    summary = build_index(paths, IndexSettings.model_validate(config.model_dump()))
    if not summary.enough:
        raise MusicAssetsError(_why_no_genre(paths.index, summary))
    context.instance.add_dynamic_partitions(GENRES, summary.enough)
    context.log.info(
        f"{summary.pieces:,} pieces, {summary.near_duplicates:,} of them near-duplicates, {summary.unlabelled:,} "
        f"without a label; {len(summary.enough)} genres with enough training pieces"
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.digest),
        metadata={**_index_metadata(summary, label_audit(paths.index)), "path": dg.MetadataValue.path(paths.index)},
        check_results=_index_checks(summary, songs_in_two_splits(paths.index)),
    )


def _index_metadata(summary: IndexSummary, audit: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What the UI shows of an index; the audit is of its labels."""
    return {
        "files": summary.files,
        "usable_files": summary.ok,
        "pieces": summary.pieces,
        "copies_folded": summary.copies,
        "near_duplicates": summary.near_duplicates,
        "largest_cluster_of_near_duplicates": summary.largest_cluster,
        "pieces_without_label": summary.unlabelled,
        "pieces_excluded": summary.excluded,
        "residual_leak": summary.leak,
        "residual_leak_in_words": f"{summary.leaking} of {summary.held_out} held-out pieces resemble a training "
        f"piece as near-duplicates do; {summary.held_out_unknown} are too short to be compared",
        "rewritten": summary.rewritten,
        "pieces_by_genre": table(
            {
                "genre": name,
                "train": genre.train,
                "valid": genre.valid,
                "test": genre.test,
                "near_duplicates": genre.duplicates,
                "excluded": genre.excluded,
                "partition": genre.enough,
            }
            for name, genre in summary.genres.items()
        ),
        "training_pieces": bars({name: genre.train for name, genre in summary.genres.items()}),
        "pieces_reached_by_source": bars({row["source"]: row["pieces"] for row in audit["source_coverage"]}),
        **{name: table(rows) for name, rows in audit.items()},
        "label_notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in summary.notes) or "none"),
    }


def _index_checks(summary: IndexSummary, mixed: list[str]) -> list[dg.AssetCheckResult]:
    """The results of the checks; ``mixed`` are the song groups with pieces in two splits."""
    too_small = {name: genre.train for name, genre in summary.genres.items() if not genre.enough}
    return [
        dg.AssetCheckResult(check_name="no_song_in_two_splits", passed=not mixed, metadata={"groups": len(mixed)}),
        dg.AssetCheckResult(
            check_name="held_out_music_is_unknown",
            passed=summary.leak <= MAXIMUM_LEAK,
            metadata={"leaking": summary.leaking, "held_out": summary.held_out, "share": summary.leak},
        ),
        dg.AssetCheckResult(
            check_name="genres_above_minimum",
            passed=not too_small,
            severity=dg.AssetCheckSeverity.WARN,
            description="Waiting for more training pieces: "
            + ", ".join(f"{name} has {count}" for name, count in too_small.items())
            + "."
            if too_small
            else None,
        ),
    ]


def _why_no_genre(index: Path, summary: IndexSummary) -> str:
    if not summary.pieces:
        verdicts = ", ".join(f"{row['verdict']}: {row['files']}" for row in verdict_counts(index))
        return (
            f"None of the {summary.files} files can be used ({verdicts}): `music-assets corpus why <file>` tells "
            "what is wrong with one."
        )
    if not summary.genres:
        return (
            f"None of the {summary.pieces} pieces has a genre: sort them into <collection>/<genre>/<artist>/ folders, "
            "put a genres.csv (path,genre) beside them, or put the Lakh map midi_genre_map.json into data/labels."
        )
    largest, genre = max(summary.genres.items(), key=lambda item: item[1].train)
    return (
        f"No genre has the minimum of {genre.minimum_pieces} training pieces (the largest, {largest}, has "
        f"{genre.train}): add pieces, or lower minimum_pieces in midi_index's configuration."
    )


@dg.asset(
    group_name="corpus",
    kinds={"parquet"},
    code_version=f"index {INDEX_VERSION}",
    partitions_def=genres,
    deps=[midi_index],
)
@user_errors_as_failures
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
