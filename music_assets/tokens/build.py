"""Builds the token shards of a genre: encodes what is new, transposes, and rewrites only what changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from music_assets.tokens.remi import Document, encode_files
from music_assets.tokens.shards import Shard, make_shard, read_shard, stored_hash, write_shard
from music_assets.tokens.transposition import TRANSPOSITIONS, pitch_extremes, shift
from music_assets.tokens.vocabulary import TOKEN_TYPE, TOKEN_TYPES


@dataclass(frozen=True)
class ShardSummary:
    """What one shard holds and what was done for it."""

    transposition: str
    path: Path
    pieces: int
    notes: int
    tokens: int
    seconds: float
    encoded: int  # pieces encoded now
    reused: int  # pieces whose encoding was already in the genre's shards
    out_of_range: int  # training pieces left out, because a pitch would leave 0..127
    failed: dict[str, str]  # piece id -> why it has no encoding
    token_types: dict[str, int]
    content_hash: str  # as stored in the file
    rewritten: bool


def build_shards(
    pieces: pl.DataFrame,
    raw: Path,
    shard_path: Callable[[str], Path],
    genre: str,
    transpositions: Sequence[str],
    workers: int = 1,
) -> list[ShardSummary]:
    """Bring some transpositions of one genre up to date with its pieces.

    ``pieces`` has the columns piece_id, path (relative to ``raw``), group_id and split; ``shard_path`` maps
    a transposition to its file. Encodings are taken from the stored ``original`` shard where it has them;
    splits and groups always from ``pieces``. Only ``original`` holds valid and test pieces.
    A file whose content would stay the same is not touched. A piece that cannot be encoded is left out and
    reported.
    Raises ValueError for an unknown transposition.
    """
    if unknown := [name for name in transpositions if name not in TRANSPOSITIONS]:
        known = ", ".join(TRANSPOSITIONS)
        raise ValueError(f"There is no transposition {unknown[0]!r}; choose from {known}.")
    documents, failed = _stored_documents(shard_path("original"))
    new = pieces.filter(~pl.col("piece_id").is_in([*documents, *failed]))
    files = [raw / path for path in new["path"]]
    for index, result in tqdm(
        encode_files(files, workers), f"Encoding {genre}", total=len(files), unit="file", disable=None
    ):
        if isinstance(result, Document):
            documents[new["piece_id"][index]] = result
        else:
            failed[new["piece_id"][index]] = result

    original = _original(genre, pieces, documents, failed)
    training = _rows(original, original.splits == "train")
    low, high = pitch_extremes(training.ids, training.offsets)
    summaries = []
    for name in transpositions:
        semitones = TRANSPOSITIONS[name]
        fits = (low + semitones >= 0) & (high + semitones < 128)
        shard = original if name == "original" else _transposed(training, name, fits)
        rewritten = stored_hash(shard_path(name)) != shard.content_hash
        if rewritten:
            write_shard(shard_path(name), shard)
        types = np.bincount(TOKEN_TYPE[shard.ids], minlength=len(TOKEN_TYPES))
        summaries.append(
            ShardSummary(
                transposition=name,
                path=shard_path(name),
                pieces=len(shard),
                notes=int(shard.notes.sum()),
                tokens=len(shard.ids),
                seconds=float(shard.seconds.sum(dtype=np.float64)),
                encoded=len(files),
                reused=len(pieces) - len(files),
                out_of_range=0 if name == "original" else int((~fits).sum()),
                failed=shard.failed,
                token_types={kind: int(count) for kind, count in zip(TOKEN_TYPES, types, strict=True) if count},
                content_hash=shard.content_hash,
                rewritten=rewritten,
            )
        )
    return summaries


def _stored_documents(path: Path) -> tuple[dict[str, Document], dict[str, str]]:
    """What the original shard knows already: encodings and failures, by piece id."""
    try:
        shard = read_shard(path)
    except (FileNotFoundError, ValueError):  # none yet, or of another vocabulary
        return {}, {}
    documents = {
        piece: Document(shard.document(row), int(shard.notes[row]), float(shard.seconds[row]))
        for row, piece in enumerate(shard.piece_ids)
    }
    return documents, dict(shard.failed)


def _original(genre: str, pieces: pl.DataFrame, documents: dict[str, Document], failed: dict[str, str]) -> Shard:
    encoded = pieces.filter(pl.col("piece_id").is_in(list(documents)))
    chosen = [documents[piece] for piece in encoded["piece_id"]]
    return make_shard(
        genre=genre,
        transposition="original",
        piece_ids=encoded["piece_id"].to_list(),
        group_ids=encoded["group_id"].to_list(),
        splits=encoded["split"].to_list(),
        notes=[document.notes for document in chosen],
        seconds=[document.seconds for document in chosen],
        documents=[document.ids for document in chosen],
        failed={piece: failed[piece] for piece in pieces["piece_id"] if piece in failed},
    )


def _transposed(training: Shard, name: str, fits: np.ndarray) -> Shard:
    kept = _rows(training, fits)
    return replace(kept, transposition=name, ids=shift(kept.ids, TRANSPOSITIONS[name]), failed={})


def _rows(shard: Shard, chosen: np.ndarray) -> Shard:
    """The rows of a boolean mask as a shard of their own."""
    if chosen.all():
        return shard
    lengths = np.diff(shard.offsets)
    rows = np.flatnonzero(chosen)
    return replace(
        shard,
        piece_ids=[shard.piece_ids[row] for row in rows],
        group_ids=[shard.group_ids[row] for row in rows],
        splits=shard.splits[rows],
        notes=shard.notes[rows],
        seconds=shard.seconds[rows],
        offsets=np.concatenate([[0], np.cumsum(lengths[rows])]),
        ids=shard.ids[np.repeat(chosen, lengths)],
    )
