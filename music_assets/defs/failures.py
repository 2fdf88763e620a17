"""What ends a step: an error that its user can mend, an interrupt, or the end of the run's process."""

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any, ParamSpec, TypeVar

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from pydantic import ValidationError

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.interrupts import INTERRUPTED
from music_assets.foundation.publishing import DiskFull, require_room
from music_assets.foundation.settings import invalid_settings
from music_assets.paths import DataPaths

PROCESS = "music_assets/process"
"""Tag of a run that a command executes in its own process: which process."""

P = ParamSpec("P")
R = TypeVar("R")


class AssetConfig(dg.Config):
    """Settings of an asset. What is wrong with them is the run's failure in one sentence, and not tried again."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise dg.Failure(str(invalid_settings(error)), allow_retries=False) from None


def user_errors_as_failures(asset: Callable[P, R]) -> Callable[P, R]:
    """Show what a user can mend as the step's failure: one sentence, and no retry, which would meet it again.

    Nor is an interrupt retried, as Dagster would by the asset's policy. Any other exception is a bug or an accident of
    the moment: it keeps its traceback, and the policy decides whether it is retried.
    """

    @functools.wraps(asset)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return asset(*args, **kwargs)
        except MusicAssetsError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        except (KeyboardInterrupt, DagsterExecutionInterruptedError) as interrupt:
            _cancel_run_of_a_command()
            raise dg.Failure(str(interrupt) or INTERRUPTED, allow_retries=False) from interrupt
        except Exception as error:
            try:
                require_room(DataPaths.from_environment().root, error)
            except DiskFull as full:
                raise dg.Failure(str(full), allow_retries=False) from error
            raise

    return wrapped


def _cancel_run_of_a_command() -> None:
    """Who interrupts a command wants its run to end. Other runs that nobody asked to end are up to Dagster's daemon."""
    context = dg.AssetExecutionContext.get()
    if PROCESS in context.run.tags:
        context.instance.report_run_canceling(context.run)


def end_with_parent() -> None:
    """End this step's process when the run's process dies, so that no orphan trains on.

    A killed run worker leaves its step processes behind; the retry would then compete with them for the device.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
