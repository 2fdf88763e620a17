"""What a request comes to, whatever the network reads."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from symusic.core import ScoreTick

from music_assets.checkpoints.storage import Checkpoint
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.midi.reading import read_score
from music_assets.generation.request import Request
from music_assets.tokens.remi import NoteArray, notes

Ending = Literal["network", "length", "limit", "stopped"]
"""Music ends where the network ends it, at the length that was asked for, at the most bars, or stopped by a person."""


USUAL_TEMPO = 120.0
"""Quarter notes a minute, where nobody says."""
REPEATED_NOTES = 32
"""How many notes back the repetition penalty looks."""


class BadRequest(MusicAssetsError):
    """What is asked for cannot be had of this checkpoint or this file."""


@dataclass(frozen=True)
class Bar:
    """A bar of one row, complete."""

    row: int
    number: int  # from 0
    ids: NDArray[np.int64]  # Bar, TimeSig, ...
    last: bool  # whether the music ends with it


@dataclass(frozen=True)
class NewBar:
    """A bar of one candidate, complete."""

    candidate: int
    number: int  # counted from 1, of the piece or the file
    ids: NDArray[np.int64]  # Bar, TimeSig, ...
    notes: NoteArray  # onsets from the bar line
    last: bool


@dataclass(frozen=True)
class Candidate:
    """One answer to a request."""

    index: int
    ids: NDArray[np.uint16]
    """All that was written; of music from nothing its canonical document, which its MIDI file encodes to again."""
    midi: bytes
    ended: Ending

    @property
    def note_count(self) -> int:
        """Notes that were written."""
        return len(notes(self.ids))

    @property
    def score(self) -> ScoreTick:
        """The music, ticks of its file."""
        return read_score(self.midi).score


class Task(ABC):
    """A request, made ready for a network; refuses what cannot be before anything is drawn."""

    first_bar = 1
    """Number of the first bar that is written."""

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        """Raises UnknownGenre or BadRequest."""
        self.vocabulary, self.request = checkpoint.vocabulary, request
        if request.genre is not None:
            self.vocabulary.genre_id(request.genre)
        names = {name: path and Path(path).name for name, path in request.files.items()}  # wherever it lies
        asked = request.model_copy(update=names).model_dump_json(exclude={"count", "seed"})
        secret = int(hexdigest(asked, size=8), 16)
        self.randoms = [np.random.default_rng([request.seed, secret, index]) for index in range(request.count)]

    @abstractmethod
    def write(self) -> Generator[Bar]:
        """Write all candidates; whoever stops iterating stops the writing."""

    @abstractmethod
    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """A candidate of its bars, of as many as were written."""

    def ending(self, bars: int, ended: bool) -> Ending:
        """How a candidate of so many bars came to its end."""
        asked = self.request
        if not ended:
            return "stopped"
        if asked.bars or asked.length:
            return "length"
        return "limit" if bars == asked.max_bars else "network"
