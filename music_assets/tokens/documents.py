"""MIDI files to documents: token ids and what is worth knowing of them, in worker processes."""

import hashlib
import logging
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.isolation import WorkerFailure, run_isolated
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import COMPILED, load_bytes, read_score
from music_assets.tokens.grid import NO_LOSS, EncodingLoss
from music_assets.tokens.remi import TooLong, encode_measured
from music_assets.tokens.transposition import pitch_range
from music_assets.tokens.vocabulary import TOKEN_TYPE, TOKEN_TYPES

# Few files are worth starting processes for; small portions leave no worker idle at the end.
_FILES_PER_WORKER = 100
_FILES_AT_A_TIME = 16

_logger = logging.getLogger(__name__)


class DocumentFacts(NamedTuple):
    """What a shard says of a document beside its ids. The losses are those of :class:`~.grid.EncodingLoss`."""

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

    ids: NDArray[np.uint16]  # uint16[n]
    facts: DocumentFacts
    md5: str = ""  # of the file's bytes


class Failure(NamedTuple):
    """Why a file has no document: one sentence that names it."""

    why: str
    md5: str = ""  # of the bytes that are to blame; empty if they were not read, or not to their end
    traceback: str = ""  # of an exception that nobody foresaw, so that the code is to blame


def describe(ids: NDArray[np.integer], notes: int, seconds: float, loss: EncodingLoss = NO_LOSS) -> DocumentFacts:
    """The facts of a document in its own key, uint16[n]; what the ids themselves do not tell is given."""
    types = np.bincount(TOKEN_TYPE[ids], minlength=len(TOKEN_TYPES))
    digest = hexdigest(np.ascontiguousarray(ids).data)
    return DocumentFacts(notes, seconds, *pitch_range(ids), *loss, types.tolist(), digest)


def encode_files(paths: Sequence[Path], workers: int = 1) -> Iterator[tuple[int, Document | Failure]]:
    """Encode MIDI files, in worker processes where there are many: index of the path, and its document.

    In the order in which they finish. A file that cannot be read, has no notes, is too long or meets a bug costs
    itself and no other; a bug's traceback is logged.
    """
    tasks = list(enumerate(paths))
    workers = min(workers, len(paths) // _FILES_PER_WORKER)
    if workers < 2:
        results = ((task, _encode_file(task)) for task in tasks)
    else:
        results = run_isolated(_encode_file, tasks, workers=workers, chunk=_FILES_AT_A_TIME, preload=[COMPILED])
    for (index, path), result in results:
        if isinstance(result, WorkerFailure):
            result = Failure(f"{path}: {result.detail}")
        elif isinstance(result, Failure) and result.traceback:
            _logger.error("%s\n%s", result.why, result.traceback)
        yield index, result


def _encode_file(task: tuple[int, Path]) -> Document | Failure:
    _, path = task
    md5 = ""
    try:
        try:
            data = load_bytes(path)
        except OSError as error:
            return Failure(f"{path}: {error.strerror or error}.")
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        ids, notes, seconds, loss = encode_measured(read_score(data).score)
        if not len(ids):
            return Failure(f"{path}: The piece has no notes.", md5)
        return Document(ids, describe(ids, notes, seconds, loss), md5)
    except MemoryError:
        return Failure(f"{path}: There is not enough memory.")
    except BadMidi as error:
        return Failure(f"{path}: {error.detail}", md5)
    except TooLong as error:
        return Failure(f"{path}: {error}", md5)
    except Exception as error:  # noqa: BLE001, a bug must not cost the other files their documents
        return Failure(f"{path}: {type(error).__name__}: {error}", md5, traceback.format_exc())
