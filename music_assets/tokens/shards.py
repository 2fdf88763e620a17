# pyarrow has no types
# pyright: standard
"""Token shards: one Arrow IPC file a genre and transposition, read by memory map without a copy.

A row is a piece: its id, group and split, what is known of its encoding (:class:`~.documents.DocumentFacts`), and
``ids``. All rows are one record batch, so that the ids of a shard are one array.
"""

import io
import json
import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.publishing import publish
from music_assets.tokens.documents import DocumentFacts, describe
from music_assets.tokens.transposition import semitones_of, shift
from music_assets.tokens.vocabulary import DOCUMENT_FINGERPRINT, TOKEN_TYPES, check_fingerprint

SPLITS = ("train", "valid", "test")
FACTS_SCHEMA = pl.Schema(
    {
        "notes": pl.Int32(),
        "seconds": pl.Float32(),
        "lowest": pl.Int16(),
        "highest": pl.Int16(),
        "dropped": pl.Int32(),
        "clipped": pl.Int32(),
        "displaced": pl.Int32(),
        "onset_error": pl.Float32(),
        "duration_error": pl.Float32(),
        "clipped_tempos": pl.Int32(),
        "token_types": pl.Array(pl.Int32(), len(TOKEN_TYPES)),
        "digest": pl.String(),
    }
)
"""The columns of :class:`~.documents.DocumentFacts`."""
ROWS_SCHEMA = pl.Schema({**dict.fromkeys(("piece_id", "group_id", "split"), pl.String()), **FACTS_SCHEMA})
"""The columns of a shard, ``ids`` aside."""


class NoShard(MusicAssetsError):
    """There is no token shard."""


class BadShard(MusicAssetsError):
    """A file that is no token shard of this version."""


@dataclass(frozen=True)
class ShardContents:
    """What a shard holds, without the ids; pieces are sorted by id."""

    genre: str
    transposition: str
    fingerprint: str
    rows: pl.DataFrame  # ``ROWS_SCHEMA``, one row a piece
    offsets: NDArray[np.int64]  # int64[n + 1], where in the ids each piece begins, and the end
    failed: dict[str, str]  # piece id -> why it could not be encoded
    failed_files: dict[str, str]  # piece id -> the reader and the md5 of the file that failed for good

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def piece_ids(self) -> list[str]:
        return self.rows["piece_id"].to_list()

    @cached_property
    def group_ids(self) -> list[str]:
        return self.rows["group_id"].to_list()

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        """str[n]"""
        return np.array(self.rows["split"].to_list(), dtype=np.str_)

    @cached_property
    def notes(self) -> NDArray[np.int32]:
        """int32[n]"""
        return self.rows["notes"].to_numpy()

    @cached_property
    def seconds(self) -> NDArray[np.float32]:
        """float32[n]"""
        return self.rows["seconds"].to_numpy()

    def where(self, split: str) -> NDArray[np.int64]:
        """Row indices of one split, int64[m]."""
        return np.flatnonzero(self.splits == split)

    @cached_property
    def content_hash(self) -> str:
        """Hash of every row and of the fingerprint; equal content gives an equal hash.

        The ids enter by each piece's ``digest``. That is of the piece in its own key, from which the ids of any
        transposition follow and which follows from them, so that no transposed shard has to be hashed.
        """
        columns = (
            json.dumps(column.to_list())
            if column.dtype == pl.String()
            else np.ascontiguousarray(column.to_numpy()).data
            for column in self.rows
        )
        return hexdigest(
            json.dumps([self.genre, self.transposition, self.fingerprint, self.failed]),
            *columns,
            np.ascontiguousarray(self.offsets).data,
        )


@dataclass(frozen=True)
class Shard(ShardContents):
    """The documents of one genre at one transposition; arrays are read-only.

    ``ids`` holds all documents end to end; document ``i`` is ``ids[offsets[i]:offsets[i + 1]]``, REMI ids
    without BOS, genre or EOS.
    """

    ids: NDArray[np.uint16]  # uint16[tokens]

    def document(self, index: int) -> NDArray[np.uint16]:
        """View of one piece's ids, uint16[n]."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


def make_shard(
    genre: str,
    transposition: str,
    piece_ids: Sequence[str],
    group_ids: Sequence[str],
    splits: Sequence[str],
    notes: Sequence[int],
    seconds: Sequence[float],
    documents: Sequence[NDArray[np.integer]],
    failed: dict[str, str] | None = None,
) -> Shard:
    """A shard from documents at hand, in any order; nothing is said to be lost in their encoding.

    Raises BadTranspositions for an unknown transposition.
    """
    semitones = semitones_of(transposition)
    order = sorted(range(len(piece_ids)), key=piece_ids.__getitem__)
    facts = [describe(shift(documents[i], -semitones), notes[i], seconds[i]) for i in order]
    rows = facts_frame(facts).select(
        pl.Series("piece_id", [piece_ids[i] for i in order], pl.String()),
        pl.Series("group_id", [group_ids[i] for i in order], pl.String()),
        pl.Series("split", [splits[i] for i in order], pl.String()),
        pl.all(),
    )
    return Shard(
        genre=genre,
        transposition=transposition,
        fingerprint=DOCUMENT_FINGERPRINT,
        rows=transposed_rows(rows, semitones),
        offsets=np.cumsum([0, *(len(documents[i]) for i in order)], dtype=np.int64),
        failed=dict(sorted((failed or {}).items())),
        failed_files={},
        ids=np.concatenate([np.empty(0, np.uint16), *(documents[i] for i in order)], dtype=np.uint16),
    )


def facts_frame(facts: Sequence[DocumentFacts]) -> pl.DataFrame:
    """The facts of some documents as rows, ``FACTS_SCHEMA``."""
    return pl.DataFrame(facts, FACTS_SCHEMA, orient="row")


def transposed_rows(rows: pl.DataFrame, semitones: int) -> pl.DataFrame:
    """The rows of pieces that are moved from their own key."""
    pitched = pl.col("lowest") <= pl.col("highest")
    moved = pl.col("lowest", "highest") + pl.lit(semitones, pl.Int16())
    return rows.with_columns(pl.when(pitched).then(moved).otherwise(pl.col("lowest", "highest")))


def write_shard(path: Path, contents: ShardContents, blocks: Iterable[NDArray[np.integer]]) -> None:
    """Write a shard whose ids come in parts, one after the other; equal content gives equal bytes.

    Takes memory for the rows and for one part. Raises ValueError if the parts are not as long as the contents says.
    """
    count = int(contents.offsets[-1])
    columns = contents.rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    unwritten = _zeros(count)
    ids = pa.LargeListArray.from_arrays(pa.array(contents.offsets), pa.array(unwritten))
    batch = pa.record_batch(
        [*(column.combine_chunks() for column in columns.columns), ids],
        schema=columns.schema.append(pa.field("ids", ids.type)).with_metadata(
            {
                "fingerprint": contents.fingerprint,
                "genre": contents.genre,
                "transposition": contents.transposition,
                "content_hash": contents.content_hash,
                "failed": json.dumps(contents.failed),
                "failed_files": json.dumps(contents.failed_files),
            }
        ),
    )
    with publish(path) as fresh, fresh.open("wb") as file:
        with pa.PythonFile(_SkipOne(file, unwritten), "w") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        file.seek(_place_of_ids(fresh))
        written = sum(file.write(block.data) for block in blocks) // unwritten.itemsize
        if written != count:
            raise ValueError(f"{written:,} ids were given for {path}, which is to hold {count:,}.")


class _SkipOne(io.RawIOBase):
    """Writes to a file everything but one array, in whose place it leaves a hole.

    This saves time only: if the array came in another form, it would be written.
    """

    def __init__(self, file: BinaryIO, skipped: NDArray[np.uint16]) -> None:
        self._file = file
        self._skipped = skipped.ctypes.data

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if isinstance(data, pa.Buffer) and data.address == self._skipped:
            self._file.seek(data.size, os.SEEK_CUR)
            return data.size
        return self._file.write(data)


def _zeros(count: int) -> NDArray[np.uint16]:
    """uint16[count] that takes address space but no memory."""
    pages = mmap.mmap(-1, max(2 * count, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    return np.frombuffer(pages, np.uint16, count)


def _place_of_ids(path: Path) -> int:
    """Where in a shard's file the ids begin."""
    with pa.memory_map(str(path)) as file:
        ids = pa.ipc.open_file(file).get_batch(0).column("ids").values
        file.seek(0)
        return ids.buffers()[1].address - file.read_buffer(1).address if len(ids) else 0


def stored_hash(path: Path) -> str | None:
    """Content hash of the shard at a path, or None if there is no shard; reads the schema only."""
    try:
        with pa.OSFile(str(path)) as file:
            metadata = pa.ipc.open_file(file).schema.metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    return metadata.get(b"content_hash", b"").decode()


def read_shard(path: Path) -> Shard:
    """Map a shard into memory; its ids and offsets are views of the file.

    Raises NoShard, VocabularyMismatch if it was written with another vocabulary, or BadShard if it is no Arrow file or
    one of another version.
    """
    if not path.is_file():
        raise NoShard(f"There is no token shard at {path}: materialise token_shards for it first.")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid as error:
        raise BadShard(f"{path} is not a token shard: delete it and materialise token_shards.") from error
    metadata = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
    check_fingerprint(f"The token shard {path}", metadata.get("fingerprint", "none"), DOCUMENT_FINGERPRINT)
    if reader.schema.names != [*ROWS_SCHEMA, "ids"]:
        raise BadShard(f"The token shard {path} has the columns of another version: materialise token_shards again.")
    batch = reader.get_batch(0)
    documents = batch.column("ids")
    rows = pl.from_arrow(batch.select([*ROWS_SCHEMA]))
    assert isinstance(rows, pl.DataFrame)
    return Shard(
        genre=metadata["genre"],
        transposition=metadata["transposition"],
        fingerprint=metadata["fingerprint"],
        rows=rows,
        offsets=documents.offsets.to_numpy(),
        failed=json.loads(metadata["failed"]),
        failed_files=json.loads(metadata.get("failed_files", "{}")),
        ids=documents.values.to_numpy(),
    )
