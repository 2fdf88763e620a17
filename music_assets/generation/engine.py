"""The one loop that writes music: rows that grow token by token, and are handed over bar by bar."""

import queue
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from music_assets.generation.choice import Filters, choose
from music_assets.generation.context import Context
from music_assets.generation.task import REPEATED_NOTES, Bar
from music_assets.models.network import TokenNetwork
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.memory import NO_CANDIDATE, Memory
from music_assets.tokens.vocabulary import RANGES, Vocabulary

_BAR, _EOS = RANGES["Bar"].start, Vocabulary().eos
_PITCHES = np.isin(np.arange(Vocabulary().size), [*RANGES["Pitch"], *RANGES["PitchDrum"]])
_PROGRAMS = np.isin(np.arange(Vocabulary().size), RANGES["Program"])
_SMALLEST_ROOM = 64


class Prompt(Protocol):
    """What precedes music: what is asked of it."""

    def __call__(self, bars: int | None) -> list[int]:
        """The ids, where so many bars follow from the first that the network sees; None if nobody knows."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How tokens are drawn."""

    filters: Filters = field(default_factory=Filters)
    repetition_penalty: float = 1.0
    """How many times less likely the pitches of the last 32 notes are made."""
    forgetting: float = 0.0
    """How often memory tells nothing but the key where a pitch comes next."""
    guidance: float = 1.0
    guidance_at_end: float | None = None
    """Of the last bar; between the first and it the scale changes evenly."""

    def scale(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of guidance, where these shares of the bars are written."""
        end = self.guidance if self.guidance_at_end is None else self.guidance_at_end
        return self.guidance + (end - self.guidance) * share

    @property
    def guided(self) -> bool:
        """Whether the network is also asked what it would write unasked."""
        return self.guidance != 1 or self.guidance_at_end not in (None, 1)


@dataclass(frozen=True)
class Job:
    """Music to be written, a row a candidate; a row depends on its own context, state and random numbers alone."""

    network: TokenNetwork
    contexts: Sequence[Context]
    prompt: Prompt
    unconditional: list[int]
    """The prompt of music that nothing is asked of."""
    grammar: Grammar
    states: NDArray[np.int64]
    """Of the grammar before the first token, int64[automata, B]."""
    bars: int | None
    """How many will be written, None if nobody knows."""
    decoding: Decoding
    randoms: Sequence[np.random.Generator]
    begin: Sequence[int] | NDArray[np.int64] = ()
    """Ids that each row begins with, without a draw."""

    @property
    def guided(self) -> bool:
        """Whether the network is also asked what it would write unasked, and that differs."""
        return self.decoding.guided and self.prompt(self.bars) != self.unconditional

    def part(self, rows: NDArray[np.int64]) -> "Job":
        """The job of some rows."""
        return replace(
            self,
            contexts=[self.contexts[row] for row in rows],
            states=self.states[:, rows],
            randoms=[self.randoms[row] for row in rows],
        )


def write(job: Job) -> Generator[Bar]:
    """Write on from each context until the grammar ends it; whoever stops iterating stops the writing."""
    rows, grammar, states, decoding = _Rows(job), job.grammar, job.states, job.decoding
    live = np.arange(len(job.contexts))
    for token in job.begin:
        tokens = np.full(len(live), token)
        yield from rows.append(live, tokens)
        states = grammar.advance(states, tokens)
    states = np.ascontiguousarray(states)
    logits, plain = rows.begin()
    while len(live):
        tokens = choose(
            logits,
            plain,
            decoding.scale(rows.progress(live)),
            grammar,
            states,
            decoding.filters,
            rows.recent[live],
            decoding.repetition_penalty,
            np.array([job.randoms[row].random() for row in live.tolist()]),
        )
        yield from rows.append(live, tokens)
        going = tokens != _EOS
        live, states = live[going], np.ascontiguousarray(states[:, going])
        if len(live):
            logits, plain = rows.read(live)


class _Rows:
    """What the network and memory know of each row; row r unasked is the decoder's row B + r."""

    def __init__(self, job: Job) -> None:
        self._contexts, self._prompt, self._unconditional, self._bars = (
            job.contexts, job.prompt, job.unconditional, job.bars,
        )  # fmt: skip
        self._room = max(job.network.config.context, len(job.prompt(1)) + _SMALLEST_ROOM)
        self._offsets = (0, len(job.contexts)) if job.guided else (0,)
        self._decoder = job.network.decoder(len(self._offsets) * len(job.contexts), self._room)
        self._memory = Memory([context.ids for context in job.contexts])
        self._columns = job.network.columns
        self._forgetting, self._randoms = job.decoding.forgetting, job.randoms
        self._begun = np.zeros(len(job.contexts), np.int64)  # bars
        self._bar = self._memory.lengths.copy()  # where the bar begins that is not complete
        self.recent = np.full((len(job.contexts), REPEATED_NOTES), -1)

    def begin(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The first logits of all rows; of rows with one context the first is read, and copied."""
        sources = _sources(self._contexts)
        read, source_of = np.unique(sources), np.array(sources)
        found = self.read(read)
        for row in np.setdiff1d(np.arange(len(source_of)), read):
            for offset in self._offsets:
                self._decoder.copy(offset + int(source_of[row]), offset + int(row))
        places = np.searchsorted(read, source_of)
        logits, plain = (logits[places] if len(logits) else logits for logits in found)
        return logits, plain

    def read(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Let the network read the last token of some rows: logits float32[n, V], and those unasked, or of no rows.

        A row without room for it, or that has not begun, begins with its prompt and a window of what is before.
        """
        places = np.concatenate([offset + rows for offset in self._offsets])
        if self._decoder.can_go_on(places).all():
            counts = np.ones(len(places), np.int64)
            ids, candidates = self._memory.latest(np.tile(rows, len(self._offsets)))
        else:
            parts = [self._part(row, offset) for offset in self._offsets for row in rows.tolist()]
            counts = np.array([len(ids) for ids, _ in parts])
            ids, candidates = (np.concatenate(column) for column in zip(*parts, strict=True))
        logits = self._decoder.advance(places, counts, ids, candidates[:, : self._columns])
        return logits[: len(rows)], logits[len(rows) :]

    def append(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> list[Bar]:
        """Write a token to each of some rows; the bars that end with it."""
        complete = [
            Bar(row, int(self._begun[row]) - 1, self._memory.ids(row)[self._bar[row] :].copy(), token == _EOS)
            for row, token in zip(map(int, rows), map(int, tokens), strict=True)
            if token in (_BAR, _EOS) and self._memory.lengths[row] > self._bar[row]
        ]
        going = tokens != _EOS
        rows, tokens = rows[going], tokens[going]
        begins = rows[tokens == _BAR]
        self._begun[begins] += 1
        self._bar[begins] = self._memory.lengths[begins]
        self._memory.append(rows, tokens)
        before_pitches = rows[_PROGRAMS[tokens]]
        draws = np.array([self._randoms[int(row)].random() for row in before_pitches])
        self._memory.forget(before_pitches[draws < self._forgetting])
        pitches = _PITCHES[tokens]
        self.recent[rows[pitches]] = np.column_stack([self.recent[rows[pitches], 1:], tokens[pitches]])
        return complete

    def progress(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of the bars that are complete, 0 where nobody knows how many there will be."""
        bars = self._bars or np.inf
        return np.maximum(self._begun[rows] - 1, 0) / max(bars - 1, 1)

    def _part(self, row: int, offset: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What the decoder is to read of a row, ids int64[n] and candidates int64[n, COLUMNS]."""
        ids, candidates = self._memory.ids(row), self._memory.candidates(row)
        if self._decoder.can_go_on(np.array([offset + row]))[0]:
            return ids[-1:], candidates[-1:]
        self._decoder.begin(offset + row)
        window = self._contexts[row].window(ids, self._room - len(self._prompt(1)))
        prompt = self._unconditional if offset else self._prompt(self._bars_from(row, ids[window]))
        unknown = np.full((len(prompt), candidates.shape[1]), NO_CANDIDATE)
        return np.append(prompt, ids[window]), np.concatenate([unknown, candidates[window]])

    def _bars_from(self, row: int, window: NDArray[np.int64]) -> int | None:
        """Bars from the first one in a window to the end of the music."""
        if self._bars is None:
            return None
        to_come = self._bars - int(self._begun[row]) + self._contexts[row].bars_behind
        return max(int((window == _BAR).sum()) + to_come, 1)


def write_in_threads(job: Job) -> Generator[Bar]:
    """:func:`write`, a thread a core on a CPU: what is written is the same."""
    threads = min(torch.get_num_threads(), len(job.contexts)) if job.network.device.type == "cpu" else 1
    parts = np.array_split(np.arange(len(job.contexts)), threads)
    finished: queue.Queue[Bar | BaseException | None] = queue.Queue()
    stopped = threading.Event()

    def run(rows: NDArray[np.int64]) -> None:
        try:
            for bar in write(job.part(rows)):
                finished.put(replace(bar, row=int(rows[bar.row])))
                if stopped.is_set():
                    return
            finished.put(None)
        except BaseException as error:  # noqa: BLE001, raised again where it is waited for
            finished.put(error)

    workers = [threading.Thread(target=run, args=(rows,), daemon=True) for rows in parts]
    for worker in workers:
        worker.start()
    try:
        running = len(workers)
        while running:
            bar = finished.get()
            if isinstance(bar, BaseException):
                raise bar
            if bar is None:
                running -= 1
            else:
                yield bar
    finally:
        stopped.set()
        for worker in workers:
            worker.join()


def _sources(contexts: Sequence[Context]) -> list[int]:
    """For each row the first one with the same context."""
    first: dict[int, int] = {}
    return [first.setdefault(id(context), row) for row, context in enumerate(contexts)]
