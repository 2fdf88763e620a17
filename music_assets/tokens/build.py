"""Builds the token shards of a genre: encodes what is new, transposes, and rewrites only what changed.

Ids go from the workers through a temporary file into the shard, and from the mapped original shard through blocks
into the transposed ones: a genre of any size takes memory for its rows, about a kilobyte a piece, not for its ids.
"""

import mmap
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from music_assets.corpus.reading.verdicts import READER_VERSION
from music_assets.foundation.publishing import require_room
from music_assets.tokens.documents import Document, DocumentFacts, encode_files
from music_assets.tokens.shards import (
    FACTS_SCHEMA,
    ROWS_SCHEMA,
    BadShard,
    NoShard,
    Shard,
    ShardContents,
    facts_frame,
    make_shard,
    read_shard,
    stored_hash,
    transposed_rows,
    write_shard,
)
from music_assets.tokens.transposition import semitones_of, shifted_blocks
from music_assets.tokens.vocabulary import VocabularyMismatch

_FACTS_AT_A_TIME = 1000


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
    refused: dict[str, str]  # those of them that the next build tries again, because their file could not be read
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

    ``pieces`` has the columns piece_id, path (relative to ``raw``), group_id, split and, where it is known, md5;
    ``shard_path`` maps a transposition to its file. The ``original`` shard, whether it is asked for or not, comes
    first: it keeps every encoding, and the transposed ones are made from it; splits and groups always come from
    ``pieces``. Only ``original`` holds valid and test pieces. A file whose content would stay the same is not touched.

    A piece that cannot be encoded is left out and reported. It is tried again once its file, the reader or the encoder
    has changed; by every build if its file could not be read, is not the one with this md5, or has met a bug.
    Raises BadTranspositions for an unknown transposition.
    """
    for name in transpositions:
        semitones_of(name)
    encoded, refused, changed = _update_original(shard_path("original"), pieces, raw, genre, workers)
    original = read_shard(shard_path("original"))
    summaries: list[ShardSummary] = []
    for name in transpositions:
        contents, out_of_range, rewritten = original, 0, changed
        if name != "original":
            contents, blocks, out_of_range = transposed(original, name)
            rewritten = stored_hash(shard_path(name)) != contents.content_hash
            if rewritten:
                write_shard(shard_path(name), contents, blocks)
        summaries.append(
            ShardSummary(
                transposition=name,
                path=shard_path(name),
                pieces=len(contents),
                notes=int(contents.notes.sum()),
                tokens=int(contents.offsets[-1]),
                seconds=float(contents.seconds.sum(dtype=np.float64)),
                encoded=encoded,
                reused=len(pieces) - encoded,
                out_of_range=out_of_range,
                failed=original.failed | refused,
                refused=refused,
                content_hash=contents.content_hash,
                rewritten=rewritten,
            )
        )
    return summaries


def transposed(original: Shard, transposition: str) -> tuple[ShardContents, Iterator[NDArray[np.uint16]], int]:
    """The training pieces of a genre in another key, as :func:`~.shards.write_shard` takes them.

    Also the number of those left out, because a pitch would leave 0..127.
    Raises BadTranspositions for an unknown transposition.
    """
    semitones = semitones_of(transposition)
    training = original.splits == "train"
    low, high = original.rows["lowest"].to_numpy(), original.rows["highest"].to_numpy()
    fits = (low + semitones >= 0) & (high + semitones < 128)
    chosen = np.flatnonzero(training & fits)
    contents = ShardContents(
        genre=original.genre,
        transposition=transposition,
        fingerprint=original.fingerprint,
        rows=transposed_rows(original.rows[chosen], semitones),
        offsets=_offsets(np.diff(original.offsets)[chosen]),
        failed={},
        failed_files={},
    )
    return contents, _shifted(original, chosen, semitones), int((training & ~fits).sum())


def _shifted(original: Shard, chosen: NDArray[np.int64], semitones: int) -> Iterator[NDArray[np.uint16]]:
    """The ids of some rows, those of neighbours at one go."""
    for run in np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1):
        if len(run):
            ids = original.ids[original.offsets[run[0]] : original.offsets[run[-1] + 1]]
            yield from shifted_blocks(ids, semitones)


def pieces_to_encode(pieces: pl.DataFrame, original: ShardContents) -> pl.DataFrame:
    """Those of a genre's pieces that its original shard lacks, but for those that another try would not help.

    With the column ``file``: the content of the piece's file and the code that reads it, for which a failure holds.
    """
    md5 = pl.col("md5").fill_null("") if "md5" in pieces.columns else pl.lit("")
    missing = pieces.filter(~pl.col("piece_id").is_in(original.piece_ids)).with_columns(
        md5=md5, file=pl.format("reader {}, md5 {}", pl.lit(READER_VERSION), md5)
    )
    failed = pl.DataFrame([*original.failed_files.items()], {"piece_id": pl.String, "file": pl.String}, orient="row")
    return missing.join(failed, on=["piece_id", "file"], how="anti", maintain_order="left")


def _update_original(
    path: Path, pieces: pl.DataFrame, raw: Path, genre: str, workers: int
) -> tuple[int, dict[str, str], bool]:
    """Number of pieces tried, why some of them could not be read, and whether the shard has changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = stored_shard(path, genre)
    new = pieces_to_encode(pieces, stored).select("piece_id", "path", "md5", "file").rows()
    tried = {piece for piece, *_ in new}
    failed = {piece: why for piece, why in stored.failed.items() if piece not in tried}
    failed_files = {piece: file for piece, file in stored.failed_files.items() if piece not in tried}
    refused: dict[str, str] = {}
    results = encode_files([raw / name for _, name, _, _ in new], workers)
    try:
        with tempfile.TemporaryFile(dir=path.parent) as temporary:
            spilled = _Spilled(temporary)
            for index, result in tqdm(results, f"Encoding {genre}", total=len(new), unit="file", disable=None):
                piece, name, md5, file = new[index]
                if md5 and result.md5 and result.md5 != md5:
                    refused[piece] = (
                        f"{raw / name}: It has changed since it was indexed: run `music-assets corpus update`."
                    )
                elif isinstance(result, Document):
                    spilled.add(piece, result)
                elif not result.md5:
                    refused[piece] = result.why
                else:
                    failed[piece] = result.why
                    if not result.traceback:
                        failed_files[piece] = file
            contents, blocks = _joined(pieces, stored, spilled, failed, failed_files)
            changed = stored_hash(path) != contents.content_hash or stored.failed_files != contents.failed_files
            if changed:
                write_shard(path, contents, blocks)
            return len(new), refused, changed
    except OSError as error:
        require_room(path.parent, error)
        raise


def stored_shard(path: Path, genre: str) -> Shard:
    """The original shard as it is; an empty one if there is none, or none of this version."""
    try:
        return read_shard(path)
    except (NoShard, BadShard, VocabularyMismatch):
        return make_shard(genre, "original", [], [], [], [], [], [])


class _Spilled:
    """Documents on their way into a shard, in a file that ends with the process, however that ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._piece_ids: list[str] = []
        self._lengths: list[int] = []
        self._facts: list[DocumentFacts] = []
        self._frames: list[pl.DataFrame] = [facts_frame([])]

    def add(self, piece_id: str, document: Document) -> None:
        self._file.write(document.ids.data)
        self._piece_ids.append(piece_id)
        self._lengths.append(len(document.ids))
        self._facts.append(document.facts)
        if len(self._facts) == _FACTS_AT_A_TIME:
            self._collect()

    def _collect(self) -> None:
        """Facts take much less memory as a frame than as objects."""
        self._frames.append(facts_frame(self._facts))
        self._facts = []

    def rows(self) -> pl.DataFrame:
        """piece_id and the facts, in order of arrival."""
        self._collect()
        return pl.concat(self._frames).with_columns(piece_id=pl.Series(self._piece_ids, dtype=pl.String()))

    def offsets(self) -> NDArray[np.int64]:
        return _offsets(self._lengths)

    def ids(self) -> NDArray[np.uint16]:
        """All ids, mapped."""
        self._file.flush()
        if not any(self._lengths):
            return np.empty(0, np.uint16)
        return np.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), np.uint16)


def _joined(
    pieces: pl.DataFrame, stored: Shard, spilled: _Spilled, failed: dict[str, str], failed_files: dict[str, str]
) -> tuple[ShardContents, Iterator[NDArray[np.uint16]]]:
    """The original shard of the pieces, each taken from what is stored or from what was encoded now."""
    known = pl.concat(
        [_placed(stored.rows, stored.offsets, spilled=False), _placed(spilled.rows(), spilled.offsets(), spilled=True)]
    )
    chosen = pieces.select("piece_id", "group_id", "split").join(known, on="piece_id").sort("piece_id")
    places, ids = chosen.select("spilled", "begin", "end"), {False: stored.ids, True: spilled.ids()}
    contents = ShardContents(
        genre=stored.genre,
        transposition="original",
        fingerprint=stored.fingerprint,
        rows=chosen.select([*ROWS_SCHEMA]),
        offsets=_offsets((chosen["end"] - chosen["begin"]).to_numpy()),
        failed={piece: failed[piece] for piece in sorted(pieces["piece_id"]) if piece in failed},
        failed_files={piece: failed_files[piece] for piece in sorted(pieces["piece_id"]) if piece in failed_files},
    )
    return contents, (ids[is_new][begin:end] for is_new, begin, end in places.iter_rows())


def _placed(rows: pl.DataFrame, offsets: NDArray[np.int64], *, spilled: bool) -> pl.DataFrame:
    """Piece ids and facts, and where the ids lie."""
    place = {"spilled": pl.lit(spilled), "begin": pl.Series(offsets[:-1]), "end": pl.Series(offsets[1:])}
    return rows.select("piece_id", *FACTS_SCHEMA).with_columns(**place)


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Where documents of some lengths begin, one after the other, and the end; int64[n + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
