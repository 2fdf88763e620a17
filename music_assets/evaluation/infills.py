"""Whether infills fit: bars of real pieces are cut out and written again, and held against what stood there."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.controls import key_of, share_in_scale
from music_assets.evaluation.distances import jensen_shannon
from music_assets.evaluation.features import STEPS_PER_BEAT
from music_assets.evaluation.ngram import NGram
from music_assets.evaluation.pieces import Piece, in_turn
from music_assets.evaluation.resampling import Estimate, bootstrap_weights, resampled_mean
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.midi.programs import DRUMS, instrument_name
from music_assets.foundation.midi.reading import read_score
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.generation.generate import each_in_threads, generate
from music_assets.generation.request import make_request
from music_assets.models.registry import find_architecture
from music_assets.tokens.infill import cut
from music_assets.tokens.remi import NoteArray, decode, encode, notes
from music_assets.tokens.vocabulary import RANGES, SIZE, Vocabulary
from music_assets.training.scoring import token_nats

LENGTHS = (1, 2, 4, 8)
"""Bars of the spans, in turn."""
ALL, ONE = "all instruments", "one instrument"
BITS, BOTH_SIDES, PAST = "bits per note of the true filling", "given both sides", "given the past"
FILLINGS = ("network", "n-gram", "bar before", "bar after", "nothing")
"""What stands in a span: what the network writes, what an n-gram goes on with, the bar before or behind it again and
again, or nothing."""
NGRAM_ORDER, NGRAM_TOKENS = 6, 2_000_000
_BAR, _FILL = RANGES["Bar"].start, Vocabulary().fill

Place = tuple[int, int, int, int]
"""Of a note: bar of the span, position in it in twelfths of a quarter note, pitch, program."""


class Span(NamedTuple):
    """Bars of a piece, or one program in them, that are written anew."""

    piece: Piece
    first: int  # bar, counted from 0
    bars: int
    program: int | None  # the only one that is written, None for all


@dataclass(frozen=True)
class Fit:
    """One measure of one kind of filling, over the spans that define it."""

    spans: str  # ALL or ONE
    measure: str
    filling: str
    count: int  # of spans
    estimate: Estimate


@dataclass(frozen=True)
class InfillReport:
    """A row a kind of span, measure and filling.

    ``context_notes`` are the notes around all spans, ``context_lost`` those of them that the filled files do not have,
    and ``context_added`` notes outside the spans that the pieces do not have.
    """

    rows: list[Fit]
    context_notes: int
    context_lost: int
    context_added: int

    def row(self, spans: str, measure: str, filling: str) -> Fit:
        """One row of the table."""
        return next(row for row in self.rows if (row.spans, row.measure, row.filling) == (spans, measure, filling))


def note_f1(true: set[Place], made: set[Place]) -> float:
    """Harmonic mean of precision and recall of notes at their places, in [0, 1]; lengths and loudness do not count. NaN
    where nothing stood there."""
    return 2 * len(true & made) / (len(true) + len(made)) if true else float("nan")


def pitch_class_distance(true: set[Place], made: set[Place]) -> float:
    """Jensen-Shannon divergence of the pitch classes of all notes but drums, in bits, 0 to 1: 1 also where nothing is
    played in place of something; NaN where nothing stood there."""
    of_true, of_made = (
        np.bincount([pitch % 12 for _, _, pitch, program in of if program != DRUMS], minlength=12)
        for of in (true, made)
    )
    if not of_true.any():
        return float("nan")
    return float(jensen_shannon(of_true, of_made)) if of_made.any() else 1.0


def groove_distance(true: set[Place], made: set[Place]) -> float:
    """1 less the share of the sixteenths with an onset in either that have one in both (Jaccard), in [0, 1]; NaN where
    nothing stood there."""
    of_true, of_made = ({(bar, position * STEPS_PER_BEAT // 12) for bar, position, _, _ in of} for of in (true, made))
    return 1 - len(of_true & of_made) / len(of_true | of_made) if of_true else float("nan")


def infill_report(
    checkpoint: Checkpoint, training: Sequence[Piece], held_out: Sequence[Piece], settings: EvaluationSettings
) -> InfillReport:
    """Fill ``settings.infill_spans`` spans of held-out pieces, a genre after the other, half of them one instrument of
    several; the true filling also costs bits, given both sides and given what is before alone.

    Shares in key are of the scale of the key that the rest of the piece is in. Bits are of the spans of all instruments
    whose infill is no longer than what the network sees. The n-gram is of ``NGRAM_ORDER`` tokens, counted in training
    pieces of ``NGRAM_TOKENS`` tokens; it writes all instruments, of which the span's count. Intervals resample songs.

    Raises:
        NotMeasurable: the network does not read tokens or was trained without infills, or no piece has three bars.
    """
    facts = checkpoint.facts
    if find_architecture(facts.architecture).reads != "tokens":
        raise NotMeasurable(f"A {facts.architecture} fills no gaps.")
    if facts.training.get("infill_share") == 0:
        raise NotMeasurable("The network was trained without infills.")
    spans = choose_spans(held_out, facts.genres, facts.programs, settings.infill_spans, settings.seed)
    if not spans:
        raise NotMeasurable(
            "No test piece has notes with a bar before and a bar behind them: there is nothing to fill."
        )
    with tempfile.TemporaryDirectory() as folder:

        def write(index: int) -> tuple[set[Place], NDArray[np.uint16]]:
            return _written(checkpoint, spans[index], Path(folder) / f"{index}.mid", settings.seed + index)

        written = each_in_threads(checkpoint, write, len(spans))
    around = [_around(span, of) for span, (_, of) in zip(spans, written, strict=True)]
    counted = _by_ngram(_ngram(training, facts.genres), spans, settings.seed)
    found = [_measured(span, made, by_ngram) for span, (made, _), by_ngram in zip(spans, written, counted, strict=True)]
    for values, span in zip(found, spans, strict=True):
        values |= _bits(checkpoint, span)
    weights = bootstrap_weights(
        [span.piece.group for span in spans], settings.bootstrap_rounds, np.random.default_rng(settings.seed)
    )
    rows = []
    for kind in (ALL, ONE):
        of_kind = np.array([(span.program is None) == (kind == ALL) for span in spans])
        for measure, filling in dict.fromkeys(name for values in found for name in values):
            values = np.array([one.get((measure, filling), np.nan) for one in found])
            values[~of_kind] = np.nan
            if count := int(np.isfinite(values).sum()):
                estimate = resampled_mean(values.tolist(), weights, settings.confidence)
                rows.append(Fit(kind, measure, filling, count, estimate))
    notes_around, lost, added = np.sum(around, axis=0).tolist()
    return InfillReport(rows, notes_around, lost, added)


def choose_spans(
    pieces: Sequence[Piece], genres: Sequence[str], heard: Sequence[int], count: int, seed: int
) -> list[Span]:
    """Random spans with notes, a bar before and one behind each; of ``LENGTHS`` in turn, or as long as a piece allows.

    Every second one is of one instrument, where several play that the network has heard.
    """
    spans: list[Span] = []
    for index, piece in enumerate(in_turn(pieces, genres)):
        if len(spans) == count:
            break
        random = np.random.default_rng((seed, index))
        total = len(piece.notes.bar_lengths)
        bars = min(LENGTHS[len(spans) // 2 % len(LENGTHS)], total - 2)
        starts = [first for first in range(1, total - bars) if bars > 0 and _playing(piece.notes, first, bars)]
        if not starts:
            continue
        first = starts[random.integers(len(starts))]
        playing = sorted(_playing(piece.notes, first, bars))
        able = [program for program in playing if program in heard]
        one = able[random.integers(len(able))] if len(spans) % 2 and len(playing) > 1 and able else None
        spans.append(Span(piece, first, bars, one))
    return spans


def _playing(found: NoteArray, first: int, bars: int) -> set[int]:
    inside = (found.bar >= first) & (found.bar < first + bars)
    return set(found.program[inside].tolist())


def _places(found: NoteArray, first: int = 0) -> list[Place]:
    """The place of each note, its bar counted from ``first``."""
    position = np.rint(12 * (found.onset - found.bar_starts[found.bar])).astype(int)
    columns = found.bar - first, position, found.pitch, found.program
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _of_span(span: Span, places: Sequence[Place]) -> set[Place]:
    """Those of places in a piece that are of the span, counted from its first bar."""
    return {
        (bar - span.first, *rest, program)
        for bar, *rest, program in places
        if span.first <= bar < span.first + span.bars and span.program in (None, program)
    }  # pyright: ignore[reportReturnType]


def _written(checkpoint: Checkpoint, span: Span, path: Path, seed: int) -> tuple[set[Place], NDArray[np.uint16]]:
    """What the network writes in a span, and the document of the whole file then."""
    path.write_bytes(midi_bytes(decode(span.piece.ids)))
    instrument = None if span.program is None else instrument_name(span.program)
    request = make_request(
        genre=span.piece.genre, fill_file=path, from_bar=span.first + 1, to_bar=span.first + span.bars,
        instrument=instrument, count=1, seed=seed,
    )  # fmt: skip
    (made,) = generate(checkpoint, request)
    return {*_places(notes(made.ids))}, encode(read_score(made.midi).score)


def _around(span: Span, document: NDArray[np.uint16]) -> tuple[int, int, int]:
    """Notes around a span, and those lost and added there."""
    before, after = (
        {
            place
            for place in _places(found)
            if not (span.first <= place[0] < span.first + span.bars and span.program in (None, place[3]))
        }
        for found in (span.piece.notes, notes(document))
    )
    return len(before), len(before - after), len(after - before)


def _ngram(training: Sequence[Piece], genres: Sequence[str]) -> NGram:
    """Of pieces of all genres."""
    documents, left = list[NDArray[np.uint16]](), NGRAM_TOKENS
    for piece in in_turn(training, genres):
        if left <= 0:
            break
        documents.append(piece.ids)
        left -= len(piece.ids)
    return NGram(NGRAM_ORDER, SIZE).fit(documents)


def _by_ngram(ngram: NGram, spans: Sequence[Span], seed: int) -> list[set[Place]]:
    """What an n-gram writes in spans, given what is before them."""
    beginnings = [span.piece.ids[: np.flatnonzero(span.piece.ids == _BAR)[span.first] + 1] for span in spans]
    drawn = ngram.go_on(beginnings, [span.bars for span in spans], seed)
    return [
        _of_span(span, _places(notes(np.concatenate([beginning, ids]))))
        for span, beginning, ids in zip(spans, beginnings, drawn, strict=True)
    ]


def _measured(span: Span, made: set[Place], by_ngram: set[Place]) -> dict[tuple[str, str], float]:
    """Each measure of each filling."""
    whole = span.piece.notes
    places = _places(whole)
    true = _of_span(span, places)

    def repeated(bar: int) -> set[Place]:
        of_bar = [(*rest, program) for b, *rest, program in places if b == bar and span.program in (None, program)]
        return {(number, *rest) for number in range(span.bars) for rest in of_bar}  # pyright: ignore[reportReturnType]

    fillings = dict(
        zip(
            FILLINGS,
            (made, by_ngram, repeated(span.first - 1), repeated(span.first + span.bars), set[Place]()),
            strict=True,
        )
    )
    outside = (whole.bar < span.first) | (whole.bar >= span.first + span.bars)
    key = key_of(whole, outside)
    measures: dict[str, Callable[[set[Place]], float]] = {
        "note F1": lambda of: note_f1(true, of),
        "pitch-class distance (bits)": lambda of: pitch_class_distance(true, of),
        "groove distance": lambda of: groove_distance(true, of),
        "notes in the key around": lambda of: share_in_scale(
            key, np.bincount([pitch % 12 for _, _, pitch, program in of if program != DRUMS], minlength=12)
        ),
    }
    return {
        **{(measure, name): of(filling) for measure, of in measures.items() for name, filling in fillings.items()},
        ("notes in the key around", "original"): measures["notes in the key around"](true),
    }


def _bits(checkpoint: Checkpoint, span: Span) -> dict[tuple[str, str], float]:
    """Bits per note of the true filling of all instruments, given both sides and given what is before alone.

    Both see as many bars as fit into the network's context with what is behind; of nothing if the infill does not.
    """
    if span.program is not None:
        return {}
    ids = span.piece.ids
    lines = np.append(np.flatnonzero(ids == _BAR), len(ids))
    room = checkpoint.token_network.config.context - len(checkpoint.vocabulary.prompt(span.piece.genre))
    begin, end, last = span.first, span.first + span.bars, len(lines) - 1
    behind = end

    def size(first: int, final: int) -> int:
        return int(lines[final] - lines[first]) + span.bars + 1

    while True:  # a bar before, then a bar behind, as long as there is room
        earlier = begin > 0 and size(begin - 1, behind) < room
        begin -= earlier
        later = behind < last and size(begin, behind + 1) < room
        behind += later
        if not earlier and not later:
            break
    if begin == span.first or behind == end:
        return {}
    part = ids[lines[begin] : lines[behind]]
    given = cut(part, span.first - begin, span.bars)
    network, vocabulary = checkpoint.token_network, checkpoint.vocabulary
    both, past = token_nats(network, vocabulary, [given, part], span.piece.genre)
    place = int(np.flatnonzero(given == _FILL)[0]) + 1
    start = int(lines[span.first] - lines[begin])
    length = int(lines[end] - lines[span.first])
    count = len(_of_span(span, _places(span.piece.notes))) * np.log(2)
    return {
        (BITS, BOTH_SIDES): float(both[place : place + length].sum() / count),
        (BITS, PAST): float(past[start : start + length].sum() / count),
    }
