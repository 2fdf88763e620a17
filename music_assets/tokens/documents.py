"""MIDI files to documents: token ids and what is worth knowing of them, in worker processes."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from music_assets.corpus.isolation import Lost, run_isolated
from music_assets.corpus.reading import BadMidi, load_score
from music_assets.tokens.remi import NO_LOSSES, Losses, encode_measured
from music_assets.tokens.transposition import pitch_range
from music_assets.tokens.vocabulary import TOKEN_TYPE, TOKEN_TYPES

# Few files are worth starting processes for; small portions leave no worker idle at the end.
_FILES_PER_WORKER = 100
_FILES_AT_A_TIME = 16


class Facts(NamedTuple):
    """What a shard says of a document beside its ids. The losses are those of :class:`~.remi.Losses`."""

    notes: int
    seconds: float
    lowest: int  # pitch, drums left out; 127 if there are only drums
    highest: int  # 0 if there are only drums
    dropped: int
    clipped: int
    displaced: int
    onset_error: float
    duration_error: float
    clipped_tempos: int
    token_types: list[int]  # number of ids of each of ``TOKEN_TYPES``
    digest: str  # hash of the ids, in the piece's own key


class Document(NamedTuple):
    """The encoding of one file."""

    ids: np.ndarray  # uint16[n]
    facts: Facts


def describe(ids: np.ndarray, notes: int, seconds: float, losses: Losses = NO_LOSSES) -> Facts:
    """The facts of a document in its own key, uint16[n]; what the ids themselves do not tell is given."""
    types = np.bincount(TOKEN_TYPE[ids], minlength=len(TOKEN_TYPES))
    digest = hashlib.blake2b(np.ascontiguousarray(ids).data, digest_size=16)
    return Facts(notes, seconds, *pitch_range(ids), *losses, types.tolist(), digest.hexdigest())


def encode_files(paths: Sequence[Path], workers: int = 1) -> Iterator[tuple[int, Document | str]]:
    """Encode MIDI files, in worker processes where there are many: index of the path, and its document.

    In the order in which they finish. One sentence stands in place of the document where a file cannot be
    read, has no notes or is too long.
    """
    tasks = list(enumerate(paths))
    workers = min(workers, len(paths) // _FILES_PER_WORKER)
    if workers < 2:
        yield from map(_encode_file, tasks)
        return
    for (index, _), result in run_isolated(_encode_file, tasks, workers=workers, chunk=_FILES_AT_A_TIME):
        yield (index, result.detail) if isinstance(result, Lost) else result


def _encode_file(task: tuple[int, Path]) -> tuple[int, Document | str]:
    index, path = task
    try:
        encoding = encode_measured(load_score(path))
    except BadMidi as error:
        return index, error.detail
    except ValueError as error:
        return index, f"{path}: {error}"
    if not len(encoding.ids):
        return index, f"{path}: The piece has no notes."
    ids, notes, seconds, losses = encoding
    return index, Document(ids, describe(ids, notes, seconds, losses))
