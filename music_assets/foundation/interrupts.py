"""SIGINT and SIGTERM in the midst of a training."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = "It was interrupted; started again, it goes on with what is not yet done."
"""What is said where there is nothing more to say."""

SAVING = threading.Lock()
"""Held while an interrupted training is saved, which whoever ends the process waits for."""


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
