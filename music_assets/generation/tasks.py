"""What a request comes to: music from nothing, a file that goes on, or bars of one that are filled."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from music_assets.checkpoints.storage import Checkpoint
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.midi.editing import MidiEditor, Note
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.programs import DRUMS, find_programs, instrument_name
from music_assets.foundation.midi.reading import load_bytes, read_score
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.generation.choice import Filters
from music_assets.generation.context import Gap, Passage
from music_assets.generation.engine import Bar, Decoding, write_in_threads
from music_assets.generation.request import Request
from music_assets.models.network import TokenNetwork
from music_assets.tokens.constraints import Constraints
from music_assets.tokens.controls import control_class
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.infill import join
from music_assets.tokens.remi import TICKS_PER_QUARTER, NoteArray, bar_lines, canonical, decode, encode, notes
from music_assets.tokens.vocabulary import PROGRAMS, RANGES, TIME_SIGNATURES, Controls, Vocabulary

NOTES_IN_BAR = 256
"""After so many notes in one bar no further position in it is begun: no request can go on for ever."""

_BAR, _FILL = RANGES["Bar"].start, Vocabulary().fill
_PROGRAM, _TIME_SIGNATURE, _TEMPO = (RANGES[name] for name in ("Program", "TimeSig", "Tempo"))
_COMMON_TIME, _USUAL_TEMPO, _VELOCITY = (4, 4), 120.0, 80
_NO_IDS = np.empty(0, np.int64)


Ending = Literal["network", "length", "limit", "stopped"]
"""Music ends where the network ends it, at the length that was asked for, at the most bars, or stopped by a person."""


class BadRequest(MusicAssetsError):
    """What is asked for cannot be had of this checkpoint or this file."""


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
        self.network: TokenNetwork = checkpoint.token_network
        self.vocabulary, self.request = checkpoint.vocabulary, request
        self._refuse_unheard(checkpoint)
        self.controls = _controls(request)
        self._prompt(None)  # a genre that there is none of
        secret = int(hexdigest(request.model_dump_json(exclude={"count", "seed"}), size=8), 16)
        self.randoms = [np.random.default_rng([request.seed, secret, index]) for index in range(request.count)]

    @abstractmethod
    def write(self) -> Generator[Bar]:
        """Write all candidates; whoever stops iterating stops the writing."""

    @abstractmethod
    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """A candidate of its bars, of as many as were written."""

    @property
    def decoding(self) -> Decoding:
        """How tokens are drawn."""
        asked = self.request
        filters = Filters(asked.temperature, asked.top_k, asked.top_p, asked.min_p)
        return Decoding(filters, asked.repetition_penalty, asked.guidance, asked.guidance_at_end)

    @property
    def total_bars(self) -> int | None:
        """Bars that will be written; None if nobody knows."""
        return self.request.bars

    def _prompt(self, bars: int | None) -> list[int]:
        said = None if bars is None else control_class("bars", bars)
        return self.vocabulary.prompt(self.request.genre, self.controls._replace(bars=said))

    def _constraints(self) -> Constraints:
        """What a request asks of all its bars."""
        asked = self.request
        signature = asked.time_signature_index
        bars = asked.bars
        return Constraints(
            least_bars=bars or 1,
            most_bars=None if asked.length is not None else bars or asked.max_bars,
            time_signatures=None if signature is None else (signature,),
            tempos=None if asked.tempo is None else frozenset({_nearest_tempo(asked.tempo)}),
            instruments=asked.instrument_sets or None,
            pitch_classes=asked.pitch_classes,
            notes=asked.length,
            notes_in_bar=NOTES_IN_BAR,
        )

    def _refuse_unheard(self, checkpoint: Checkpoint) -> None:
        """Refuse an instrument that was in no training piece."""
        heard = frozenset(checkpoint.facts.programs) or frozenset(range(PROGRAMS))
        for name, programs in zip(self.request.instruments, self.request.instrument_sets, strict=True):
            if not programs & heard:
                known = ", ".join(instrument_name(program) for program in sorted(heard))
                raise BadRequest(f"The network has never heard {name}: choose among {known}.")
        self.heard = heard

    def _ending(self, bars: int, ended: bool) -> Ending:
        asked = self.request
        if not ended:
            return "stopped"
        if asked.bars or asked.length:
            return "length"
        return "limit" if bars == asked.max_bars else "network"


class Composition(Task):
    """Music from nothing, or from some notes."""

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        super().__init__(checkpoint, request)
        self.grammar = Grammar(constraints=self._known(self._constraints()))
        self._begin = self._first_notes()

    def write(self) -> Generator[Bar]:
        """See :meth:`Task.write`."""
        context = Passage(_NO_IDS)
        yield from write_in_threads(
            self.network, [context] * self.request.count, self._prompt, self.vocabulary.prompt(), self.grammar,
            self.grammar.initial_state(self.request.count), self.total_bars, self.decoding, self.randoms, self._begin,
        )  # fmt: skip

    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """See :meth:`Task.finish`."""
        ids = canonical(np.concatenate([_NO_IDS, *bars]))
        score = decode(ids)
        if self.request.tempo is not None and len(score.tempos):
            score.tempos[0] = TempoTick(0, self.request.tempo)  # which encodes to the same id
        return Candidate(index, ids, midi_bytes(score), self._ending(len(bars), ended))

    def _known(self, constraints: Constraints) -> Constraints:
        """With no instruments but those that the network has heard."""
        sets = tuple(programs & self.heard for programs in self.request.instrument_sets)
        if sets or len(self.heard) == PROGRAMS:
            return replace(constraints, instruments=sets or None)
        return replace(constraints, instruments=(self.heard,), optional=True)

    def _first_notes(self) -> NDArray[np.int64]:
        """The notes to begin with, as ids."""
        asked = self.request
        if not asked.notes:
            return _NO_IDS
        sets = self.grammar.constraints.instruments
        programs = sorted(programs for programs in (sets[0] if sets else {0}) if programs != DRUMS) or [0]
        signature = asked.time_signature_index
        ids = _quarter_notes(
            asked.notes,
            programs[0],
            asked.tempo or _USUAL_TEMPO,
            _COMMON_TIME if signature is None else TIME_SIGNATURES[signature],
        )
        if asked.bars is not None and (begun := int((ids == _BAR).sum())) > asked.bars:
            raise BadRequest(f"The notes to begin with fill {begun} bars: ask for at least as many.")
        return ids


class _OfFile(Task):
    """Of a file: its document, and where its bars are."""

    def __init__(self, checkpoint: Checkpoint, request: Request, file: str) -> None:
        super().__init__(checkpoint, request)
        self.data = _load(Path(file))
        try:
            score = read_score(self.data).score
            self._editor = MidiEditor(self.data)
        except BadMidi as error:
            raise BadRequest(f"{file} cannot be read: {error.detail}") from None
        # The editor has mended what it must, and counts in the same ticks.
        self.document = encode(score).astype(np.int64)
        if not len(self.document):
            raise BadRequest(f"{file} has no notes: choose another file.")
        self.lines = np.append(np.flatnonzero(self.document == _BAR), len(self.document))
        self.bars = len(self.lines) - 1
        self._score, self._file = score, file

    def _new_notes(self, ids: NDArray[np.int64], ticks: NDArray[np.int64], latest: int | None) -> list[Note]:
        """The notes of bars, whose lines are at some ticks of the file; none lasts longer than to ``latest``."""
        made, quarter = notes(ids), self._score.tpq
        onset = ticks[made.bar] + np.rint((made.onset - made.bar_starts[made.bar]) * quarter).astype(np.int64)
        end = np.maximum(onset + np.rint(made.duration * quarter).astype(np.int64), onset + 1)
        end = end if latest is None else np.maximum(np.minimum(end, latest), onset + 1)
        columns = (onset, end, made.pitch, made.velocity, made.program)
        return [Note(*map(int, row)) for row in zip(*columns, strict=True)]


class Continuation(_OfFile):
    """A file that goes on behind its last bar, or from a bar on."""

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        assert request.continue_file is not None
        super().__init__(checkpoint, request, request.continue_file)
        self.first_bar = request.from_bar or self.bars + 1
        if not 2 <= self.first_bar <= self.bars + 1:
            raise BadRequest(f"{self._file} has {self.bars} bars: continue it from bar 2 to {self.bars + 1}.")
        self.before = self.document[: self.lines[self.first_bar - 1]]
        signature = request.time_signature_index
        if signature is None:
            signature = int(self.before[self.lines[self.first_bar - 2] + 1]) - _TIME_SIGNATURE.start
        asked = replace(self._constraints(), time_signatures=(signature,), tempos=frozenset())
        if not request.instruments:
            asked = replace(asked, instruments=(_programs(self.document),), optional=True)
        self.signature = signature
        self.grammar = Grammar(constraints=asked)

    def write(self) -> Generator[Bar]:
        """See :meth:`Task.write`."""
        yield from write_in_threads(
            self.network, [Passage(self.before)] * self.request.count, self._prompt, self.vocabulary.prompt(),
            self.grammar, self.grammar.bar_state(self.request.count), self.total_bars, self.decoding, self.randoms,
        )  # fmt: skip

    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """See :meth:`Task.finish`. What was written begins where the bar does; the file's notes are as they were."""
        ids = np.concatenate([_NO_IDS, *bars])
        at = int(bar_lines(self._score, self.first_bar - 1)[-1])
        numerator, denominator = TIME_SIGNATURES[self.signature]
        length = self._score.tpq * numerator * 4 // denominator
        editor = MidiEditor(self.data)
        editor.cut(at)
        editor.add(self._new_notes(ids, at + length * np.arange(len(bars)), None))
        if self.request.time_signature is not None:
            editor.set_time_signature(at, numerator, denominator)
        if self.request.tempo is not None:
            editor.set_tempo(at, self.request.tempo)
        return Candidate(index, ids.astype(np.uint16), editor.to_bytes(), self._ending(len(bars), ended))


class Filling(_OfFile):
    """Bars of a file, or one instrument in them, written anew between what is before and behind them.

    A span that is too long for the network to see is filled part by part.
    """

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        assert request.fill_file is not None
        assert request.from_bar is not None
        super().__init__(checkpoint, request, request.fill_file)
        self.first_bar, last = request.from_bar, request.to_bar or request.from_bar
        if last > self.bars:
            raise BadRequest(f"{self._file} has {self.bars} bars: fill bars from 1 to {self.bars}, or continue it.")
        self.count = last - self.first_bar + 1
        self.program = None if request.instrument is None else self._one_program(request.instrument)
        self.parts = self._parts()

    @property
    def total_bars(self) -> int | None:
        """See :attr:`Task.total_bars`."""
        return self.count

    def write(self) -> Generator[Bar]:
        """See :meth:`Task.write`."""
        documents = [self.document] * self.request.count
        for first, bars in self.parts:
            gaps = _shared([Gap.of(document, first, bars, self.program) for document in documents])
            grammar = Grammar(constraints=self._part_constraints(first, bars))
            filled: list[list[NDArray[np.int64]]] = [[] for _ in documents]
            for bar in write_in_threads(
                self.network, gaps, self._prompt, self.vocabulary.prompt(), grammar,
                grammar.bar_state(len(gaps)), bars, self.decoding, self.randoms,
            ):  # fmt: skip
                filled[bar.row].append(bar.ids)
                last = bar.last and first + bars == self.first_bar - 1 + self.count
                yield replace(bar, number=first - (self.first_bar - 1) + bar.number, last=last)
            documents = [
                join(np.concatenate([gap.ids, *own])).astype(np.int64) for gap, own in zip(gaps, filled, strict=True)
            ]

    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """See :meth:`Task.finish`. Bars that were not written are as they were."""
        ids = np.concatenate([_NO_IDS, *bars])
        ticks = bar_lines(self._score, self.first_bar - 1 + len(bars))[self.first_bar - 1 :]
        editor = MidiEditor(self.data)
        editor.remove(int(ticks[0]), int(ticks[-1]), self.program)
        editor.add(self._new_notes(ids, ticks, int(ticks[-1])) if len(bars) else [])
        return Candidate(index, ids.astype(np.uint16), editor.to_bytes(), self._ending(len(bars), ended))

    def _ending(self, bars: int, ended: bool) -> Ending:
        return "length" if ended else "stopped"

    def _parts(self) -> list[tuple[int, int]]:
        """First bar and number of bars of each part, in which what is given and what is written fit together."""
        room = self.network.config.context // 3
        sizes = np.diff(self.lines)
        parts, first = [], self.first_bar - 1
        end = first + self.count
        while first < end:
            bars = 1
            while first + bars < end and sizes[first : first + bars + 1].sum() <= room:
                bars += 1
            parts.append((first, bars))
            first += bars
        return parts

    def _part_constraints(self, first: int, bars: int) -> Constraints:
        signatures = self.document[self.lines[first : first + bars] + 1] - _TIME_SIGNATURE.start
        asked = self.request.instrument_sets
        if self.program is not None:
            instruments, optional = (frozenset({self.program}),), False
        else:
            instruments, optional = (asked, False) if asked else ((_programs(self.document),), True)
        return Constraints(
            least_bars=bars, most_bars=bars, time_signatures=tuple(signatures.tolist()), tempos=frozenset(),
            instruments=instruments, optional=optional, pitch_classes=self.request.pitch_classes,
            notes_in_bar=NOTES_IN_BAR,
        )  # fmt: skip

    def _one_program(self, name: str) -> int:
        """The program to fill: the file's own one of this name, or a new one."""
        wanted = find_programs(name)
        playing = wanted & _programs(self.document)
        if len(playing) > 1:
            names = " or ".join(instrument_name(program) for program in sorted(playing))
            raise BadRequest(f"{self._file} has several instruments that are called {name}: name {names}.")
        chosen = playing or wanted & self.heard
        if not chosen:
            raise BadRequest(f"The network has never heard {name}, nor does {self._file} play it.")
        return min(chosen)


def make_task(checkpoint: Checkpoint, request: Request) -> Task:
    """The task of a request.

    Raises:
        BadRequest: it cannot be done with this checkpoint or file.
        UnknownGenre: the checkpoint has no such genre.
    """
    if request.fill_file is not None:
        return Filling(checkpoint, request)
    if request.continue_file is not None:
        return Continuation(checkpoint, request)
    return Composition(checkpoint, request)


def _controls(request: Request) -> Controls:
    """What a prompt says of the wishes; of an instrument that may be of several families it says nothing."""
    families = [{16 if p == DRUMS else p // 8 for p in programs} for programs in request.instrument_sets]
    clear = all(len(family) == 1 for family in families)
    return Controls(
        instruments=tuple(sorted({min(family) for family in families})) if clear else (),
        tempo=None if request.tempo is None else control_class("tempo", request.tempo),
        density=None if request.density is None else control_class("density", request.density),
        key=None if request.key is None else request.parsed_key.number,
        time_signature=request.time_signature_index,
    )


def _nearest_tempo(quarters_a_minute: float) -> int:
    """The index in ``TEMPOS`` that the encoder gives a tempo."""
    ids = _quarter_notes([60], 0, quarters_a_minute, _COMMON_TIME)
    return int(ids[np.isin(ids, _TEMPO)][0]) - _TEMPO.start


def _quarter_notes(
    pitches: Sequence[int], program: int, quarters_a_minute: float, time_signature: tuple[int, int]
) -> NDArray[np.int64]:
    """The document of quarter notes one after the other."""
    score = ScoreTick(TICKS_PER_QUARTER)
    score.tempos.append(TempoTick(0, quarters_a_minute))
    score.time_signatures.append(TimeSignatureTick(0, *time_signature))
    track, length = TrackTick("", program, False), TICKS_PER_QUARTER
    for number, pitch in enumerate(pitches):
        track.notes.append(NoteTick(number * length, length, pitch, _VELOCITY))
    score.tracks.append(track)
    return encode(score).astype(np.int64)


def _programs(document: NDArray[np.int64]) -> frozenset[int]:
    """The programs in a document."""
    return frozenset((np.unique(document[np.isin(document, _PROGRAM)]) - _PROGRAM.start).tolist())


def _shared(gaps: list[Gap]) -> list[Gap]:
    """The same object for gaps that are the same, which are then read once."""
    first: dict[bytes, Gap] = {}
    return [first.setdefault(gap.ids.tobytes(), gap) for gap in gaps]


def _load(path: Path) -> bytes:
    """The bytes of a file that a person has named."""
    try:
        return load_bytes(path)
    except FileNotFoundError:
        raise BadRequest(f"There is no file {path}: check its name.") from None
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from None
    except BadMidi as error:
        raise BadRequest(f"{path} cannot be read: {error.detail}") from None
