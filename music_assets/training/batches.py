"""Training batches: rows of whole prompts and pieces, without padding, drawn from memory-mapped shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.errors import MusicAssetsError
from music_assets.models.network import IGNORED
from music_assets.tokens import infill
from music_assets.tokens.controls import control_class, controls, hide
from music_assets.tokens.memory import NO_CANDIDATE, candidates_of
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Controls, Vocabulary

PASSAGES = (4, 8, 16, 32, 64)
"""Of the controls of a prompt one of these, at random, says how many bars they are measured on."""


class NoTrainingData(MusicAssetsError):
    """No piece to train on."""


class Batch(NamedTuple):
    """Rows to learn from; int64[B, T] each, but ``candidates`` int64[B, T, columns]."""

    ids: NDArray[np.integer]
    targets: NDArray[np.int64]  # the id that follows, or ``IGNORED``
    segment_ids: NDArray[np.int64]  # which of the row's pieces an id is of: 0, 1, 2, ...
    candidates: NDArray[np.int64]  # of `tokens.memory`, which also reads what is before the row


@dataclass(frozen=True)
class _Source:
    """The training documents of one shard."""

    shard: Shard
    rows: NDArray[np.int64]  # int64[n]
    ends: NDArray[np.int64]  # int64[n], cumulative tokens


class DrawnPiece(NamedTuple):
    genre: str
    id: str
    transposition: str
    document: NDArray[np.uint16]  # uint16[n]


class Pieces:
    """The training pieces of some shards, to draw from.

    Genres are drawn by temperature, the original key by its share and the other transpositions evenly, pieces by
    length.
    """

    def __init__(self, shards: Sequence[Shard], genre_temperature: float, original_share: float) -> None:
        """Raises NoTrainingData if no shard holds a training piece."""
        self._sources: dict[str, list[_Source]] = {}
        for shard in sorted(shards, key=lambda shard: (shard.genre, shard.transposition)):
            rows = shard.where("train")
            ends = np.cumsum(np.diff(shard.offsets)[rows])
            if len(rows) and ends[-1]:
                self._sources.setdefault(shard.genre, []).append(_Source(shard, rows, ends))
        if not self._sources:
            raise NoTrainingData("The shards hold no training piece: add MIDI files or lower the minimum a genre.")
        self.genres = sorted(self._sources)
        tokens = np.array([max(source.ends[-1] for source in self._sources[g]) for g in self.genres], float)
        self._genre_ends = np.cumsum(tokens ** (1 / genre_temperature))
        self._source_ends = {
            genre: np.cumsum(_source_shares(sources, original_share)) for genre, sources in self._sources.items()
        }

    def draw(self, random: np.random.Generator) -> DrawnPiece:
        genre = self.genres[_choose(self._genre_ends, random)]
        source = self._sources[genre][_choose(self._source_ends[genre], random)]
        row = int(source.rows[_choose(source.ends, random)])
        return DrawnPiece(genre, source.shard.piece_ids[row], source.shard.transposition, source.shard.document(row))


class Batches:
    """Draws batches from the training pieces of some shards; row ``r`` of batch ``n`` depends on the seed, n and r.

    A row is `prompt, tokens, EOS, prompt, tokens, ...`, cut at its length. Its first piece (:class:`Pieces`) starts at
    its beginning or at a random bar line, the following ones at their beginning.

    A prompt may name the genre and state controls. They are those of the next bars, as many as one of ``PASSAGES``
    says, for what is asked for is mostly short; but the number of bars counts those to the end of the piece, and the
    tempo is the whole piece's. Some pieces are presented as an infill of as many of their bars as the row has room for
    (:mod:`music_assets.tokens.infill`).

    Every id is to be predicted but what nobody could know: prompts, the marks of an infill and the program in them.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        vocabulary: Vocabulary,
        *,
        batch_size: int,
        length: int,
        columns: int = 0,
        genre_temperature: float = 1.0,
        original_share: float = 0.5,
        beginning_share: float = 0.0,
        genre_dropout: float = 0.0,
        control_share: float = 0.0,
        control_dropout: float = 0.0,
        infill_share: float = 0.0,
        memory_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        """``length`` is the number of tokens in a row, ``columns`` those of memory that the network is told; the other
        fields are those of ``TrainingSettings``.

        Raises:
            NoTrainingData: no shard holds a training piece.
        """
        self.vocabulary = vocabulary
        self.batch_size = batch_size
        self.length = length
        self.columns = columns
        self.memory_dropout = memory_dropout
        self.beginning_share = beginning_share
        self.genre_dropout = genre_dropout
        self.control_share = control_share
        self.control_dropout = control_dropout
        self.infill_share = infill_share
        self.seed = seed
        self._tempos: dict[str, int | None] = {}  # by piece
        self._pieces = Pieces(shards, genre_temperature, original_share)
        self.genres = self._pieces.genres
        self._bar = vocabulary.ranges["Bar"].start
        self._unscored = np.zeros(vocabulary.size, dtype=bool)
        marks = [vocabulary.bos, vocabulary.mask, vocabulary.fill]
        self._unscored[[*marks, *vocabulary.ranges["Genre"], *vocabulary.ranges["Control"]]] = True
        self._program = np.zeros(vocabulary.size, dtype=bool)
        self._program[list(vocabulary.ranges["Program"])] = True

    def __call__(self, n: int) -> Batch:
        """Batch ``n``, all its ``batch_size`` rows of ``length`` ids."""
        return self.rows(n)

    def rows(self, n: int, rank: int = 0, world: int = 1) -> Batch:
        """Rows ``rank``, ``rank + world``, ... of batch ``n``: the part of one of ``world`` processes."""
        count = len(range(rank, self.batch_size, world))
        ids, segment_ids = np.empty((2, count, self.length + 1), dtype=np.int64)
        candidates = np.full((count, self.length + 1, self.columns), NO_CANDIDATE, dtype=np.int64)
        for index in range(count):
            self._fill(
                ids[index],
                segment_ids[index],
                candidates[index],
                np.random.default_rng((self.seed, n, rank + index * world)),
            )
        targets = ids[:, 1:].copy()
        named = (ids[:, :-1] == self.vocabulary.mask) & self._program[targets]
        targets[self._unscored[targets] | named] = IGNORED
        return Batch(ids[:, :-1], targets, segment_ids[:, :-1], candidates[:, :-1])

    def _fill(
        self,
        ids: NDArray[np.integer],
        segment_ids: NDArray[np.int64],
        candidates: NDArray[np.int64],
        random: np.random.Generator,
    ) -> None:
        """One row, int64[length + 1], ``candidates`` [length + 1, columns]; the additional id is the last target."""
        filled = segment = 0
        while filled < len(ids):
            start = filled
            prompt, before, part = self._piece(random, len(ids) - start, first=start == 0)
            part = part[: max(len(ids) - start - len(prompt), 0)]
            filled = min(start + len(prompt) + len(part), len(ids))
            ids[start:filled] = np.concatenate([prompt, part])[: filled - start]
            if len(part) and self.columns and random.random() >= self.memory_dropout:
                candidates[filled - len(part) : filled] = candidates_of(np.concatenate([before, part]), len(before))
            segment_ids[start:filled] = segment
            segment += 1

    def _piece(
        self, random: np.random.Generator, room: int, first: bool
    ) -> tuple[list[int], NDArray[np.uint16], NDArray[np.uint16]]:
        """Of a random piece the prompt, the ids before the row, and those from there to EOS."""
        piece = self._pieces.draw(random)
        document = piece.document
        start = self._start(document, random) if first else 0
        named = random.random() >= self.genre_dropout
        controlled = random.random() < self.control_share
        prompt = self.vocabulary.prompt(
            piece.genre if named else None,
            self._shown(piece, start, random) if controlled else None,
        )
        part = document[start:]
        if random.random() < self.infill_share:
            asked = infill.draw(part, room - len(prompt) - 1, random)
            part = part if asked is None else asked
        return prompt, document[:start], np.append(part, np.uint16(self.vocabulary.eos))

    def _shown(self, piece: DrawnPiece, start: int, random: np.random.Generator) -> Controls:
        if piece.id not in self._tempos:
            self._tempos[piece.id] = controls(piece.document).tempo
        lines = start + np.flatnonzero(piece.document[start:] == self._bar)
        if not len(lines):
            return Controls()
        bars = int(random.choice(PASSAGES))
        stop = lines[bars] if bars < len(lines) else len(piece.document)
        passage = controls(piece.document[start:stop])
        to_come = passage._replace(bars=control_class("bars", len(lines)), tempo=self._tempos[piece.id])
        return hide(to_come, self.control_dropout, random)

    def _start(self, document: NDArray[np.integer], random: np.random.Generator) -> int:
        """The beginning, or the bar line before a random place; one up to a row before the piece gives that too."""
        if random.random() < self.beginning_share:
            return 0
        place = random.integers(-self.length, len(document))
        bars = np.flatnonzero(document[: max(place, 0) + 1] == self._bar)
        return int(bars[-1]) if len(bars) else 0


def _source_shares(sources: list[_Source], original_share: float) -> list[float]:
    """How often each shard of a genre is drawn; evenly, where there is not both an original and a transposed one."""
    original = [source.shard.transposition == "original" for source in sources]
    if all(original) or not any(original):
        return [1.0] * len(sources)
    moved_share = (1 - original_share) / (len(sources) - 1)
    return [original_share if is_original else moved_share for is_original in original]


def _choose(ends: NDArray[np.number], random: np.random.Generator) -> int:
    """An index, by chances whose running sums are ``ends``."""
    return int(np.searchsorted(ends, random.random() * ends[-1], "right"))
