"""tokens: pieces to REMI token ids."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from music_assets.defs.corpus import genre_pieces
from music_assets.defs.failures import user_errors_as_failures
from music_assets.defs.metadata import bars, table
from music_assets.defs.partitions import GENRES, genre_by_transposition
from music_assets.defs.resources import Data, available_cores
from music_assets.foundation.errors import MusicAssetsError
from music_assets.paths import DataPaths
from music_assets.tokens.build import ShardSummary, build_shards, pieces_to_encode, stored_shard
from music_assets.tokens.remi import decode, encode
from music_assets.tokens.shards import read_shard
from music_assets.tokens.statistics import TokenStatistics, token_statistics
from music_assets.tokens.vocabulary import Vocabulary

IDENTITY_SAMPLE = 20
"""Pieces that are decoded and encoded again on every materialisation."""

# What follows its inputs: once after they changed, when all are there and none is being made anew.
after_inputs = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("after its inputs")


@dg.asset(
    group_name="tokens",
    kinds={"arrow"},
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
    shards: list[tuple[str, ShardSummary]] = []
    for genre, transpositions in wanted.items():
        summaries = build_shards(
            _pieces(data, genre),
            paths.raw,
            lambda transposition, genre=genre: paths.shard(genre, transposition),
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
        shards += [(genre, summary) for summary in summaries]
    largest, not_identical = _inspect(shards)
    failed = {
        piece: {"piece": piece, "why": why, "tried_again": piece in summary.refused}
        for _, summary in shards
        for piece, why in summary.failed.items()
    }
    originals = {genre: read_shard(paths.shard(genre, "original")) for genre in wanted}
    held = {genre: token_statistics([original]) for genre, original in originals.items()}
    total = token_statistics([*originals.values()])
    return dg.MaterializeResult(
        metadata={
            "tokens": sum(s.tokens for _, s in shards),
            "notes": sum(s.notes for _, s in shards),
            "tokens_per_note": sum(s.tokens for _, s in shards) / max(1, sum(s.notes for _, s in shards)),
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
            "statistics": table(
                _statistics_row(genre, found) for genre, found in [*held.items(), ("all genres", total)]
            ),
            "tokens_of_a_piece": table(
                {"genre": genre, **found.lengths} for genre, found in [*held.items(), ("all genres", total)]
            ),
            "pieces_by_tokens": bars(total.length_histogram),
            "token_types": bars(total.token_types),
            "failed": table(failed.values()),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="ids_below_vocabulary_size",
                passed=largest < Vocabulary().size,
                metadata={"largest": largest},
            ),
            dg.AssetCheckResult(
                check_name="decode_then_encode_is_the_identity",
                passed=not not_identical,
                metadata={"pieces": ", ".join(not_identical) or "none differs"},
            ),
        ],
    )


def unfinished(instance: dg.DagsterInstance, paths: DataPaths) -> Iterator[str]:
    """Genres whose shards, written before, lack published pieces that another try may encode."""
    for genre in sorted(instance.get_dynamic_partitions(GENRES)):
        pieces, original = paths.genre_pieces(genre), paths.shard(genre, "original")
        if pieces.exists() and original.exists():
            missing = pieces_to_encode(pl.read_parquet(pieces, glob=False), stored_shard(original, genre))
            if len(missing):
                yield genre


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
