"""The drop folder as it is: every MIDI file with its size and times, and what cannot be looked into."""

import os
import re
import stat
from pathlib import Path

import polars as pl

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".mid.gz", ".midi.gz")
LOOSE = "."
"""Collection of the files that lie directly in the drop folder."""
HIDDEN = re.compile(r"\.[^\W\d]")
"""Names of what is put away or unfinished; *.38 Special* and *...Baby One More Time* are none."""

FOUND_SCHEMA = pl.Schema(
    {
        "path": pl.String(),
        "collection": pl.String(),
        "bytes": pl.Int64(),
        "mtime_ns": pl.Int64(),
        "ctime_ns": pl.Int64(),
        "misnamed": pl.Boolean(),
    }
)
"""Columns of :func:`walk`: ``path`` relative to the drop folder with ``/``, how the file looks from outside, and
whether its name is not UTF-8."""


def walk(raw: Path) -> tuple[list[tuple[str, str, int, int, int, bool]], dict[str, str]]:
    """Find every MIDI file, as a row of ``FOUND_SCHEMA``, and every folder and link that cannot be looked into, with
    the reason.

    Links are followed; a folder that is reached twice counts once, so that a circle of links ends. A name
    that is not UTF-8 is spelled with escapes, and like no other name beside it, and counts as misnamed.
    """
    root = os.path.realpath(raw)
    found: list[tuple[str, str, int, int, int, bool]] = []
    unseen: dict[str, str] = {}
    visited: set[tuple[int, int]] = set()
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 (as scandir names it)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                # links last: a folder that is reached twice keeps its own name
                entries = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            if not _gone(folder):
                unseen[prefix.removesuffix("/")] = _why(error)
            continue
        names, inner = {entry.name for entry in entries}, []
        for entry in entries:
            if HIDDEN.match(entry.name):
                continue
            name = os.fsencode(entry.name).decode(errors="backslashreplace")
            if name != entry.name:
                while name in names:
                    name = f"\\{name}"
                names.add(name)
            path, is_midi = prefix + name, name.lower().endswith(SUFFIXES)
            try:
                if not is_midi and entry.is_file(follow_symlinks=False):
                    continue
                status = entry.stat()
            except OSError as error:
                if not _gone(entry.path):
                    unseen[path] = _why(error)
                continue
            if stat.S_ISDIR(status.st_mode):
                inner.append((entry.path, f"{path}/"))
            elif is_midi and stat.S_ISREG(status.st_mode):
                collection = path.split("/")[0] if prefix else LOOSE
                misnamed = entry.path != os.path.join(root, path)  # noqa: PTH118
                found.append((path, collection, status.st_size, status.st_mtime_ns, status.st_ctime_ns, misnamed))
        folders += reversed(inner)
    return found, unseen


def _gone(path: str) -> bool:
    """Whether there is surely no such file, folder or link."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _why(error: OSError) -> str:
    return "a link that leads nowhere" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
