"""Bytes of a MIDI file to a symusic score: unwrapping, repair, and a verdict where neither helps."""

import errno
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from symusic.core import ScoreTick

from music_assets.foundation.midi.errors import BadMidi

MAXIMUM_BYTES = 16 << 20
"""Largest file that is opened."""
MAXIMUM_UNPACKED_BYTES = 32 << 20
"""Largest MIDI that may come out of a gzip file."""
COMPILED = "music_assets.foundation.midi.smf"
"""Imported where the first file is read, since that takes most of a second: what workers should begin with."""

_HEADER = b"MThd"
_FOREIGN = {
    b"<": "a web page",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"Fina": "a Finale score",
    b"\x00\x05\x16\x07": "a macOS resource fork",
}


@dataclass(frozen=True)
class Reading:
    """A parsed file and what had to be done to parse it (sentences, usually none)."""

    score: ScoreTick
    repairs: tuple[str, ...]


def load_score(path: Path) -> ScoreTick:
    """The score of a MIDI file, times in ticks.

    Raises :class:`BadMidi`, and OSError as :func:`load_bytes` does. The parser is native code fed with untrusted
    bytes: call this in a worker process for files that no scan has found to be ``ok``.
    """
    try:
        return read_score(load_bytes(path)).score
    except BadMidi as error:
        raise BadMidi(error.verdict, f"{path}: {error.detail}") from None


def load_bytes(path: Path) -> bytes:
    """The bytes of a file that is not larger than ``MAXIMUM_BYTES``.

    Raises :class:`BadMidi` for a larger one, and OSError, which names the file and says nothing of what it holds, if
    it cannot be read now.
    """
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            # as large as needed: room for the largest file costs more time than the reading
            data = file.read(min(before.st_size, MAXIMUM_BYTES) + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise OSError(errno.EBUSY, "Written to while it was read", str(path))
    if len(data) > MAXIMUM_BYTES:
        raise BadMidi("too large", f"The file has more than {MAXIMUM_BYTES >> 20} MiB.")
    return data


def read_score(data: bytes) -> Reading:
    """Parse the bytes of a MIDI file, also inside gzip, a RIFF (.rmi) or a MacBinary wrapper.

    What :func:`music_assets.foundation.midi.smf.clean` puts right is reported as a repair. Raises :class:`BadMidi`.
    """
    from music_assets.foundation.midi.smf import clean  # see COMPILED

    data, repairs = unwrapped(data)
    data, mended = clean(data)
    try:
        score = ScoreTick.from_midi(data)
    except RuntimeError as error:
        raise BadMidi("unreadable", f"The parser says: {error}.") from None
    return Reading(score, (*repairs, *mended))


def unwrapped(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The MIDI file in some bytes, from its header on, and what had to be done. Raises BadMidi if there is none."""
    if not data:
        raise BadMidi("empty file", "The file has no bytes.")
    data, repairs = _unwrap(data)
    if not data.startswith(_HEADER):
        kind = next((name for magic, name in _FOREIGN.items() if data.startswith(magic)), "no known wrapper")
        raise BadMidi("not MIDI", f"The file starts with {data[:4]!r} and not with {_HEADER!r}: {kind}.")
    return data, repairs


def _unwrap(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    if data.startswith(b"\x1f\x8b"):
        data, repairs = _unwrap(_gunzip(data))
        return data, ("Unpacked from gzip.", *repairs)
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        return _riff_data(data), ("Unwrapped from RIFF.",)
    # MacBinary puts 128 bytes before the file, some mail gateways a few lines
    start = data.find(_HEADER, 0, 1024)
    if start > 0:
        return data[start:], (f"Skipped {start} bytes before the MIDI header.",)
    return data, ()


def _gunzip(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(data, MAXIMUM_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise BadMidi("unreadable", f"The gzip data is damaged ({error}).") from None
    if len(unpacked) > MAXIMUM_UNPACKED_BYTES:
        raise BadMidi("too large", f"The file unpacks to more than {MAXIMUM_UNPACKED_BYTES >> 20} MiB.")
    if not unpacker.eof:
        raise BadMidi("truncated", "The gzip data ends too early.")
    if unpacked.startswith(b"\x1f\x8b"):
        raise BadMidi("not MIDI", "The file is gzip inside gzip.")
    return unpacked


def _riff_data(data: bytes) -> bytes:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            return data[position : position + size]
        position += size + size % 2
    raise BadMidi("not MIDI", "The RIFF file has no data chunk.")
