"""A user's MIDI file that is continued or filled: its music as a document, and where its bars are."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.midi.editing import MidiEditor
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import load_bytes, read_score
from music_assets.generation.task import BadRequest
from music_assets.tokens.grid import bar_lines
from music_assets.tokens.remi import TooLong, encode
from music_assets.tokens.vocabulary import RANGES

_BAR, _PROGRAM, _TIME_SIGNATURE = RANGES["Bar"].start, RANGES["Program"], RANGES["TimeSig"]


class SourceFile:
    """A file that a person has named. Bars are counted from 0."""

    def __init__(self, name: str) -> None:
        """Raises BadRequest if it cannot be read, or has no notes."""
        self.name = name
        try:
            self.data = load_bytes(Path(name))
            self.score = read_score(self.data).score
            self.ticks_per_quarter = self.editor().ticks_per_quarter
            self.document: NDArray[np.int64] = encode(self.score).astype(np.int64)
        except FileNotFoundError:
            raise BadRequest(f"There is no file {name}: check its name.") from None
        except OSError as error:
            raise BadRequest(f"{name} cannot be read: {error.strerror}.") from None
        except BadMidi as error:
            raise BadRequest(f"{name} cannot be read: {error.detail}") from None
        except TooLong as error:
            raise BadRequest(f"{name} is too long to work on: {error}") from None
        if not len(self.document):
            raise BadRequest(f"{name} has no notes: choose another file.")
        self.lines: NDArray[np.int64] = np.append(np.flatnonzero(self.document == _BAR), len(self.document))
        """Where each bar begins in ``document``, and the end."""

    @property
    def bars(self) -> int:
        """Up to the one in which the last note begins."""
        return len(self.lines) - 1

    @property
    def programs(self) -> frozenset[int]:
        """The programs that play, 128 for drums."""
        return frozenset((np.unique(self.document[np.isin(self.document, _PROGRAM)]) - _PROGRAM.start).tolist())

    def time_signature(self, bar: int) -> int:
        """Of a bar, as an index of ``TIME_SIGNATURES``."""
        return int(self.document[self.lines[bar] + 1]) - _TIME_SIGNATURE.start

    def ticks(self, first: int, bars: int) -> NDArray[np.int64]:
        """Where some bars begin in the file, and where the last one ends, int64[bars + 1]."""
        return bar_lines(self.score, first + bars)[first:]

    def editor(self) -> MidiEditor:
        """The file, to be edited."""
        return MidiEditor(self.data)

    def continued_from(self, from_bar: int | None) -> int:
        """The bar to go on from: one counted from 1, or that behind the last. Raises BadRequest if there is none."""
        first = self.bars if from_bar is None else from_bar - 1
        if not 1 <= first <= self.bars:
            raise BadRequest(f"{self.name} has {self.bars} bars: continue it from bar 2 to {self.bars + 1}.")
        return first
