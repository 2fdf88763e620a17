"""MIDI files that people bring."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from symusic.core import ScoreTick

from music_assets.app.checking import why_not
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.isolation import WorkerFailure, run_isolated
from music_assets.foundation.midi.reading import COMPILED, read_score
from music_assets.generation.source import SourceFile
from music_assets.generation.task import BadRequest

MOST_BYTES = 1 << 20
"""Largest file that is taken: several times what a long song has, and drawn in a second."""
_LONGEST_NAME = 80
_PLAIN = frozenset(" ._-+()[]',&#")


@dataclass(frozen=True)
class Source:
    """A file that was found to be sound, as its owner calls it."""

    name: str
    data: bytes
    bars: int
    programs: frozenset[int]
    """Those that play, 128 for drums."""

    @cached_property
    def score(self) -> ScoreTick:
        """The music, ticks of the file."""
        return read_score(self.data).score

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """The file for as long as it takes to read it; where it lay is told to nobody."""
        with on_disk(self.name, self.data) as path:
            yield path

    def changed(self, data: bytes) -> "Source":
        """The file after it was continued or filled."""
        with on_disk(self.name, data) as path:
            return _source(path, data)


def receive(path: Path) -> Source:
    """Take a file that a person has sent.

    Its bytes are first read in a process of their own: they may be made to harm the one that reads them.

    Raises:
        BadRequest: it is too large, or no music can be read from it.
    """
    name = plain_name(path.name)
    if path.stat().st_size > MOST_BYTES:
        raise BadRequest(f"{name} has more than {MOST_BYTES >> 20} MiB: choose a smaller file.")
    data = path.read_bytes()
    with on_disk(name, data) as copy:
        ((_, why),) = run_isolated(why_not, [copy], workers=1, preload=[COMPILED])
        if why is not None:
            detail = why.detail if isinstance(why, WorkerFailure) else why
            raise BadRequest(f"{name} cannot be read: {detail}")
        return _source(copy, data)


def _source(path: Path, data: bytes) -> Source:
    found = SourceFile(str(path))
    return Source(path.name, data, found.bars, found.programs)


@contextmanager
def on_disk(name: str, data: bytes) -> Iterator[Path]:
    """A file with some bytes, for as long as it takes to read it.

    Raises:
        BadRequest: in the place of what a user can mend, without the folder.
    """
    with tempfile.TemporaryDirectory(prefix="music-assets-") as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            yield path
        except MusicAssetsError as error:
            raise BadRequest(str(error).replace(f"{folder}{os.sep}", "")) from None


def plain_name(name: str) -> str:
    """A name that is safe to show, to type in a command and to give a file."""
    kept = "".join(letter if letter.isalnum() or letter in _PLAIN else "_" for letter in name).lstrip(".-")
    path = Path(kept or "music")
    return f"{path.stem[:_LONGEST_NAME]}{path.suffix[:8]}"
