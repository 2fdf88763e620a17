"""What is done to an upload in a process that may die; imports little, so that such a process begins soon."""

from pathlib import Path

from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import load_bytes, read_score
from music_assets.tokens.remi import TooLong, encode


def why_not(path: Path) -> str | None:
    """Why a file cannot be worked on, one sentence; None if it can."""
    try:
        found = len(encode(read_score(load_bytes(path)).score))
    except BadMidi as error:
        return error.detail
    except TooLong as error:
        return str(error)
    return None if found else "It has no notes."
