"""Where everything lies. No other module joins path strings."""

import errno
import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_LONGEST_NAME = 200
"""Bytes; file systems take 255, a staged file's name is 20 longer than its target's, and MLflow's metrics take 250."""


@dataclass(frozen=True)
class DataPaths:
    """The layout under one data folder."""

    root: Path

    @classmethod
    def from_environment(cls) -> "DataPaths":
        """The folder named by ``MUSIC_ASSETS_DATA``, or ``data`` in the working directory; see :func:`named_folder`."""
        return cls(named_folder("MUSIC_ASSETS_DATA", "data"))

    @property
    def raw(self) -> Path:
        """Drop folder: one sub-folder a collection."""
        return self.root / "raw"

    @property
    def downloads(self) -> Path:
        """Archives as they were fetched, and what has come of them so far."""
        return self.root / "downloads"

    @property
    def labels(self) -> Path:
        """Label files that belong to no single collection, such as the Lakh md5 map."""
        return self.root / "labels"

    @property
    def files(self) -> Path:
        """One row a MIDI file with its verdict and musical facts (Parquet)."""
        return self.root / "index" / "files.parquet"

    @property
    def index(self) -> Path:
        """The corpus index (DuckDB)."""
        return self.root / "index" / "midi_index.duckdb"

    @property
    def index_settings(self) -> Path:
        """The settings that the index is built with (JSON); they outlive it."""
        return self.root / "index" / "settings.json"

    def genre_pieces(self, genre: str) -> Path:
        """The pieces of one genre (Parquet)."""
        return self.root / "index" / "genre_pieces" / f"{file_name(genre)}.parquet"

    def shard(self, genre: str, transposition: str) -> Path:
        """The token ids of one genre at one transposition (Arrow IPC)."""
        return self.root / "tokens" / file_name(genre) / f"{transposition}.arrow"

    def checkpoints(self, architecture: str) -> Path:
        """Folder of one architecture's checkpoints."""
        return self.root / "checkpoints" / architecture

    def samples(self, architecture: str, genre: str) -> Path:
        """Folder of generated samples."""
        return self.root / "samples" / architecture / file_name(genre)

    def evaluation(self, architecture: str) -> Path:
        """Folder of one architecture's evaluation results and its ``report.html``."""
        return self.root / "evaluation" / architecture

    @property
    def comparison(self) -> Path:
        """The table that compares the architectures; a ``.json`` of the same name lies beside it."""
        return self.root / "evaluation" / "comparison.md"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"


def named_folder(variable: str, default: str) -> Path:
    """The folder that an environment variable names, or ``default`` if that is unset or empty; absolute, without links.

    ``~`` is a home folder. Raises ValueError if nobody has that home.
    """
    named = os.environ.get(variable) or default
    try:
        return Path(os.path.realpath(Path(named).expanduser()))
    except RuntimeError:
        raise ValueError(f"{variable} is {named}, but nobody has that home folder: name another.") from None


def file_name(name: str) -> str:
    """A name as part of a file's name: as it is or, where a file system would refuse it with what is put before and
    after it, its beginning and a hash.
    """
    encoded = name.encode()
    if len(encoded) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(encoded, digest_size=8).hexdigest()
    return f"{encoded[: _LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}-{digest}"


class DiskFull(OSError):
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
    try:
        with _staging(target) as staging:
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
    except Exception as error:
        require_room(target.parent, error)
        raise


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that is locked as long as its maker lives; those without a lock are removed."""
    prefix = f".{target.name}.new."
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError), _locked(left, fcntl.LOCK_NB):
            shutil.rmtree(left, ignore_errors=True)
    while True:
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        try:
            with ExitStack() as lock:
                # some network disks have no locks: nobody can lock the folder then, and so nobody removes it
                with suppress(OSError):
                    lock.enter_context(_locked(staging))
                # another process may have taken it for one that was left, before it was locked
                if staging.exists():
                    yield staging
                    return
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _locked(folder: Path, mode: int = 0) -> Iterator[None]:
    """Hold the lock of a folder; it ends with the process. With LOCK_NB, OSError if another one holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | mode)
        yield
    finally:
        os.close(descriptor)


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
