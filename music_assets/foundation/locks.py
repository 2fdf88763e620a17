"""Locks that end with the process that holds them, however that ends.

They are flock's. The filelock package has them too, but cannot lock a folder, leaves its lock files lying, and where a
disk has no locks takes to files that outlive a killed process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from music_assets.foundation.errors import MusicAssetsError


class Busy(MusicAssetsError):
    """Another process is writing the same file or folder."""


@contextmanager
def locked(path: Path, busy: Exception | None = None, *, create: bool = False, wait: bool = False) -> Iterator[int]:
    """Hold the lock of a folder, or with ``create`` of a file that may not be there yet; yields its descriptor.

    Raises:
        Busy: another process holds it and ``wait`` is false; or ``busy`` in its place.
        OSError: it is not there, or its disk has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise busy or Busy(f"Another process is writing {path}: wait for it to end, or stop it.") from None
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Be the only process that writes ``target``, by a file beside it that is gone afterwards.

    Raises:
        Busy: another process writes it.
    """
    lock = target.with_name(f".{target.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    busy = Busy(f"Another process is writing {target}: wait for it to end, or stop it.")
    while True:
        with locked(lock, busy, create=True) as descriptor:
            try:
                current = os.path.samestat(os.fstat(descriptor), lock.stat())
            except FileNotFoundError:
                current = False
            if not current:
                continue  # the one who held it before has removed the file since it was opened
            try:
                yield
            finally:
                lock.unlink()
            return
