"""Asking a checkpoint for music: bar by bar, or whole candidates."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from music_assets.checkpoints.runs import require_champion
from music_assets.checkpoints.storage import Checkpoint, load_checkpoint
from music_assets.generation.request import Request, make_request
from music_assets.generation.roll_tasks import RollTask
from music_assets.generation.task import Candidate, NewBar, Task
from music_assets.generation.token_tasks import Composition, Continuation, Filling
from music_assets.models.roll_rnn import RollRNN
from music_assets.paths import DataPaths
from music_assets.tokens.remi import notes
from music_assets.training.precision import choose_device

T = TypeVar("T")


def champion(architecture: str = "gpt", data: Path | None = None) -> Checkpoint:
    """The champion of an architecture in a data folder, by default ``MUSIC_ASSETS_DATA``'s; on a GPU if there is one.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    paths = DataPaths.from_environment() if data is None else DataPaths(data)
    return load_checkpoint(require_champion(paths.checkpoints(architecture)), choose_device())


def stream(checkpoint: Checkpoint, request: Request) -> Generator[NewBar]:
    """The bars of all candidates, each as soon as it is complete; whoever stops iterating stops the writing.

    Raises:
        BadRequest: the request cannot be done with this checkpoint or file; before anything is drawn.
        UnknownGenre: the checkpoint has no such genre.
    """
    task = make_task(checkpoint, request)
    for bar in task.write():
        yield NewBar(bar.row, task.first_bar + bar.number, bar.ids, notes(bar.ids), bar.last)


def generate(
    checkpoint: Checkpoint,
    request: Request | None = None,
    progress: Callable[[int, int], None] = lambda bars, finished: None,
    **wishes: Any,
) -> list[Candidate]:
    """All candidates of a request, or of the wishes that make one: ``generate(checkpoint, genre="jazz", bars=8)``.

    Args:
        progress: called with the bars that are complete, and the candidates, after each bar. What it raises stops the
            writing, but for StopIteration: then what was written is kept.

    Raises:
        InvalidSettings: a wish that cannot be.
        BadRequest: the request cannot be done with this checkpoint or file.
        UnknownGenre: the checkpoint has no such genre.
    """
    request = make_request(**wishes) if request is None else request
    task = make_task(checkpoint, request)
    bars: list[list[NDArray[np.int64]]] = [[] for _ in range(request.count)]
    ended = [False] * request.count
    writing = task.write()
    try:
        for bar in writing:
            bars[bar.row].append(bar.ids)
            ended[bar.row] = bar.last
            progress(sum(map(len, bars)), sum(ended))
    except StopIteration:
        pass
    finally:
        writing.close()
    return [task.finish(index, own, ended[index]) for index, own in enumerate(bars)]


def each_in_threads(checkpoint: Checkpoint, make: Callable[[int], T], count: int) -> list[T]:
    """``make(0)``, ``make(1)``, ... of requests for one candidate each, on a CPU a thread a core."""
    threads = torch.get_num_threads() if checkpoint.network.device.type == "cpu" else 1
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(make, range(count)))


def make_task(checkpoint: Checkpoint, request: Request) -> Task:
    """The task of a request.

    Raises:
        BadRequest: it cannot be done with this checkpoint or file.
        UnknownGenre: the checkpoint has no such genre.
    """
    if isinstance(checkpoint.network, RollRNN):
        return RollTask(checkpoint, request)
    if request.fill_file is not None:
        return Filling(checkpoint, request)
    return Continuation(checkpoint, request) if request.continue_file else Composition(checkpoint, request)
