"""How much of a sample was lifted from a training piece: the longest melodic run they share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from music_assets.evaluation.arrays import Integers
from music_assets.evaluation.features import DRUMS, windows
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.resampling import Estimate, proportion
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.hashing import scatter
from music_assets.tokens.remi import NoteArray

LONGEST_PERIOD = 4
RATIO_STEPS = 12  # of an octave of tempo: tells 4:3 from 3:2
FARTHEST_RATIO = 60
PERCENTILE = 95
BREAK = 0  # the symbol between two melodies

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_TRAINING_BREAK, _QUERY_BREAK = 0x5851F42D4C957F2D, 0x14057B7EF767814F
_FILTER_BITS = 22


@dataclass(frozen=True)
class Melody:
    """A piece's melodic steps. ``symbols`` int64[n], 0 between two lines; ``begin`` and ``end``
    float64[n] are the onsets in beats of the first and the last of the three notes that make a symbol.
    """

    symbols: NDArray[np.int64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.symbols)


@dataclass(frozen=True)
class CopyCase:
    """The longest run of one sample and where it stands in training; spans are (first, last) onset in
    beats.
    """

    sample: str
    genre: str
    run: int
    sample_beats: tuple[float, float]
    piece_id: str
    piece_beats: tuple[float, float]


@dataclass(frozen=True)
class GenreCopying:
    """Longest runs of one genre: of every sample, and of held-out real excerpts as long as the samples.

    ``threshold`` is the held-out 95th percentile and ``share_above`` the share of samples beyond it (Wilson
    interval), which is about 5% for a model that copies no more than a composer does.
    """

    genre: str
    generated: Integers
    held_out: Integers
    threshold: float
    share_above: Estimate


@dataclass(frozen=True)
class CopyReport:
    """Copying by genre and over all samples, and the longest cases; ``left_out`` lists the genres without a
    held-out piece, whose samples are not judged."""

    genres: tuple[GenreCopying, ...]
    share_above: Estimate
    cases: tuple[CopyCase, ...]
    training_pieces: int
    training_symbols: int
    left_out: tuple[str, ...]


def melody(notes: NoteArray) -> Melody:
    """The piece as (interval, log2 inter-onset ratio) symbols, the same in every key and at every tempo.

    Of every program but drums the highest note of each onset makes a line. A symbol joins three notes of
    it: the interval of the last two, and the ratio of their gap to the gap before, in twelfths of an
    octave. A symbol that goes on with a pattern of one to four symbols already heard twice in a row
    (trills, repeated notes, broken chords) is dropped, for such runs are shared by music that shares
    nothing else.
    """
    pitched = notes.program != DRUMS
    program, onset, pitch = notes.program[pitched].astype(int), notes.onset[pitched], notes.pitch[pitched]
    order = np.lexsort((pitch, onset, program))
    program, onset, pitch = program[order], onset[order], pitch[order].astype(np.int64)
    highest = np.append((np.diff(program) != 0) | (np.diff(onset) > 1e-6), True)[: len(pitch)]
    program, onset, pitch = program[highest], onset[highest], pitch[highest]
    if len(pitch) < 3:
        return Melody(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))

    one_line = program[2:] == program[:-2]
    gaps = np.where(np.diff(program) == 0, np.diff(onset), 1.0)
    ratio = np.rint(RATIO_STEPS * np.log2(gaps[1:] / gaps[:-1])).astype(np.int64)
    ratio = np.clip(ratio, -FARTHEST_RATIO, FARTHEST_RATIO) + FARTHEST_RATIO
    interval = np.diff(pitch)[1:] + 128
    symbols = np.where(one_line, 1 + ratio * 256 + interval, BREAK)
    kept = ~_is_repetition(symbols)
    return Melody(symbols[kept], onset[:-2][kept], onset[2:][kept])


def longest_runs(queries: Sequence[Melody], training: Sequence[Melody]) -> NDArray[np.int64]:
    """Length in symbols of the longest run that each query shares with any training melody, int64[queries].

    If a run of k symbols is shared, so is one of k − 1: the length is found by bisection, each step one pass
    over 64-bit hashes of all training runs of k symbols.
    """
    return _Search(queries, training).longest()


def copy_report(
    training: Iterable[Piece], held_out: Sequence[Piece], samples: Sequence[Piece], settings: EvaluationSettings
) -> CopyReport:
    """Longest runs that ``samples`` share with the ``training`` pieces, against those of ``held_out`` pieces.

    A held-out piece gives up to ``excerpts_per_piece`` windows of as many bars as the genre's median sample,
    because a longer piece shares longer runs. The training pieces are held as symbols only.

    Raises:
        NotMeasurable: no sample is of a genre that has a held-out piece.
    """
    genres = sorted({sample.genre for sample in samples} & {piece.genre for piece in held_out})
    left_out = tuple(sorted({sample.genre for sample in samples} - set(genres)))
    samples = [sample for sample in samples if sample.genre in genres]
    if not samples:
        raise NotMeasurable("Copying is judged beside test pieces of the samples' genres, and there are none.")
    pieces = [(piece.name, melody(piece.notes)) for piece in training]
    references: list[tuple[str, Melody]] = []
    for genre in genres:
        bars = [len(sample.notes.bar_starts) for sample in samples if sample.genre == genre]
        length = max(int(np.median(bars)), 1)
        for notes in (piece.notes for piece in held_out if piece.genre == genre):
            excerpts = windows(notes, length, settings.excerpts_per_piece) or [notes]
            references += [(genre, melody(part)) for part in excerpts]
    made = [(sample.genre, melody(sample.notes)) for sample in samples]
    search = _Search([lines for _, lines in made + references], [lines for _, lines in pieces])
    runs = search.longest()
    labels = np.array([genre for genre, _ in made + references])
    is_sample = np.arange(len(runs)) < len(made)

    found, above = [], np.zeros(len(made), bool)
    for genre in genres:
        generated, real = runs[is_sample & (labels == genre)], runs[~is_sample & (labels == genre)]
        threshold = float(np.percentile(real, PERCENTILE))
        above[labels[: len(made)] == genre] = generated > threshold
        found.append(
            GenreCopying(genre, generated, real, threshold, proportion(generated > threshold, settings.confidence))
        )
    cases = []
    for index in np.argsort(-runs[: len(made)], kind="stable")[: settings.worst_copies]:
        run = int(runs[index])
        if run == 0:
            break
        in_sample, piece, in_piece = search.locate(int(index), run)
        piece_id, lines = pieces[piece]
        cases.append(
            CopyCase(
                samples[index].name,
                samples[index].genre,
                run,
                _span(made[index][1], in_sample, run),
                piece_id,
                _span(lines, in_piece, run),
            )
        )
    return CopyReport(
        tuple(found),
        proportion(above, settings.confidence),
        tuple(cases),
        len(pieces),
        search.training_symbols,
        left_out,
    )


class _Search:
    """Queries and training melodies end to end, with the prefix sums that hash any run in one step."""

    def __init__(self, queries: Sequence[Melody], training: Sequence[Melody]) -> None:
        self.queries = _Runs([lines.symbols for lines in queries], _QUERY_BREAK)
        self.training = _Runs([lines.symbols for lines in training], _TRAINING_BREAK)
        self.training_symbols = sum(len(lines) for lines in training)
        self.lengths = np.array([len(lines) for lines in queries], np.int64)

    def longest(self) -> NDArray[np.int64]:
        runs = np.zeros(len(self.lengths), np.int64)
        # Every query in `asked` shares a run of `low` symbols and none of `high`.
        pending = [(np.arange(len(runs)), 0, int(self.lengths.max(initial=0)) + 1)]
        while pending:
            asked, low, high = pending.pop()
            if not len(asked):
                continue
            if high - low == 1:
                runs[asked] = low
                continue
            middle = (low + high) // 2
            shares = self._sharing(middle)[asked]
            pending += [(asked[shares], middle, high), (asked[~shares], low, middle)]
        return runs

    def locate(self, query: int, run: int) -> tuple[int, int, int]:
        """Place in the query, training melody and place in it, of the first shared run of ``run`` symbols."""
        first, last = self.queries.starts[query], self.queries.starts[query + 1] - run
        wanted, place_of = np.unique(self.queries.hashes(run)[first:last], return_index=True)
        positions, found = _occurrences(wanted, self.training.hashes(run))
        earliest = np.lexsort((positions, place_of[found]))[0]
        place, position = int(place_of[found[earliest]]), int(positions[earliest])
        piece = int(np.searchsorted(self.training.starts, position, side="right")) - 1
        return place, piece, position - int(self.training.starts[piece])

    def _sharing(self, run: int) -> NDArray[np.bool_]:
        """Which queries share some run of ``run`` symbols."""
        wanted, place = np.unique(self.queries.hashes(run), return_inverse=True)
        hit = np.zeros(len(wanted), bool)
        hit[_occurrences(wanted, self.training.hashes(run))[1]] = True
        owners = np.searchsorted(self.queries.starts, np.flatnonzero(hit[place]), side="right") - 1
        sharing = np.zeros(len(self.lengths), bool)
        sharing[owners] = True
        return sharing


def _occurrences(wanted: NDArray[np.uint64], known: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in ``known`` whose hash is in ``wanted`` (sorted, each once), and where in ``wanted`` it is."""
    # A bitmap of the wanted hashes' leading bits leaves few of the millions to look up.
    shift = np.uint64(64 - _FILTER_BITS)
    filled = np.zeros(1 << _FILTER_BITS, bool)
    filled[wanted >> shift] = True
    places = np.flatnonzero(filled[known >> shift])
    index = np.searchsorted(wanted, known[places])
    same = wanted[np.minimum(index, len(wanted) - 1)] == known[places]
    return places[same], index[same]


class _Runs:
    """Symbol sequences end to end, a break after each; ``starts`` has one more entry than there are
    sequences.
    """

    def __init__(self, sequences: Sequence[NDArray[np.int64]], break_value: int) -> None:
        self.starts = np.concatenate([[0], np.cumsum([len(symbols) + 1 for symbols in sequences])]).astype(int)
        joined = np.full(self.starts[-1], BREAK, np.int64)
        for start, symbols in zip(self.starts[:-1], sequences, strict=True):
            joined[start : start + len(symbols)] = symbols
        values = np.where(joined == BREAK, np.uint64(break_value), scatter(joined.astype(np.uint64)))
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values * _powers(_BASE, len(values)))])
        self._shifts = _powers(pow(_BASE, -1, 1 << 64), len(values))

    def hashes(self, run: int) -> NDArray[np.uint64]:
        """Hash of the ``run`` symbols from every place on: Σ value_j · base^j, modulo 2^64."""
        count = max(len(self._shifts) - run + 1, 0)
        return (self._sums[run : run + count] - self._sums[:count]) * self._shifts[:count]


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """1, base, base², ... modulo 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def _is_repetition(symbols: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the last p symbols equal the p before them, for some p of 1 to 4."""
    repeated = np.zeros(len(symbols), bool)
    for period in range(1, LONGEST_PERIOD + 1):
        same = np.zeros(len(symbols), bool)
        same[period:] = (symbols[period:] == symbols[:-period]) & (symbols[period:] != BREAK)
        whole = same.copy()
        for back in range(1, period):
            whole[back:] &= same[:-back]
            whole[:back] = False
        repeated |= whole
    return repeated


def _span(lines: Melody, place: int, run: int) -> tuple[float, float]:
    return float(lines.begin[place]), float(lines.end[place + run - 1])
