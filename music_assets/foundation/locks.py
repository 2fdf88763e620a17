"""One process at a time for what must not be written twice at once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from music_assets.foundation.errors import MusicAssetsError


class Busy(MusicAssetsError):
    """Another process is writing the same file or folder."""


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Be the only process that writes ``target``; the lock ends with the process, however that ends.

    Raises:
        Busy: another process writes it.
    """
    lock = target.with_name(f".{target.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"Another process is writing {target}: wait for it to end, or stop it.") from None
            try:
                current = os.path.samestat(os.fstat(file.fileno()), lock.stat())
            except FileNotFoundError:
                current = False
            if not current:
                continue  # the one who held it before has removed the file since it was opened
            try:
                yield
            finally:
                lock.unlink()
            return
