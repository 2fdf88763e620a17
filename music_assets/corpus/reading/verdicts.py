"""One file to one row: its verdict, its facts. Runs in worker processes and imports nothing heavy."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from music_assets.corpus.reading.facts import ScoreFacts, facts
from music_assets.corpus.reading.fingerprints import fingerprint
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import load_bytes, read_score

_logger = logging.getLogger(__name__)

OK = "ok"
REFUSED = "cannot be read"
"""Verdict on a file that the system refused to open or read: a condition of the moment, which says nothing of it."""
FAULT = "reader failed"
"""Verdict on a file that meets a bug of this program; it says nothing of the file."""
MINIMUM_NOTES = 16
MAXIMUM_NOTES = 500_000
MAXIMUM_SECONDS = 3_600.0
MAXIMUM_BARS = 5_000

READER_VERSION = f"4 {hexdigest(repr(ScoreFacts.__annotations__), size=4)}"
"""Changes with the fields of ``ScoreFacts``; raise its number when one has other values. Files are then read anew."""


def examine(path: Path | str) -> dict[str, Any]:
    """``md5``, ``verdict``, ``detail`` and, where the file could be parsed, the facts of one file.

    A file that can be used has a ``fingerprint`` too (an array of uint32). ``detail`` is empty for a file that needed
    no word. Never raises for a file, but MemoryError: a bug costs
    the file that meets it, and its traceback is logged.
    """
    row: dict[str, Any] = {"verdict": OK, "detail": ""}
    try:
        data = load_bytes(Path(path))
        row["md5"] = hashlib.md5(data, usedforsecurity=False).hexdigest()
        reading = read_score(data)
        row["detail"] = " ".join(reading.repairs)
        row |= vars(facts(reading.score))
        _require_usable(row)
        row["fingerprint"] = fingerprint(reading.score)
    except BadMidi as error:
        row["verdict"] = error.verdict
        row["detail"] = f"{row['detail']} {error.detail}".strip()
    except OSError as error:
        row |= {"verdict": REFUSED, "detail": f"{error.strerror or error}."}
    except MemoryError:
        raise  # the worker's limit, which its caller knows
    except Exception as error:
        # one file must not cost the others their rows; the traceback tells of the bug
        _logger.exception("A bug of the reader, met in %s", path)
        row |= {
            "verdict": FAULT,
            "detail": f"The reader has a fault that this file meets: {type(error).__name__}: {error}.",
        }
    return row


def _require_usable(row: dict[str, Any]) -> None:
    notes, seconds, bars = row["notes"], row["seconds"], row["bars"]
    if notes == 0:
        raise BadMidi("no notes", "The file holds no note.")
    if notes < MINIMUM_NOTES:
        raise BadMidi("too few notes", f"The file holds {notes} notes, fewer than {MINIMUM_NOTES}.")
    if notes > MAXIMUM_NOTES:
        raise BadMidi("too long", f"The file holds {notes} notes, more than {MAXIMUM_NOTES}.")
    if seconds > MAXIMUM_SECONDS:
        raise BadMidi("too long", f"The music lasts {seconds:.0f} seconds, more than {MAXIMUM_SECONDS:.0f}.")
    if bars > MAXIMUM_BARS:
        raise BadMidi("too long", f"The music lasts {bars} bars, more than {MAXIMUM_BARS}.")
