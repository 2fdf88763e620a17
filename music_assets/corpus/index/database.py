"""The index as a file: opened for a short look or to be written, and what may be in the way."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from music_assets.foundation.errors import MusicAssetsError

if TYPE_CHECKING:
    import duckdb
    from duckdb import DuckDBPyConnection


class NoIndex(MusicAssetsError):
    """There is no index, or it is damaged or of another version."""


class IndexUnavailable(MusicAssetsError):
    """There may be an index, but it cannot be read now; the message says what is in the way."""


@contextmanager
def reading_index(index: Path) -> "Iterator[DuckDBPyConnection]":
    """Open the index for a short look that blocks nobody.

    Raises:
        NoIndex: there is none, it is damaged, or it has other tables than this version makes.
        IndexUnavailable: it cannot be read now.
    """
    # Imported here, so that steps which never open the database load no DuckDB: beside PyTorch it complains at exit.
    import duckdb

    try:
        with duckdb.connect(str(index), read_only=True) as connection:
            yield connection
    except (duckdb.CatalogException, duckdb.BinderException):
        raise _none(index) from None
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        damage = (duckdb.OperationalError, duckdb.InternalError, duckdb.FatalException)
        if not isinstance(error, damage) and type(error) is not duckdb.Error:  # which a wrong checksum is
            raise
        raise _unreadable(index, error) from None


@contextmanager
def writing_index(index: Path) -> "Iterator[DuckDBPyConnection]":
    """Make a new index at a place where there is none."""
    import duckdb

    with tempfile.TemporaryDirectory() as elsewhere:
        # DuckDB takes ``?`` for the end of a path when it names what it writes beside the file
        place = Path(elsewhere) / index.name if "?" in str(index) else index
        with duckdb.connect(str(place)) as connection:
            yield connection
        if place != index:
            shutil.move(place, index)


def _none(index: Path) -> NoIndex:
    return NoIndex(f"There is no index of this version at {index}: run `music-assets corpus update`.")


def _unreadable(index: Path, error: "duckdb.Error") -> Exception:
    """What DuckDB's failure to read the index means: that something is in the way now, or that the index is no more."""
    import duckdb

    here = isinstance(error, duckdb.ConnectionException)  # of this process, for writing
    if here or "Could not set lock on file" in str(error):
        holder = re.search(r"held in (.+?)(?:\. |$)", str(error))
        program = "this program" if here else holder[1] if holder else "another program"
        return IndexUnavailable(
            f"The index {index} is open for writing in {program}: close it there, or open it there for reading only "
            "(read_only=True, `duckdb -readonly`)."
        )
    try:
        with index.open("rb") as file:
            while file.read(1 << 24):
                pass
    except (FileNotFoundError, NotADirectoryError):
        return _none(index)
    except OSError as failure:
        return in_the_way(index, failure)
    return NoIndex(
        f"The index {index} is damaged, or of another version of DuckDB: delete it and run `music-assets corpus "
        "update`, which builds it with the same settings."
    )


def in_the_way(file: Path, error: OSError) -> IndexUnavailable:
    """The error to raise where the system refuses to read a file."""
    return IndexUnavailable(
        f"{file} cannot be read ({error.strerror}): see to it that its disk is there, that it is a file, and that you "
        "may read it."
    )


def dicts(connection: "DuckDBPyConnection", sql: str) -> list[dict[str, Any]]:
    """The rows of a query."""
    return connection.sql(sql).pl().to_dicts()
