"""Native code on untrusted input, in processes that may die."""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

import psutil
from pebble import ProcessExpired, ProcessPool

MEMORY_BYTES = 2 << 30
"""What a worker may map beyond what it has mapped when it starts."""
SECONDS = 30.0
"""Time after which a worker is killed."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerFailure:
    """In the place of a result that no worker could give: a short stable reason and one sentence."""

    verdict: str
    detail: str


def run_isolated(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    chunk: int = 32,
    seconds: float = SECONDS,
    preload: Sequence[str] = (),
) -> Iterator[tuple[Item, Result | WorkerFailure]]:
    """Call ``function`` on every item in ``workers`` processes (default: one a core), in no order.

    Items travel in chunks. A chunk whose worker died or took longer than ``seconds`` is gone through again
    item by item, so that only the item that did it is given a :class:`WorkerFailure`, as one that ran out of memory is.
    ``function`` and the items must be picklable and come from modules; an exception of ``function`` ends the run.
    Workers begin with the modules of ``preload`` imported, beside that of ``function``. If this process is killed, its
    workers end after the chunk that they are at.
    """
    chunks = -(-len(items) // chunk)
    with _pool(min(workers or os.cpu_count() or 1, max(chunks, 1)), function.__module__, *preload) as pool:
        for size in (chunk, 1):
            tasks: dict[Future[list[Result | WorkerFailure]], int] = {
                pool.schedule(_each, args=(function, items[start : start + size], seconds), timeout=seconds): start
                for start in range(0, len(items), size)
            }
            suspects: list[Item] = []
            for task in as_completed(tasks):
                part = items[tasks[task] : tasks.pop(task) + size]
                try:
                    yield from zip(part, task.result(), strict=True)
                except TimeoutError:
                    suspects += part
                    failure = WorkerFailure("took too long", f"It was given up after {seconds:g} seconds.")
                except ProcessExpired as error:
                    suspects += part
                    failure = WorkerFailure(
                        "crashed the parser", f"The worker process ended with code {error.exitcode}."
                    )
                else:
                    continue
                if size == 1:
                    yield part[0], failure
            items = suspects


@contextlib.contextmanager
def _pool(workers: int, *modules: str) -> Iterator[ProcessPool]:
    pool = ProcessPool(workers, initializer=_limit_memory, context=_worker_context(__name__, *modules))
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def _limit_memory() -> None:
    limit = psutil.Process().memory_info().vms + MEMORY_BYTES
    # some systems do not let a process limit its address space
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _each(function: Callable[[Item], Result], items: Sequence[Item], seconds: float) -> list[Result | WorkerFailure]:
    # the pool stops a worker after ``seconds``, but where it was killed itself, nobody else ends one that hangs
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
    try:
        return [_one(function, item) for item in items]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _one(function: Callable[[Item], Result], item: Item) -> Result | WorkerFailure:
    try:
        return function(item)
    except MemoryError:
        return WorkerFailure("too large", f"It needs more than {MEMORY_BYTES >> 30} GiB of memory.")


def _worker_context(*modules: str) -> ForkServerContext:
    """What starts workers that have the modules imported already, and hold no locks of this process's threads.

    They do not run the main module again: a script needs no guard, and a heavy one costs nothing.
    """
    context = _Context()
    context.set_forkserver_preload([*modules])
    return context


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802 (the name that multiprocessing calls)
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return ForkServerProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


class _Context(ForkServerContext):
    Process = _Process
