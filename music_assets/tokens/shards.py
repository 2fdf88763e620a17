"""Token shards: one Arrow IPC file a genre and transposition, read by memory map without a copy."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from music_assets.paths import publish
from music_assets.tokens.vocabulary import FINGERPRINT, check_fingerprint

SPLITS = ("train", "valid", "test")
_SCHEMA = pa.schema(
    [
        ("piece_id", pa.large_string()),
        ("group_id", pa.large_string()),
        ("split", pa.large_string()),
        ("notes", pa.int32()),
        ("seconds", pa.float32()),
        ("ids", pa.large_list(pa.uint16())),
    ]
)


@dataclass(frozen=True)
class Shard:
    """The documents of one genre at one transposition, sorted by piece id; arrays are read-only.

    ``ids`` holds all documents end to end; document ``i`` is ``ids[offsets[i]:offsets[i + 1]]``, REMI ids
    without BOS, genre or EOS.
    """

    genre: str
    transposition: str
    fingerprint: str
    piece_ids: list[str]
    group_ids: list[str]
    splits: np.ndarray  # str[n]
    notes: np.ndarray  # int32[n]
    seconds: np.ndarray  # float32[n]
    offsets: np.ndarray  # int64[n + 1]
    ids: np.ndarray  # uint16[tokens]
    failed: dict[str, str]  # piece id -> why it could not be encoded

    def __len__(self) -> int:
        return len(self.piece_ids)

    def document(self, index: int) -> np.ndarray:
        """View of one piece's ids, uint16[n]."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def where(self, split: str) -> np.ndarray:
        """Row indices of one split, int64[m]."""
        return np.flatnonzero(self.splits == split)

    @cached_property
    def content_hash(self) -> str:
        """Hash of every row and of the fingerprint; equal content gives an equal hash."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.genre, self.transposition, self.fingerprint, self.failed]).encode())
        digest.update(json.dumps([self.piece_ids, self.group_ids, self.splits.tolist()]).encode())
        for array in (self.notes, self.seconds, self.offsets, self.ids):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def make_shard(
    genre: str,
    transposition: str,
    piece_ids: Sequence[str],
    group_ids: Sequence[str],
    splits: Sequence[str],
    notes: Sequence[int],
    seconds: Sequence[float],
    documents: Sequence[np.ndarray],
    failed: dict[str, str] | None = None,
) -> Shard:
    """A shard from rows in any order; they are sorted by piece id."""
    order = sorted(range(len(piece_ids)), key=piece_ids.__getitem__)
    lengths = np.array([len(documents[i]) for i in order], dtype=np.int64)
    return Shard(
        genre=genre,
        transposition=transposition,
        fingerprint=FINGERPRINT,
        piece_ids=[piece_ids[i] for i in order],
        group_ids=[group_ids[i] for i in order],
        splits=np.array([splits[i] for i in order], dtype=np.str_),
        notes=np.array([notes[i] for i in order], dtype=np.int32),
        seconds=np.array([seconds[i] for i in order], dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ids=np.concatenate([np.empty(0, np.uint16), *(documents[i] for i in order)], dtype=np.uint16),
        failed=dict(sorted((failed or {}).items())),
    )


def write_shard(path: Path, shard: Shard) -> None:
    """Write one uncompressed record batch; equal shards give equal bytes."""
    batch = pa.record_batch(
        [
            pa.array(shard.piece_ids, pa.large_string()),
            pa.array(shard.group_ids, pa.large_string()),
            pa.array(shard.splits.tolist(), pa.large_string()),
            pa.array(shard.notes),
            pa.array(shard.seconds),
            pa.LargeListArray.from_arrays(pa.array(shard.offsets), pa.array(shard.ids)),
        ],
        schema=_SCHEMA.with_metadata(
            {
                "fingerprint": shard.fingerprint,
                "genre": shard.genre,
                "transposition": shard.transposition,
                "content_hash": shard.content_hash,
                "failed": json.dumps(shard.failed),
            }
        ),
    )
    with (
        publish(path) as fresh,
        pa.OSFile(str(fresh), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def stored_hash(path: Path) -> str | None:
    """Content hash of the shard at a path, or None if there is no shard; reads the schema only."""
    try:
        with pa.OSFile(str(path)) as file:
            metadata = pa.ipc.open_file(file).schema.metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    return metadata.get(b"content_hash", b"").decode()


def read_shard(path: Path) -> Shard:
    """Map a shard into memory; its arrays are views of the file.

    Raises FileNotFoundError, VocabularyMismatch if it was written with another vocabulary, or ValueError if
    it is no Arrow file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no token shard at {path}: materialise token_shards for it first.")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a token shard: delete it and materialise token_shards.") from error
    metadata = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
    check_fingerprint(f"The token shard {path}", metadata.get("fingerprint", "none"))
    batch = reader.get_batch(0)
    documents = batch.column("ids")
    return Shard(
        genre=metadata["genre"],
        transposition=metadata["transposition"],
        fingerprint=metadata["fingerprint"],
        piece_ids=batch.column("piece_id").to_pylist(),
        group_ids=batch.column("group_id").to_pylist(),
        splits=np.array(batch.column("split").to_pylist(), dtype=np.str_),
        notes=batch.column("notes").to_numpy(),
        seconds=batch.column("seconds").to_numpy(),
        offsets=documents.offsets.to_numpy(),
        ids=documents.values.to_numpy(),
        failed=json.loads(metadata["failed"]),
    )
