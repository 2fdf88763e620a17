"""How the page's functions are called: what goes wrong in them is shown as one sentence, and no program calls them."""

import inspect
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from typing import Any

import gradio as gr

from music_assets.foundation.errors import MusicAssetsError

NETWORK, SOUND = "network", "sound"
"""What is waited for in one queue each: whoever came first is served first."""
UNFORESEEN = "Something went wrong in the studio; its log says what. Try again, perhaps with other wishes."

_DEEPEST = 64
_ROOT, _SLASH = re.compile(r"(?<![\w./:])/"), re.compile("/")
_FOLDERS = re.compile(r"\A(?:[^\s/:,]+/)*")
_logger = logging.getLogger(__name__)


def without_folders(sentence: str) -> str:
    """A sentence whose absolute paths have lost their folders: where things lie on this computer is told to nobody, as
    far as the disk knows a folder or it has neither spaces nor colons."""
    at = 0
    while root := _ROOT.search(sentence, at):
        at = root.start()
        ends = [slash.start() for slash in islice(_SLASH.finditer(sentence, at + 1), _DEEPEST)]
        # only the disk tells a folder whose name has spaces from the words of a sentence
        there = [end for end in ends if os.path.isdir(sentence[at:end])]  # noqa: PTH112, a Path may raise
        rest = _FOLDERS.sub("", sentence[max(there, default=at) + 1 :])
        if at + 1 + len(rest) < len(sentence):
            sentence = sentence[:at] + rest
        else:
            at += 1
    return sentence


@contextmanager
def one_sentence() -> Iterator[None]:
    """Whatever is raised becomes what the page shows: no traceback, no path of this computer."""
    try:
        yield
    except (gr.Error, GeneratorExit):
        raise
    except MusicAssetsError as error:
        raise gr.Error(without_folders(str(error)), print_exception=False) from None
    except Exception:
        _logger.exception("The studio failed")
        raise gr.Error(UNFORESEEN, print_exception=False) from None


def shown(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function, or one that yields, in :func:`one_sentence`."""
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generator(*arguments: Any, **named: Any) -> Any:
            with one_sentence():
                yield from function(*arguments, **named)

        return generator

    @wraps(function)
    def plain(*arguments: Any, **named: Any) -> Any:
        with one_sentence():
            return function(*arguments, **named)

    return plain


def on(trigger: Callable[..., Any], function: Callable[..., Any], inputs: Any = None, outputs: Any = None, **more: Any):  # noqa: ANN201, gradio's own class has no public name
    """Have an event call a function of the page; quick ones wait for nobody."""
    more = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None} | more
    return trigger(shown(function), inputs, outputs, **more)


def waiting(queue: str, status: Any) -> dict[str, Any]:
    """Options of :func:`on` for what takes time: the place in the queue is shown at ``status``."""
    return {
        "concurrency_id": queue, "concurrency_limit": 1, "show_progress": "minimal", "show_progress_on": [status],
    }  # fmt: skip


class Stops:
    """Who wants the writing to stop: a flag for each page and tab that is written for or waits in the queue."""

    def __init__(self) -> None:
        self._flags: dict[tuple[str, str], threading.Event] = {}
        self._lock = threading.Lock()

    def begin(self, page: str, tab: str) -> threading.Event:
        """The flag of the writing that begins or is waited for."""
        with self._lock:
            flag = self._flags.get((page, tab))
            if flag is None or flag.is_set():
                flag = self._flags[page, tab] = threading.Event()
            return flag

    def take(self, page: str, tab: str) -> threading.Event:
        """The flag of the writing that has been waited for, even if that was stopped meanwhile."""
        with self._lock:
            return self._flags.setdefault((page, tab), threading.Event())

    def end(self, page: str, tab: str, flag: threading.Event) -> None:
        """Nothing is written any more."""
        with self._lock:
            if self._flags.get((page, tab)) is flag:
                del self._flags[page, tab]

    def stop(self, page: str, tab: str) -> None:
        """Stop what is written, or waited for."""
        with self._lock:
            if flag := self._flags.get((page, tab)):
                flag.set()

    def close(self, page: str) -> None:
        """Stop all that is written for a page that is gone."""
        with self._lock:
            for key in [key for key in self._flags if key[0] == page]:
                self._flags.pop(key).set()

    @property
    def count(self) -> int:
        """How many are written for or wait."""
        return len(self._flags)
