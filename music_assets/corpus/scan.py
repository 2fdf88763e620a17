"""The drop folder as a table: one row a MIDI file, and only new or changed files are read."""

import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from tqdm import tqdm

from music_assets.corpus.isolation import Lost, run_isolated
from music_assets.corpus.locks import exclusive
from music_assets.corpus.verdicts import READER_VERSION, examine
from music_assets.paths import publish

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".mid.gz", ".midi.gz")
LOOSE = "."
"""Collection of the files that lie directly in the drop folder."""
ROWS_IN_A_PART = 2_000
"""Rows after which an unfinished scan saves what it has."""

FILES_SCHEMA = pl.Schema(
    {
        "path": pl.String(),
        "collection": pl.String(),
        "bytes": pl.Int64(),
        "mtime_ns": pl.Int64(),
        "md5": pl.String(),
        "verdict": pl.String(),
        "detail": pl.String(),
        "notes": pl.Int32(),
        "drum_notes": pl.Int32(),
        "tracks": pl.Int32(),
        "programs": pl.List(pl.UInt8()),
        "bars": pl.Int32(),
        "beats": pl.Float64(),
        "seconds": pl.Float64(),
        "tempo": pl.Float64(),
        "tempo_changes": pl.Int32(),
        "time_signature": pl.String(),
        "time_signature_changes": pl.Int32(),
        "pitch_min": pl.Int16(),
        "pitch_max": pl.Int16(),
        "polyphony": pl.Float64(),
        "key": pl.String(),
        "key_confidence": pl.Float64(),
        "notes_per_beat": pl.Float64(),
        "notes_per_second": pl.Float64(),
        "velocity_levels": pl.Int16(),
        "velocity_std": pl.Float64(),
        "lyrics": pl.Int32(),
        "markers": pl.Int32(),
        "ticks_per_quarter": pl.Int32(),
        "piece_id": pl.String(),
        "content_hash": pl.String(),
        "fingerprint": pl.List(pl.UInt32()),
    }
)
"""Columns of the files table: ``path`` relative to the drop folder with ``/``, then what
:func:`music_assets.corpus.verdicts.examine` says. The fingerprint is larger than all others together: read the columns
that you need."""

_FOUND_SCHEMA = {name: FILES_SCHEMA[name] for name in ("path", "collection", "bytes", "mtime_ns")}
_IDENTITY = ["path", "bytes", "mtime_ns"]
_STATE = [*_IDENTITY, "md5", "verdict"]
_VERSION_KEY = "reader_version"
_HIDDEN = re.compile(r"\.[^\W\d]")
"""Names of what is put away or unfinished; *.38 Special* and *...Baby One More Time* are none."""


class NoFilesTable(FileNotFoundError):
    """No table of files that can be read."""


class FilesGone(ValueError):
    """The drop folder has lost every file that it had."""


@dataclass(frozen=True)
class Changes:
    """How the drop folder differs from the table of files."""

    new: int
    changed: int
    removed: int
    unsettled: int
    """New and changed files that may still be copied; they count nowhere else."""
    digest: str
    """Another one for every other difference, also for one that comes a second time."""

    @property
    def count(self) -> int:
        """Rows that a scan would bring up to date."""
        return self.new + self.changed + self.removed


@dataclass(frozen=True)
class ScanSummary:
    """What a scan found and what it did."""

    seen: int
    read: int
    unchanged: int
    removed: int
    unsettled: int
    """Files left for a later scan because they may still be copied."""
    verdicts: dict[str, int]
    """Files by verdict, the most frequent first."""
    digest: str
    """Hash of every path, its bytes' md5 and its verdict."""
    rewritten: bool


def pending(raw: Path, files_table: Path, settle_seconds: float = 0.0) -> Changes:
    """What :func:`scan` would do. Looks at names, sizes and times only."""
    known = _load(files_table, _IDENTITY)
    difference = _compare(raw, known, settle_seconds)
    changed = difference.fresh.join(known, on="path", how="semi")
    written = files_table.stat().st_mtime_ns if files_table.exists() else 0
    rows = [*difference.fresh.iter_rows(), *difference.removed.iter_rows()]
    return Changes(
        new=len(difference.fresh) - len(changed),
        changed=len(changed),
        removed=len(difference.removed),
        unsettled=difference.unsettled,
        digest=hashlib.blake2b(f"{written} {rows}".encode(), digest_size=16).hexdigest(),
    )


def scan(
    raw: Path,
    files_table: Path,
    *,
    workers: int | None = None,
    settle_seconds: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScanSummary:
    """Bring ``files_table`` (Parquet, ``FILES_SCHEMA``, sorted by path) up to date with the drop folder.

    A file is unchanged if path, size and modification time are. New and changed ones are read in ``workers``
    processes; a file that cannot be used, or that kills its reader, gets a verdict. One that was written to
    in the last ``settle_seconds`` may still be copied: its row stays what it was. ``progress`` is called
    with (files done, files to read). What an interrupted scan has read is kept and not read again.

    Raises:
        Busy: another process scans into the same table.
        FilesGone: there were files, and now there is none.
    """
    with exclusive(files_table):
        parts = files_table.with_suffix(".parts")
        saved = sorted(parts.glob("*.parquet"))
        state = _newest([_load(file, _STATE) for file in (files_table, *saved)])
        difference = _compare(raw, state, settle_seconds)
        if 0 < len(state) == len(difference.removed) and difference.fresh.is_empty():
            raise FilesGone(
                f"All {len(state):,} known MIDI files are gone from {raw}: if its disk is not mounted, mount it; if "
                f"you have removed them, delete {files_table} too."
            )
        rewritten = bool(saved or len(difference.fresh) or len(difference.removed) or not files_table.exists())
        if rewritten:
            first = int(saved[-1].stem) + 1 if saved else 0
            for number, part in enumerate(_read(raw, difference.fresh, workers, progress), start=first):
                saved.append(parts / f"{number:06d}.parquet")
                with publish(saved[-1]) as target:
                    _save(part, target)
            table = _newest([_load(file) for file in (files_table, *saved)], without=difference.removed)
            with publish(files_table) as target:
                _save(table, target)
            state = table.select(_STATE)
        shutil.rmtree(parts, ignore_errors=True)
    verdicts = state["verdict"].value_counts().sort(["count", "verdict"], descending=[True, False])
    return ScanSummary(
        seen=len(state),
        read=len(difference.fresh),
        unchanged=len(state) - len(difference.fresh),
        removed=len(difference.removed),
        unsettled=difference.unsettled,
        verdicts=dict(verdicts.iter_rows()),
        digest=files_digest(state),
        rewritten=rewritten,
    )


def files_digest(files: pl.DataFrame) -> str:
    """Hash of what the table says of each file; modification times do not count."""
    lines = files.select(pl.concat_str(["path", "md5", "verdict"], separator="\t", ignore_nulls=True))
    text = "\n".join([str(READER_VERSION), *lines.to_series()])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _Difference:
    fresh: pl.DataFrame
    """Files to read: ``_FOUND_SCHEMA``."""
    removed: pl.DataFrame
    """Known rows whose file is gone."""
    unsettled: int


def _compare(raw: Path, known: pl.DataFrame, settle_seconds: float) -> _Difference:
    found = pl.DataFrame(list(_walk(raw)), schema=_FOUND_SCHEMA, orient="row")
    fresh = found.join(known, on=_IDENTITY, how="anti", maintain_order="left")
    # a time in the future is a wrong clock and no copy in progress
    age = time.time_ns() - pl.col("mtime_ns")
    unsettled = fresh.filter((age >= 0) & (age < int(settle_seconds * 1e9)))
    return _Difference(
        fresh=fresh.join(unsettled, on="path", how="anti", maintain_order="left"),
        removed=known.join(found, on="path", how="anti"),
        unsettled=len(unsettled),
    )


def _newest(tables: list[pl.DataFrame], without: pl.DataFrame | None = None) -> pl.DataFrame:
    """The last row of every path, sorted by path, but for the paths of ``without``."""
    rows = pl.concat(tables)
    paths = rows.select("path").with_row_index().unique("path", keep="last")
    if without is not None:
        paths = paths.join(without, on="path", how="anti")
    return rows[paths.sort("path")["index"]]


def read_files(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Columns of a table of files, all if not given.

    Raises:
        NoFilesTable: there is none, it is damaged, or another version of the reader has made it.
    """
    try:
        if pl.read_parquet_metadata(file).get(_VERSION_KEY) == str(READER_VERSION):
            return pl.read_parquet(file, columns=columns)
    except (OSError, pl.exceptions.PolarsError):
        pass
    raise NoFilesTable(f"There is no table of files of this version at {file}: run `music-assets corpus update`.")


def _load(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """As :func:`read_files`, but no rows where there is no such table."""
    try:
        return read_files(file, columns)
    except NoFilesTable:
        return FILES_SCHEMA.to_frame().select(columns or pl.all())


def _save(table: pl.DataFrame, target: Path) -> None:
    table.write_parquet(target, metadata={_VERSION_KEY: str(READER_VERSION)})


def _walk(raw: Path) -> Iterator[tuple[str, str, int, int]]:
    """Path, collection, size and modification time of every MIDI file.

    Links are followed; a folder that is reached twice counts once, so that a circle of links ends. A name
    that is not UTF-8 comes with escapes: opening it then fails, and its verdict tells.
    """
    visited: set[tuple[int, int]] = set()

    def walk(folder: str, prefix: str) -> Iterator[tuple[str, str, int, int]]:
        with os.scandir(folder) as entries:
            # links last: a folder that is reached twice keeps its own name
            entries = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        for entry in entries:
            if _HIDDEN.match(entry.name):
                continue
            try:
                status = entry.stat()
                if entry.is_dir():
                    key = (status.st_dev, status.st_ino)
                    if key not in visited:
                        visited.add(key)
                        yield from walk(entry.path, f"{prefix}{entry.name}/")
                elif entry.name.lower().endswith(SUFFIXES) and stat.S_ISREG(status.st_mode):
                    path = os.fsencode(prefix + entry.name).decode(errors="backslashreplace")
                    yield path, path.split("/")[0] if prefix else LOOSE, status.st_size, status.st_mtime_ns
            except OSError:
                continue  # gone since it was listed, a dead or circular link, or not ours to read

    if raw.is_dir():
        status = raw.stat()
        visited.add((status.st_dev, status.st_ino))
        yield from walk(str(raw), "")


def _read(
    raw: Path, fresh: pl.DataFrame, workers: int | None, progress: Callable[[int, int], None]
) -> Iterator[pl.DataFrame]:
    """Rows of the files in ``fresh``, some thousand at a time."""
    paths = {f"{raw}/{path}": path for path in fresh["path"]}
    rows = []
    results = run_isolated(examine, list(paths), workers=workers)
    bar = tqdm(results, "reading MIDI", len(paths), unit="file", disable=None)
    for done, (file, result) in enumerate(bar, start=1):
        rows.append({"path": paths[file]} | (vars(result) if isinstance(result, Lost) else result))
        progress(done, len(paths))
        if len(rows) == ROWS_IN_A_PART or done == len(paths):
            read = pl.DataFrame(rows, schema=FILES_SCHEMA).drop("collection", "bytes", "mtime_ns")
            yield read.join(fresh, on="path").select(FILES_SCHEMA.names())
            rows = []
