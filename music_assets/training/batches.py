"""Training batches: rows of whole prompts and pieces, without padding, drawn from memory-mapped shards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary

IGNORED = -100  # target that costs nothing; PyTorch's default ``ignore_index``


class NoTrainingData(ValueError):
    """No piece to train on."""


@dataclass(frozen=True)
class _Source:
    """The training documents of one shard."""

    shard: Shard
    rows: np.ndarray  # int64[n]
    ends: np.ndarray  # int64[n], cumulative tokens


class Batches:
    """Draws batches from the training pieces of some shards; batch ``n`` is a function of the seed and ``n``.

    A row is `prompt, tokens, EOS, prompt, tokens, ...`, cut at its length. Its first piece starts at its
    beginning or at a random bar line, the following ones at their beginning. Genres are drawn by temperature,
    the original key by its share and the other transpositions evenly, pieces by length.
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
        """``length`` is the number of tokens in a row.

        Raises:
            NoTrainingData: no shard holds a training piece.
        """
        self.vocabulary = vocabulary
        self.batch_size = batch_size
        self.length = length
        self.genre_dropout = genre_dropout
        self.seed = seed
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
        share = tokens ** (1 / genre_temperature)
        self._genre_ends = np.cumsum(share)
        self._source_ends = {
            genre: np.cumsum(_source_shares(sources, original_share)) for genre, sources in self._sources.items()
        }
        self._bar = vocabulary.ranges["Bar"].start
        self._unscored = np.zeros(vocabulary.size, dtype=bool)
        self._unscored[[vocabulary.bos, *vocabulary.ranges["Genre"]]] = True

    def __call__(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``n``: ids and targets, int64[batch_size, length]; the prompts' targets are ``IGNORED``."""
        random = np.random.default_rng((self.seed, n))
        rows = np.stack([self._row(random) for _ in range(self.batch_size)])
        targets = rows[:, 1:].copy()
        targets[self._unscored[targets]] = IGNORED
        return rows[:, :-1], targets

    def _row(self, random: np.random.Generator) -> np.ndarray:
        """int64[length + 1]; the additional one is the last target."""
        row = np.empty(self.length + 1, dtype=np.int64)
        filled = 0
        while filled <= self.length:
            prompt, document = self._draw(random)
            if filled == 0:
                document = document[self._start(document, random) :]
            for part in (prompt, document, [self.vocabulary.eos]):
                part = part[: self.length + 1 - filled]
                row[filled : filled + len(part)] = part
                filled += len(part)
        return row

    def _draw(self, random: np.random.Generator) -> tuple[list[int], np.ndarray]:
        genre = self.genres[_choose(self._genre_ends, random)]
        sources = self._sources[genre]
        source = sources[_choose(self._source_ends[genre], random)]
        piece = _choose(source.ends, random)
        named = random.random() >= self.genre_dropout
        return self.vocabulary.prompt(genre if named else None), source.shard.document(int(source.rows[piece]))

    def _start(self, document: np.ndarray, random: np.random.Generator) -> int:
        """The bar line before a random place; a place up to a row before the piece gives its beginning."""
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


def _choose(ends: np.ndarray, random: np.random.Generator) -> int:
    """An index, by chances whose running sums are ``ends``."""
    return int(np.searchsorted(ends, random.random() * ends[-1], "right"))
