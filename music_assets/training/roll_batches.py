"""Piano rolls to learn from, and whole ones to score, of the same pieces as token batches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from music_assets.models.roll_rnn import NO_GENRE, PLANES, genre_number
from music_assets.tokens import rolls as pianoroll
from music_assets.tokens.remi import notes
from music_assets.tokens.rolls import KEYS, STEPS_PER_QUARTER
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import DURATIONS, POSITIONS_PER_BEAT, RANGES, TIME_SIGNATURES, Vocabulary
from music_assets.training.batches import Pieces

_BAR, _TIME_SIGNATURE = RANGES["Bar"].start, RANGES["TimeSig"].start
_BAR_STEPS = np.array([numerator * 4 * STEPS_PER_QUARTER // denominator for numerator, denominator in TIME_SIGNATURES])
# How long before a step a note can have begun that still sounds in it, rounded up: beats are quarters at most.
_REACH = int(DURATIONS.max()) // POSITIONS_PER_BEAT * STEPS_PER_QUARTER + 1
_BARS_AT_ONCE = 256


class RollBatch(NamedTuple):
    """Rows to learn from: part of one piece each."""

    planes: NDArray[np.bool_]  # bool[B, T, 176], the step before each target; silence before the beginning
    targets: NDArray[np.bool_]  # bool[B, T, 176]
    scored: NDArray[np.bool_]  # bool[B, T], whether the target is before the end of the piece's last bar
    genres: NDArray[np.int64]  # int64[B], as `models.roll_rnn` numbers them


class RollBatches:
    """Draws batches of piano rolls; row ``r`` of batch ``n`` depends on the seed, n and r.

    A row begins at the beginning of a piece (:class:`Pieces`) or at a random bar line.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        vocabulary: Vocabulary,
        *,
        batch_size: int,
        length: int,
        genre_temperature: float = 1.0,
        original_share: float = 0.5,
        genre_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        """``length`` is the number of steps in a row; the other fields are those of ``TrainingSettings``.

        Raises:
            NoTrainingData: no shard holds a training piece.
        """
        self.batch_size = batch_size
        self.length = length
        self.genre_dropout = genre_dropout
        self.seed = seed
        self._pieces = Pieces(shards, genre_temperature, original_share)
        self.genres = self._pieces.genres
        self._numbers = {genre: genre_number(vocabulary, genre) for genre in self.genres}

    def __call__(self, n: int) -> RollBatch:
        """Batch ``n``, all its ``batch_size`` rows of ``length`` steps."""
        return self.rows(n)

    def rows(self, n: int, rank: int = 0, world: int = 1) -> RollBatch:
        """Rows ``rank``, ``rank + world``, ... of batch ``n``: the part of one of ``world`` processes."""
        rows = range(rank, self.batch_size, world)
        planes = np.empty((len(rows), self.length + 1, PLANES), dtype=bool)
        scored = np.empty((len(rows), self.length), dtype=bool)
        genres = np.empty(len(rows), dtype=np.int64)
        for index, row in enumerate(rows):
            random = np.random.default_rng((self.seed, n, row))
            genre, _, _, document = self._pieces.draw(random)
            # The beginning is as likely as a row of 4/4 reaches before it.
            reach, bars = self.length // (4 * STEPS_PER_QUARTER), np.count_nonzero(document == _BAR)
            roll, remaining = window(document, max(0, int(random.integers(-reach, bars))), self.length)
            planes[index] = pianoroll.planes(roll)
            scored[index] = np.arange(self.length) < remaining
            genres[index] = self._numbers[genre] if random.random() >= self.genre_dropout else NO_GENRE
        return RollBatch(planes[:, :-1], planes[:, 1:], scored, genres)


def count_steps(document: NDArray[np.integer]) -> int:
    """Steps to the end of a document's last bar."""
    return int(_bars(document)[1][-1])


def whole(document: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The roll of a document from the silent step before it to the end of its last bar, uint8[1 + steps, 88]."""
    lines, starts = _bars(document)
    parts = [np.zeros((1, KEYS), dtype=np.uint8)]
    for bar in range(0, len(lines) - 1, _BARS_AT_ONCE):
        end = min(bar + _BARS_AT_ONCE, len(lines) - 1)
        parts.append(window(document, bar, int(starts[end] - starts[bar]))[0][1:])
    return np.concatenate(parts)


def window(document: NDArray[np.integer], bar: int, steps: int) -> tuple[NDArray[np.uint8], int]:
    """The roll of a document from the step before a bar on, uint8[1 + steps, 88], silent where there is none; and the
    number of steps from that bar to the end of the last one.

    It equals that part of the whole document's roll, but only the bars that sound in it are read.
    """
    lines, starts = _bars(document)
    first = max(int(np.searchsorted(starts, starts[bar] - 1 - _REACH, side="right")) - 1, 0)
    last = min(int(np.searchsorted(starts, starts[bar] + steps)), len(lines) - 1)
    part = pianoroll.encode(notes(document[lines[first] : lines[last]]))
    offset = int(starts[bar] - starts[first]) - 1  # of the step before the bar
    heard = part[max(offset, 0) : offset + 1 + steps]
    roll = np.zeros((1 + steps, KEYS), dtype=np.uint8)
    roll[max(-offset, 0) :][: len(heard)] = heard
    return roll, int(starts[-1] - starts[bar])


def _bars(document: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each bar begins, in ids and in steps, and the end; int64[bars + 1] each."""
    lines = np.append(np.flatnonzero(document == _BAR), len(document))
    steps = _BAR_STEPS[document[lines[:-1] + 1].astype(np.int64) - _TIME_SIGNATURE]
    return lines, np.concatenate([[0], np.cumsum(steps)])
