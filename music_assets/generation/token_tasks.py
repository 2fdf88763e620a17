"""Requests to networks that read tokens: music from nothing, a file that goes on, bars of one that are filled."""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from music_assets.checkpoints.storage import Checkpoint
from music_assets.foundation.midi.editing import Note
from music_assets.foundation.midi.programs import DRUMS, find_programs, instrument_name
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.generation.choice import Filters
from music_assets.generation.context import Context, Gap, Passage
from music_assets.generation.engine import Decoding, Job, write_in_threads
from music_assets.generation.request import Request
from music_assets.generation.source import SourceFile
from music_assets.generation.task import USUAL_TEMPO, BadRequest, Bar, Candidate, Ending, Task
from music_assets.models.network import TokenNetwork
from music_assets.tokens.constraints import Constraints
from music_assets.tokens.controls import control_class
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.grid import TICKS_PER_QUARTER, closest_tempo
from music_assets.tokens.infill import join
from music_assets.tokens.remi import canonical, decode, encode, notes
from music_assets.tokens.vocabulary import PROGRAMS, RANGES, TIME_SIGNATURES, Controls

NOTES_IN_BAR = 256
"""After so many notes in one bar no further position in it is begun: no request can go on for ever."""

_BAR = RANGES["Bar"].start
_COMMON_TIME, _VELOCITY = (4, 4), 80
_NO_IDS = np.empty(0, np.int64)


class _TokenTask(Task):
    """A request to a network that reads tokens."""

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        super().__init__(checkpoint, request)
        self.network: TokenNetwork = checkpoint.token_network
        self.heard = frozenset(checkpoint.facts.programs) or frozenset(range(PROGRAMS))
        for name, programs in zip(request.instruments, request.instrument_sets, strict=True):
            if not programs & self.heard:
                known = ", ".join(instrument_name(program) for program in sorted(self.heard))
                raise BadRequest(f"The network has never heard {name}: choose among {known}.")
        if request.density is not None and checkpoint.facts.training.get("control_share") == 0:
            raise BadRequest("The network was trained without controls and knows no density: leave it out.")
        if request.forgetting != Request.model_fields["forgetting"].default and not self.network.columns:
            raise BadRequest("The network has no memory and cannot forget: leave forgetting out.")
        self.controls = _controls(request)

    @property
    def decoding(self) -> Decoding:
        """How tokens are drawn."""
        asked = self.request
        filters = Filters(asked.temperature, asked.top_k, asked.top_p, asked.min_p)
        return Decoding(filters, asked.repetition_penalty, asked.forgetting, asked.guidance, asked.guidance_at_end)

    def write_on(
        self,
        contexts: Sequence[Context],
        grammar: Grammar,
        states: NDArray[np.int64],
        bars: int | None,
        begin: Sequence[int] | NDArray[np.int64] = (),
    ) -> Generator[Bar]:
        """Write so many bars on from each context, each candidate by its own random numbers."""
        job = Job(
            self.network, contexts, self.prompt, self.vocabulary.prompt(), grammar, states, bars, self.decoding,
            self.randoms, begin,
        )  # fmt: skip
        yield from write_in_threads(job)

    def prompt(self, bars: int | None) -> list[int]:
        """What is asked of the network, where so many bars follow; None if nobody knows."""
        said = None if bars is None else control_class("bars", bars)
        return self.vocabulary.prompt(self.request.genre, self.controls._replace(bars=said))

    def constraints(self) -> Constraints:
        """What a request asks of all its bars."""
        asked = self.request
        signature = asked.time_signature_index
        bars = asked.bars
        return Constraints(
            least_bars=bars or 1,
            most_bars=None if asked.length is not None else bars or asked.max_bars,
            time_signatures=None if signature is None else (signature,),
            tempos=None if asked.tempo is None else frozenset({closest_tempo(TempoTick(0, asked.tempo).mspq)}),
            instruments=asked.instrument_sets or None,
            pitch_classes=asked.pitch_classes,
            notes=asked.length,
            notes_in_bar=NOTES_IN_BAR,
        )


class Composition(_TokenTask):
    """Music from nothing, or from some notes."""

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        super().__init__(checkpoint, request)
        self.grammar = Grammar(constraints=self._known(self.constraints()))
        self._begin = self._first_notes()

    def write(self) -> Generator[Bar]:
        """See :meth:`Task.write`."""
        contexts = [Passage(_NO_IDS)] * self.request.count
        yield from self.write_on(
            contexts, self.grammar, self.grammar.initial_state(len(contexts)), self.request.bars, self._begin
        )

    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """See :meth:`Task.finish`."""
        ids = canonical(np.concatenate([_NO_IDS, *bars]))
        score = decode(ids)
        if self.request.tempo is not None and len(score.tempos):
            score.tempos[0] = TempoTick(0, self.request.tempo)  # which encodes to the same id
        return Candidate(index, ids, midi_bytes(score), self.ending(len(bars), ended))

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
        sets = self.grammar.constraints.instruments or (frozenset({0}),)
        pitched = [min(programs - {DRUMS}) for programs in sets if programs - {DRUMS}]
        signature = asked.time_signature_index
        ids = _quarter_notes(
            asked.notes,
            pitched[0],
            asked.tempo or USUAL_TEMPO,
            _COMMON_TIME if signature is None else TIME_SIGNATURES[signature],
        )
        if asked.length is None and (begun := int((ids == _BAR).sum())) > (asked.bars or asked.max_bars):
            raise BadRequest(f"The notes to begin with fill {begun} bars: ask for at least as many.")
        return ids


class Continuation(_TokenTask):
    """A file that goes on behind its last bar, or from a bar on."""

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        assert request.continue_file is not None
        super().__init__(checkpoint, request)
        self.source = SourceFile(request.continue_file)
        self.first = self.source.continued_from(request.from_bar)
        self.first_bar = self.first + 1
        signature = request.time_signature_index
        self.signature = self.source.time_signature(self.first - 1) if signature is None else signature
        asked = replace(self.constraints(), time_signatures=(self.signature,), tempos=frozenset())
        if not request.instruments:
            asked = replace(asked, instruments=(self.source.programs,), optional=True)
        self.grammar = Grammar(constraints=asked)

    def write(self) -> Generator[Bar]:
        """See :meth:`Task.write`."""
        before = self.source.document[: self.source.lines[self.first]]
        contexts = [Passage(before)] * self.request.count
        yield from self.write_on(contexts, self.grammar, self.grammar.bar_state(len(contexts)), self.request.bars)

    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """See :meth:`Task.finish`. What was written begins where the bar does; the file's notes are as they were."""
        ids = np.concatenate([_NO_IDS, *bars])
        at = int(self.source.ticks(self.first, 0)[0])
        numerator, denominator = TIME_SIGNATURES[self.signature]
        length = self.source.ticks_per_quarter * numerator * 4 // denominator
        editor = self.source.editor()
        editor.cut(at)
        editor.add(_in_file(ids, at + length * np.arange(len(bars)), self.source.ticks_per_quarter))
        if self.request.time_signature is not None:
            editor.set_time_signature(at, numerator, denominator)
        if self.request.tempo is not None:
            editor.set_tempo(at, self.request.tempo)
        return Candidate(index, ids.astype(np.uint16), editor.to_bytes(), self.ending(len(bars), ended))


class Filling(_TokenTask):
    """Bars of a file, or one instrument in them, written anew between what is before and behind them.

    A span that is too long for the network to see is filled part by part.
    """

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        assert request.fill_file is not None
        assert request.from_bar is not None
        super().__init__(checkpoint, request)
        self.source = SourceFile(request.fill_file)
        self.first_bar, last = request.from_bar, request.to_bar or request.from_bar
        if last > self.source.bars:
            name, bars = self.source.name, self.source.bars
            raise BadRequest(f"{name} has {bars} bars: fill bars from 1 to {bars}, or continue it.")
        self.first, self.count = self.first_bar - 1, last - self.first_bar + 1
        self.program = None if request.instrument is None else self._one_program(request.instrument)
        self.parts = self._parts()

    def write(self) -> Generator[Bar]:
        """See :meth:`Task.write`."""
        documents = [self.source.document] * self.request.count
        for first, bars in self.parts:
            gaps = _shared([Gap.of(document, first, bars, self.program) for document in documents])
            grammar = Grammar(constraints=self._part_constraints(first, bars))
            filled: list[list[NDArray[np.int64]]] = [[] for _ in documents]
            for bar in self.write_on(gaps, grammar, grammar.bar_state(len(gaps)), bars):
                filled[bar.row].append(bar.ids)
                last = bar.last and first + bars == self.first + self.count
                yield replace(bar, number=first - self.first + bar.number, last=last)
            documents = [
                join(np.concatenate([gap.ids, *own])).astype(np.int64) for gap, own in zip(gaps, filled, strict=True)
            ]

    def finish(self, index: int, bars: Sequence[NDArray[np.int64]], ended: bool) -> Candidate:
        """See :meth:`Task.finish`. Bars that were not written are as they were."""
        ids = np.concatenate([_NO_IDS, *bars])
        ticks = self.source.ticks(self.first, len(bars))
        editor = self.source.editor()
        editor.remove(int(ticks[0]), int(ticks[-1]), self.program)
        editor.add(_in_file(ids, ticks, self.source.ticks_per_quarter, latest=int(ticks[-1])))
        return Candidate(index, ids.astype(np.uint16), editor.to_bytes(), self.ending(len(bars), ended))

    def ending(self, bars: int, ended: bool) -> Ending:
        """See :meth:`Task.ending`."""
        return "length" if ended else "stopped"

    def _parts(self) -> list[tuple[int, int]]:
        """First bar and number of bars of each part, in which what is given and what is written fit together."""
        room = self.network.config.context // 3
        sizes = np.diff(self.source.lines)
        parts: list[tuple[int, int]] = []
        first = self.first
        end = first + self.count
        while first < end:
            bars = 1
            while first + bars < end and sizes[first : first + bars + 1].sum() <= room:
                bars += 1
            parts.append((first, bars))
            first += bars
        return parts

    def _part_constraints(self, first: int, bars: int) -> Constraints:
        signatures = tuple(self.source.time_signature(bar) for bar in range(first, first + bars))
        asked = self.request.instrument_sets
        if self.program is not None:
            instruments, optional = (frozenset({self.program}),), False
        else:
            instruments, optional = (asked, False) if asked else ((self.source.programs,), True)
        return Constraints(
            least_bars=bars, most_bars=bars, time_signatures=signatures, tempos=frozenset(),
            instruments=instruments, optional=optional, pitch_classes=self.request.pitch_classes,
            notes_in_bar=NOTES_IN_BAR,
        )  # fmt: skip

    def _one_program(self, name: str) -> int:
        """The program to fill: the file's own one of this name, or a new one."""
        wanted = find_programs(name)
        playing = wanted & self.source.programs
        if len(playing) > 1:
            names = " or ".join(instrument_name(program) for program in sorted(playing))
            raise BadRequest(f"{self.source.name} has several instruments that are called {name}: name {names}.")
        chosen = playing or wanted & self.heard
        if not chosen:
            raise BadRequest(f"The network has never heard {name}, nor does {self.source.name} play it.")
        return min(chosen)


def _controls(request: Request) -> Controls:
    """What a prompt says of the wishes; of an instrument that may be of several families it says nothing."""
    families = [{program // 8 for program in programs} for programs in request.instrument_sets]
    clear = all(len(family) == 1 for family in families)
    return Controls(
        instruments=tuple(sorted({min(family) for family in families})) if clear else (),
        tempo=None if request.tempo is None else control_class("tempo", request.tempo),
        density=None if request.density is None else control_class("density", request.density),
        key=None if request.key is None else request.parsed_key.number,
        time_signature=request.time_signature_index,
    )


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


def _in_file(ids: NDArray[np.int64], ticks: NDArray[np.int64], quarter: int, latest: int | None = None) -> list[Note]:
    """The notes of bars that begin at some ticks of a file; none lasts longer than to ``latest``."""
    made = notes(ids)
    onset = ticks[made.bar] + np.rint((made.onset - made.bar_starts[made.bar]) * quarter).astype(np.int64)
    end = onset + np.rint(made.duration * quarter).astype(np.int64)
    end = np.maximum(end if latest is None else np.minimum(end, latest), onset + 1)
    columns = (onset, end, made.pitch, made.velocity, made.program)
    return [Note(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _shared(gaps: list[Gap]) -> list[Gap]:
    """The same object for gaps that are the same, which are then read once."""
    first: dict[bytes, Gap] = {}
    return [first.setdefault(gap.ids.tobytes(), gap) for gap in gaps]
