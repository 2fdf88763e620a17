"""Files and folders that appear whole or not at all."""

import errno
import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.locks import Busy, locked


class DiskFull(MusicAssetsError):
    """There is no room to write; the message is for people."""


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; it takes ``target``'s place only if the block succeeds.

    Works for a file or, when the block makes a folder there, for a folder. A kill at any point leaves the old
    version readable (a folder: under its name or, for an instant, as ``.<name>.old``, see :func:`restore`). What a
    killed one has left half written is removed by the next one for the same target.

    Raises:
        DiskFull: the block failed, and the disk has no room left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The inner one asks while what is half written still takes its room.
    with _telling_of_a_full_disk(target.parent), _staging(target) as staging, _telling_of_a_full_disk(target.parent):
        fresh = staging / target.name
        yield fresh
        if fresh.is_dir() and target.exists():
            old = target.with_name(f".{target.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.replace(target)


@contextmanager
def _telling_of_a_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        require_room(folder, error)
        raise


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that is locked as long as its maker lives; those without a lock are removed."""
    prefix = f".{target.name}.new."
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError, Busy), locked(left):
            shutil.rmtree(left, ignore_errors=True)
    while True:
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        try:
            with ExitStack() as lock:
                # some network disks have no locks: nobody can lock the folder then, and so nobody removes it
                with suppress(OSError):
                    lock.enter_context(locked(staging, wait=True))
                # another process may have taken it for one that was left, before it was locked
                if staging.exists():
                    yield staging
                    return
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def require_room(folder: Path, error: Exception) -> None:
    """Raise DiskFull from ``error`` if there is no room in ``folder``.

    The disk itself is asked, for libraries report a full one in many words, some of them misleading.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 20))
            probe.flush()
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"The disk that holds {folder} is full: free some space and start again; what was there before is "
                "untouched."
            ) from error


def restore(target: Path) -> Path:
    """Undo a folder swap that a kill cut in two, and return ``target``."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)
    return target
