"""tokens: pieces to REMI token ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from music_assets.corpus.reading.verdicts import READER_VERSION
from music_assets.defs.corpus import genre_pieces
from music_assets.defs.due import after_inputs
from music_assets.defs.failures import user_errors_as_failures
from music_assets.defs.metadata import bars, table
from music_assets.defs.partitions import genre_by_transposition
from music_assets.defs.resources import Data, available_cores
from music_assets.foundation.errors import MusicAssetsError
from music_assets.tokens.build import ShardSummary, build_shards
from music_assets.tokens.remi import decode, encode
from music_assets.tokens.shards import Shard, read_shard
from music_assets.tokens.statistics import TokenStatistics, token_statistics
from music_assets.tokens.vocabulary import DOCUMENT_FINGERPRINT, SIZE

IDENTITY_SAMPLE = 20
"""Pieces that are decoded and encoded again on every materialisation."""


@dg.asset(
    group_name="tokens",
    kinds={"arrow"},
    code_version=f"vocabulary {DOCUMENT_FINGERPRINT}, reader {READER_VERSION}",
    partitions_def=genre_by_transposition,
    deps=[genre_pieces],
    backfill_policy=dg.BackfillPolicy.single_run(),
    automation_condition=after_inputs,
    check_specs=[
        dg.AssetCheckSpec("ids_below_vocabulary_size", asset="token_shards", description="No id is out of range."),
        dg.AssetCheckSpec(
            "decode_then_encode_is_the_identity",
            asset="token_shards",
            description=f"{IDENTITY_SAMPLE} pieces a shard, decoded to a score and encoded again, give the same ids.",
        ),
    ],
)
@user_errors_as_failures
def token_shards(context: dg.AssetExecutionContext, data: Data) -> dg.MaterializeResult:
    """Every piece of a genre as REMI token ids: one Arrow file a transposition, read by memory map.

    A piece is encoded once; transposed copies are made by arithmetic on its ids, for training pieces only, with drums
    untouched. A copy that would leave MIDI's pitch range is left out and counted. Valid and test pieces are in
    `original` alone. `polars.scan_ipc` reads the files.

    `failed` says which pieces have no encoding. Those whose file could not be read are tried again every time and every
    night, the others when their file, the reader or the encoder has changed.

    `statistics` says what the pieces hold in their own key, and what the encoding cost them: of notes with equal
    onset, program and pitch one stays, the others are `dropped`; those longer than 12 beats are `clipped`; those whose
    onset or length changes by more than a 32nd note are `displaced`; errors are mean changes in quarter notes;
    tempos outside 30..480 are clipped.
    """
    paths = data.paths
    wanted: dict[str, list[str]] = {}
    for key in context.partition_keys:
        genre, transposition = key.split("|")
        wanted.setdefault(genre, []).append(transposition)
    shards = [
        (genre, summary)
        for genre, transpositions in wanted.items()
        for summary in _build(context, data, genre, transpositions)
    ]
    originals = {genre: read_shard(paths.shard(genre, "original")) for genre in wanted}
    largest, not_identical = _inspect(shards)
    return dg.MaterializeResult(
        metadata=_shard_metadata(shards) | _statistics_metadata(originals),
        check_results=[
            dg.AssetCheckResult(
                check_name="ids_below_vocabulary_size", passed=largest < SIZE, metadata={"largest": largest}
            ),
            dg.AssetCheckResult(
                check_name="decode_then_encode_is_the_identity",
                passed=not not_identical,
                metadata={"pieces": ", ".join(not_identical) or "none differs"},
            ),
        ],
    )


def _build(
    context: dg.AssetExecutionContext, data: Data, genre: str, transpositions: Sequence[str]
) -> list[ShardSummary]:
    """Bring shards of a genre up to date, and log what that took."""
    summaries = build_shards(
        _pieces(data, genre),
        data.paths.raw,
        lambda transposition: data.paths.shard(genre, transposition),
        genre,
        transpositions,
        available_cores(),
    )
    first = summaries[0]
    context.log.info(
        f"{genre}: {first.encoded:,} pieces encoded, {first.reused:,} reused, "
        f"{sum(s.rewritten for s in summaries)} of {len(summaries)} shards rewritten"
    )
    if first.refused:
        context.log.warning(
            f"{genre}: {len(first.refused):,} pieces could not be read and are tried again the next time, "
            f"such as {next(iter(first.refused.values()))}"
        )
    return summaries


def _shard_metadata(shards: Sequence[tuple[str, ShardSummary]]) -> dict[str, Any]:
    """What the UI shows of (genre, shard): what was done and what they hold."""
    tokens, notes = sum(s.tokens for _, s in shards), sum(s.notes for _, s in shards)
    failed = {
        piece: {"piece": piece, "why": why, "tried_again": piece in summary.refused}
        for _, summary in shards
        for piece, why in summary.failed.items()
    }
    return {
        "tokens": tokens,
        "notes": notes,
        "tokens_per_note": tokens / max(1, notes),
        "pieces_encoded": sum({genre: s.encoded for genre, s in shards}.values()),
        "pieces_reused": sum({genre: s.reused for genre, s in shards}.values()),
        "shards_rewritten": sum(s.rewritten for _, s in shards),
        "shards": table(
            {
                "genre": genre,
                "transposition": s.transposition,
                "pieces": s.pieces,
                "notes": s.notes,
                "tokens": s.tokens,
                "hours": s.seconds / 3600,
                "left_out_of_range": s.out_of_range,
                "rewritten": s.rewritten,
            }
            for genre, s in shards
        ),
        "failed": table(failed.values()),
    }


def _statistics_metadata(originals: Mapping[str, Shard]) -> dict[str, Any]:
    """What the UI shows of the music in the `original` shards, by genre and in all."""
    total = token_statistics([*originals.values()])
    found = {genre: token_statistics([shard]) for genre, shard in originals.items()} | {"all genres": total}
    return {
        "statistics": table(_statistics_row(genre, one) for genre, one in found.items()),
        "tokens_of_a_piece": table({"genre": genre, **one.lengths} for genre, one in found.items()),
        "pieces_by_tokens": bars(total.length_histogram),
        "token_types": bars(total.token_types),
    }


def _pieces(data: Data, genre: str) -> pl.DataFrame:
    path = data.paths.genre_pieces(genre)
    if not path.exists():
        raise MusicAssetsError(
            f"The pieces of {genre} are not published yet: materialise genre_pieces [{genre}] first."
        )
    return pl.read_parquet(path, glob=False)


def _inspect(shards: list[tuple[str, ShardSummary]]) -> tuple[int, list[str]]:
    """The largest id of what was written, and pieces whose ids are not the encoding of their decoding."""
    largest, different = 0, []
    for _, summary in shards:
        shard = read_shard(summary.path)
        largest = max(largest, int(shard.ids.max(initial=0)))
        step = max(1, len(shard) // IDENTITY_SAMPLE)
        for row in range(0, len(shard), step)[:IDENTITY_SAMPLE]:
            ids = shard.document(row)
            if encode(decode(ids)).tolist() != ids.tolist():
                different.append(f"{shard.piece_ids[row]} ({summary.transposition})")
    return largest, different


def _statistics_row(genre: str, found: TokenStatistics) -> dict[str, str | int | float]:
    return {
        "genre": genre,
        "pieces": found.pieces,
        "hours": found.seconds / 3600,
        "tokens": found.tokens,
        "notes": found.notes,
        "tokens_per_note": found.tokens_per_note,
        "dropped": found.dropped,
        "dropped_share": found.share(found.dropped),
        "clipped": found.clipped,
        "clipped_share": found.share(found.clipped),
        "displaced": found.displaced,
        "displaced_share": found.share(found.displaced),
        "onset_error": found.onset_error,
        "duration_error": found.duration_error,
        "clipped_tempos": found.clipped_tempos,
    }
