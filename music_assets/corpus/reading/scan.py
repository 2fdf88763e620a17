"""The drop folder as a table: one row a MIDI file, and only new or changed files are read."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from pathlib import Path

import polars as pl
from tqdm import tqdm

from music_assets.corpus.reading.facts import ScoreFacts
from music_assets.corpus.reading.verdicts import READER_VERSION, REFUSED, examine
from music_assets.corpus.reading.walk import FOUND_SCHEMA, walk
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.isolation import WorkerFailure, run_isolated
from music_assets.foundation.locks import exclusive
from music_assets.foundation.midi.reading import COMPILED
from music_assets.foundation.publishing import publish

ROWS_IN_A_PART = 2_000
"""Rows after which an unfinished scan saves what it has."""
TRIES = 3
"""Scans that try a file whose reader dies, takes too long or runs out of memory, before the file is to blame."""

_DTYPES = {int: pl.Int32(), float: pl.Float64(), str: pl.String(), list[int]: pl.List(pl.UInt8())}
FILES_SCHEMA = pl.Schema(
    {
        **{name: kind for name, kind in FOUND_SCHEMA.items() if name != "misnamed"},
        "tries": pl.Int16(),
        "md5": pl.String(),
        "verdict": pl.String(),
        "detail": pl.String(),
        **{name: _DTYPES[kind] for name, kind in ScoreFacts.types().items()},
        "fingerprint": pl.List(pl.UInt32()),
    }
)
"""Columns of the files table: ``path`` relative to the drop folder with ``/``, how the file looked when it was read,
``tries``, the scans that have lost their reader to it since it last changed, then what ``examine`` says.
The fingerprint is larger than all others together: read the columns that you need."""

_IDENTITY = ["path", "bytes", "mtime_ns"]
_STATE = [*_IDENTITY, "ctime_ns", "tries", "md5", "verdict", "detail"]
_AGAIN = (pl.col("verdict") == REFUSED) | pl.col("tries").is_between(1, TRIES - 1)
"""Rows that say nothing of their file yet, so that every scan tries it again."""
_MISNAMED = {"verdict": "unreadable", "detail": "Its name is not UTF-8: rename it."}
_NAMED = 3
"""Paths that a warning names."""
_VERSION_KEY = "reader_version"


class NoFilesTable(MusicAssetsError):
    """No table of files that can be read."""


class FilesGone(MusicAssetsError):
    """The drop folder has lost every file that it had."""


@dataclass(frozen=True)
class Changes:
    """How the drop folder differs from the table of files."""

    new: int
    changed: int
    removed: int
    unsettled: int
    """New and changed files that may still be copied; they count nowhere else."""
    unseen: dict[str, str]
    """Folders and links that cannot be looked into, and why; what is known of their files counts nowhere else."""
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
    unseen: dict[str, str]
    """Folders and links that could not be looked into, and why."""
    kept: int
    """Rows of files there, which stay as they were."""
    again: dict[str, str]
    """Files that the next scan tries again, and what this one met."""
    verdicts: dict[str, int]
    """Files by verdict, the most frequent first."""
    digest: str
    """Hash of every path, its bytes' md5 and its verdict."""
    rewritten: bool

    @property
    def warnings(self) -> list[str]:
        """A sentence each on what could not be seen and what could not be read."""
        warnings = []
        if self.unseen:
            warnings.append(
                f"Cannot be looked into: {_named(self.unseen)}. The {self.kept:,} files known to be there stay as they "
                "were."
            )
        if self.again:
            warnings.append(f"Could not be read, and tried again at the next scan: {_named(self.again)}.")
        return warnings


def _named(reasons: Mapping[str, str]) -> str:
    """The first few of some paths with their reasons."""
    few = [f"{path or 'the drop folder'} ({why.removesuffix('.')})" for path, why in islice(reasons.items(), _NAMED)]
    return ", ".join(few) + (f" and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else "")


def pending(raw: Path, files_table: Path, settle_seconds: float = 0.0) -> Changes:
    """What :func:`scan` would do. Looks at names, sizes and times only.

    A file that could not be read the last time counts as changed once its permissions or its owner have; otherwise
    it waits for a scan that happens anyway, so that one which stays out of reach causes none by itself.
    """
    known = _load(files_table, _STATE)
    difference = _compare(raw, known, settle_seconds)
    fresh = difference.fresh.join(known.filter(_AGAIN), on=[*_IDENTITY, "ctime_ns"], how="anti", maintain_order="left")
    changed = fresh.join(known, on="path", how="semi")
    written = files_table.stat().st_mtime_ns if files_table.exists() else 0
    rows = [*fresh.iter_rows(), *difference.removed.select(_IDENTITY).iter_rows()]
    return Changes(
        new=len(fresh) - len(changed),
        changed=len(changed),
        removed=len(difference.removed),
        unsettled=difference.unsettled,
        unseen=difference.unseen,
        digest=hexdigest(f"{written} {rows}"),
    )


def tried_again(files_table: Path) -> int:
    """Files that the next scan tries again although they have not changed."""
    return len(_load(files_table, ["tries", "verdict"]).filter(_AGAIN))


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

    What the system refuses is no fact about a file. The rows of a folder that cannot be listed stay as they were; a
    file that cannot be opened is tried again by every scan, and one that has killed its reader or taken too long by
    ``TRIES`` scans in all, then no more until it changes.

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
        rewritten = not files_table.exists()
        if rewritten or saved or len(difference.fresh) or len(difference.removed):
            first = int(saved[-1].stem) + 1 if saved else 0
            for number, part in enumerate(_read(raw, difference.fresh, workers, progress), start=first):
                saved.append(parts / f"{number:06d}.parquet")
                with publish(saved[-1]) as target:
                    _save(part, target)
            before = _load(files_table)
            table = _newest([before, *map(_load, saved)], without=difference.removed)
            rewritten = rewritten or not table.equals(before)
            if rewritten:
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
        unseen=difference.unseen,
        kept=difference.kept,
        again=dict(state.filter(_AGAIN).select("path", "detail").iter_rows()),
        verdicts=dict(verdicts.iter_rows()),
        digest=files_digest(state),
        rewritten=rewritten,
    )


def files_digest(files: pl.DataFrame) -> str:
    """Hash of what the table says of each file; modification times do not count."""
    lines = files.select(pl.concat_str(["path", "md5", "verdict"], separator="\t", ignore_nulls=True))
    return hexdigest("\n".join([READER_VERSION, *lines.to_series()]))


@dataclass(frozen=True)
class _Difference:
    fresh: pl.DataFrame
    """Files to read: ``FOUND_SCHEMA`` and ``tries``."""
    removed: pl.DataFrame
    """Known rows whose file is gone."""
    unsettled: int
    unseen: dict[str, str]
    kept: int
    """Known rows whose file may still be there, unseen."""


def _compare(raw: Path, known: pl.DataFrame, settle_seconds: float) -> _Difference:
    files, unseen = walk(raw)
    found = pl.DataFrame(files, FOUND_SCHEMA, orient="row")
    fresh = found.join(known.filter(~_AGAIN), on=_IDENTITY, how="anti", maintain_order="left")
    fresh = fresh.join(known.select(*_IDENTITY, "tries"), on=_IDENTITY, how="left", maintain_order="left")
    # a time in the future is a wrong clock and no copy in progress
    age = time.time_ns() - pl.col("mtime_ns")
    unsettled = fresh.filter((age >= 0) & (age < int(settle_seconds * 1e9)))
    lost = known.join(found, on="path", how="anti")
    hidden = [any(place in unseen for place in _places(path)) for path in lost["path"]] if unseen else []
    kept = lost.filter(pl.Series(hidden, dtype=pl.Boolean)) if unseen else lost.clear()
    return _Difference(
        fresh=fresh.join(unsettled, on="path", how="anti", maintain_order="left"),
        removed=lost.join(kept, on="path", how="anti"),
        unsettled=len(unsettled),
        unseen=unseen,
        kept=len(kept),
    )


def _places(path: str) -> Iterator[str]:
    """The drop folder, every folder on the way to a file, and the file."""
    return accumulate(path.split("/"), lambda folder, name: f"{folder}/{name}" if folder else name, initial="")


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
        OSError: it cannot be read now.
    """
    try:
        if pl.read_parquet_metadata(file).get(_VERSION_KEY) == READER_VERSION:
            return pl.read_parquet(file, columns=columns, glob=False)
    except (FileNotFoundError, pl.exceptions.PolarsError):
        pass
    raise NoFilesTable(f"There is no table of files of this version at {file}: run `music-assets corpus update`.")


def _load(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """As :func:`read_files`, but no rows where there is no such table."""
    try:
        return read_files(file, columns)
    except NoFilesTable:
        return FILES_SCHEMA.to_frame().select(columns or pl.all())


def _save(table: pl.DataFrame, target: Path) -> None:
    table.write_parquet(target, metadata={_VERSION_KEY: READER_VERSION})


def _read(
    raw: Path, fresh: pl.DataFrame, workers: int | None, progress: Callable[[int, int], None]
) -> Iterator[pl.DataFrame]:
    """Rows of the files in ``fresh``, some thousand at a time."""
    tries = dict(fresh.select("path", pl.col("tries").fill_null(0)).iter_rows())
    paths = {f"{raw}/{path}": path for path in fresh.filter(~pl.col("misnamed"))["path"]}
    misnamed = ((path, _MISNAMED) for path in fresh.filter("misnamed")["path"])
    examined = (
        (paths[file], result)
        for file, result in run_isolated(examine, list(paths), workers=workers, preload=[COMPILED])
    )
    rows = []
    bar = tqdm(chain(misnamed, examined), "reading MIDI", len(fresh), unit="file", disable=None)
    for done, (path, result) in enumerate(bar, start=1):
        said = vars(result) | {"tries": tries[path] + 1} if isinstance(result, WorkerFailure) else result | {"tries": 0}
        rows.append({"path": path} | said)
        progress(done, len(fresh))
        if len(rows) == ROWS_IN_A_PART or done == len(fresh):
            read = pl.DataFrame(rows, schema=FILES_SCHEMA).drop("collection", "bytes", "mtime_ns", "ctime_ns")
            yield read.join(fresh.drop("tries"), on="path").select(FILES_SCHEMA.names())
            rows = []
