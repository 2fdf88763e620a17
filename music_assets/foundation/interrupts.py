"""SIGINT and SIGTERM: a training saves itself, and a command ends within seconds with every process that it started."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import psutil

INTERRUPTED = "It was interrupted; started again, it goes on with what is not yet done."
"""What is said where there is nothing more to say."""

SAVING = threading.Lock()
"""Held while an interrupted training is saved, which whoever ends the process waits for."""

ENDING = (signal.SIGINT, signal.SIGTERM)

GRACE_SECONDS = 8.0
"""What is at work has so long to end by itself; it may hang in a library, or in a wait that hears no signals."""
SAVING_SECONDS = 60.0
"""And a training that is being saved so long besides."""


class TrainingInterrupted(KeyboardInterrupt):
    """A training was interrupted; the message says what it has saved and how it goes on."""


class Interrupts:
    """SIGINT and SIGTERM are noted in :attr:`received` while it is open, and raised only where :meth:`at_once` says so,
    as KeyboardInterrupt; one that is still waiting is raised at the end.

    Elsewhere than in the main thread, where Python handles no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.received = False
        self._at_once = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received and kind is None:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What runs in this block may be broken off at any point."""
        if self.received:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if self._at_once:
            raise KeyboardInterrupt


class Interrupted(Exception):
    """A command was interrupted; ``code`` is the exit code that shells expect."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number


@contextmanager
def interruptible(clean_up: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the block by a KeyboardInterrupt, or by what a library raises in its place, and then
    all processes that were started in it. If it does not end in time, or at the second signal, everything is ended at
    once: ``clean_up`` is called, and the process killed. So is what the process does too long after the block.

    Raises:
        Interrupted: with the sentence of the KeyboardInterrupt.
    """
    watch = _Watch(clean_up)
    try:
        yield
    except BaseException as error:
        interrupt = not isinstance(error, Exception)
        if not watch.received(wait=interrupt):
            watch.close()
            raise
        _kill_children()
        raise Interrupted((interrupt and str(error)) or INTERRUPTED, watch.number) from error
    if watch.received():
        raise Interrupted(INTERRUPTED, watch.number)
    watch.close()


class _Watch:
    """Sees SIGINT and SIGTERM whatever handlers libraries put in the place of Python's, and whatever the main thread
    is at.
    """

    def __init__(self, clean_up: Callable[[], None]) -> None:
        self.number = 0
        self._clean_up = clean_up
        self._noted = threading.Event()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
        self._thread = threading.Thread(target=self._run, name="interrupts", daemon=True)
        self._thread.start()

    def received(self, wait: bool = False) -> bool:
        """Whether there was a signal; ``wait`` where there is reason to think so."""
        return self._noted.wait(1 if wait else 0)

    def close(self) -> None:
        """Put the handlers of before back."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._writing)
        self._thread.join()
        os.close(self._reading)

    def _run(self) -> None:
        number = self._next()
        if number is None:
            return
        self.number = number
        self._noted.set()
        if self._next(GRACE_SECONDS) is None:
            SAVING.acquire(timeout=SAVING_SECONDS)
        cleaning = threading.Thread(target=self._clean_up, daemon=True)
        cleaning.start()
        cleaning.join(3)
        print(f"music-assets: {INTERRUPTED}", file=sys.stderr, flush=True)
        _kill_children()
        os._exit(128 + number)

    def _next(self, seconds: float | None = None) -> int | None:
        """The next of the signals; None if none comes in time or the pipe is closed."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._reading], [], [], left)[0] or not (found := os.read(self._reading, 1)):
                return None
            if found[0] in ENDING:
                return found[0]


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
