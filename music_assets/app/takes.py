"""Candidates while they are written, as a person follows them; knows nothing of the page."""

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_assets.app.sources import Source
from music_assets.checkpoints.runs import CheckpointFacts
from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.controls import Facts
from music_assets.evaluation.pieces import sampled_piece
from music_assets.generation.choices import Choices
from music_assets.generation.generate import make_task
from music_assets.generation.request import Request
from music_assets.generation.task import Candidate, Task
from music_assets.paths import file_name

SHOW_EVERY = 0.25
"""Seconds between two looks at what is written; a roll is drawn anew for each."""


@dataclass(frozen=True)
class Take:
    """A candidate as far as it is written."""

    candidate: Candidate
    written: int
    """Bars."""
    ended: bool


@dataclass(frozen=True)
class Batch:
    """All candidates of a request as far as they are written."""

    request: Request
    source: Source | None
    """The file that is continued or filled."""
    facts: CheckpointFacts
    first_bar: int
    """The first that is written, counted from 1."""
    takes: tuple[Take, ...]
    done: bool

    @property
    def filling(self) -> bool:
        """Whether bars of a file are written anew."""
        return self.request.fill_file is not None

    @property
    def asked_bars(self) -> int | None:
        """Bars that each candidate is to be written, where that is known before."""
        asked = self.request
        if self.filling and asked.from_bar is not None:
            return (asked.to_bar or asked.from_bar) - asked.from_bar + 1
        return asked.bars

    @property
    def progress(self) -> str:
        """How far the writing is, in words."""
        count = len(self.takes)
        bars, ended = sum(take.written for take in self.takes), sum(take.ended for take in self.takes)
        if not self.done:
            whole = f" of {count * self.asked_bars}" if self.asked_bars else ""
            return f"Writing: {bars}{whole} bars, {ended} of {count} candidates finished."
        notes = sum(take.candidate.note_count for take in self.takes)
        stopped = "" if ended == count else "Stopped: what has been written is kept. "
        return f"{stopped}{bars} bars with {notes} notes, seed {self.request.seed}."

    @property
    def command(self) -> str:
        """The command line that asks for the same."""
        return f"{self.request.command} --architecture {self.facts.architecture}"

    def bars(self, take: Take) -> int:
        """Bars of the file that a take is, as far as it is written."""
        if self.filling and self.source is not None:
            return self.source.bars
        return self.first_bar - 1 + take.written

    def name(self, take: Take) -> str:
        """What a take's files are called, without a suffix."""
        asked = self.request
        stem = Path(self.source.name).stem if self.source else file_name(asked.genre or "music")
        return f"{stem}-{asked.seed}-{take.candidate.index + 1}"


def write(
    checkpoint: Checkpoint, request: Request, stopped: threading.Event, source: Source | None = None
) -> Generator[Batch]:
    """The batch again and again as it grows, at last when it is complete or ``stopped``; whoever stops iterating stops
    the writing.

    Args:
        source: the file that the request names.

    Raises:
        BadRequest: the request cannot be done with this checkpoint or file; before anything is drawn.
        UnknownGenre: the checkpoint has no such genre.
    """
    task = _task(checkpoint, request, source)
    bars: list[list[NDArray[np.int64]]] = [[] for _ in range(request.count)]
    ended = [False] * request.count

    def batch(done: bool) -> Batch:
        takes = [Take(task.finish(row, own, ended[row]), len(own), ended[row]) for row, own in enumerate(bars)]
        return Batch(request, source, checkpoint.facts, task.first_bar, tuple(takes), done)

    yield batch(done=False)
    writing = task.write()
    try:
        looked = 0.0
        for bar in writing:
            bars[bar.row].append(bar.ids)
            ended[bar.row] = bar.last
            if stopped.is_set():
                break
            if time.monotonic() - looked >= SHOW_EVERY:
                yield batch(done=False)
                looked = time.monotonic()
    finally:
        writing.close()
    yield batch(done=True)


def _task(checkpoint: Checkpoint, request: Request, source: Source | None) -> Task:
    """Read the file where it lies for a moment."""
    if source is None:
        return make_task(checkpoint, request)
    with source.on_disk() as path:
        names = {name: str(path) for name, named in request.files.items() if named is not None}
        return make_task(checkpoint, request.model_copy(update=names))


def like(take: Take, facts: CheckpointFacts, can: Choices) -> dict[str, Any]:
    """The wishes for music that has what a take has: its instruments, tempo, density and key, as far as the checkpoint
    can be asked for them.
    """
    kept = ["tempo", "key"]
    if can.instruments:
        kept += ["instruments", "density"] if knows_density(facts) else ["instruments"]
    wishes = Facts.of(sampled_piece("", "", take.candidate.ids)).wishes
    return {name: wish for control in kept for name, wish in wishes.get(control, {}).items()}


def knows_density(facts: CheckpointFacts) -> bool:
    """Whether a network that reads tokens was trained with controls."""
    return facts.training.get("control_share") != 0
