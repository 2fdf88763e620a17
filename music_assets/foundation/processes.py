"""Worker processes that do not run the main module again: a script needs no guard, and a heavy one costs nothing."""

import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any


def worker_context(*modules: str) -> ForkServerContext:
    """What starts workers that have the modules imported already, and hold no locks of this process's threads."""
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
