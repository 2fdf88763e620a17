"""Archives from elsewhere: files of the wanted kinds come out, only into the target, and no more than is allowed."""

import errno
import gzip
import json
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tqdm import tqdm

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.locks import exclusive
from music_assets.foundation.publishing import publish

LIMIT = 64 << 20
"""Bytes that an archive of one label file may hold."""
_STAMP = ".written.json"
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, UnicodeError)
_UNUSABLE_NAME = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class HostileArchive(MusicAssetsError):
    """An archive holds what no honest one does; the message names the member, and nothing of it was kept."""


class BrokenArchive(MusicAssetsError):
    """An archive is damaged, or is none, or does not hold what it should; nothing of it was kept."""


class FolderInTheWay(MusicAssetsError):
    """There is a folder already, and it is not of this archive; it was left alone."""


@dataclass(frozen=True)
class Unpacked:
    """A folder that holds the wanted files of an archive."""

    path: Path
    sha256: str
    """Of the archive."""
    files: int
    bytes: int
    """All files together."""


def unpacked(target: Path) -> Unpacked | None:
    """What :func:`unpack` has put there; None if it did not make this folder."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        stamp = json.loads((target / _STAMP).read_text("utf-8"))
        return Unpacked(target, stamp["sha256"], stamp["files"], stamp["bytes"])
    return None


def require_free(target: Path, sha256: str) -> None:
    """Make sure that ``target`` is free, empty, or unpacked from the archive of that hash.

    Raises:
        FolderInTheWay: it is not.
    """
    made = unpacked(target)
    if made and made.sha256 == sha256:
        return
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        was = "was unpacked from another archive" if made else "was not unpacked from this archive"
        raise FolderInTheWay(f"{target} exists and {was}: move it away or delete it, then start again.")


def unpack(
    archive: Path,
    target: Path,
    *,
    sha256: str,
    suffixes: Sequence[str],
    limit: int = LIMIT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Unpacked:
    """Make the folder ``target`` from a .tar, .tar.gz or .zip (told apart by content), and return what is in it.

    ``sha256`` is the archive's, which the caller has checked: nothing else tells whether a tar is whole. A folder in
    the archive that is called as ``target`` is ``target`` itself. Only plain files come out whose names end in one of
    ``suffixes`` (small letters), and ``limit`` bytes of them at most. The folder appears only when it is complete;
    nothing is done for an archive that was unpacked before. ``progress`` is called with (bytes of the archive read,
    its bytes).

    Raises:
        HostileArchive, BrokenArchive, FolderInTheWay: see there.
        DiskFull: there is no room for it.
        Busy: another process is unpacking to ``target``.
    """
    with exclusive(target):
        require_free(target, sha256)
        if made := unpacked(target):
            return made
        files = size = 0
        with publish(target) as folder, _damage_in_words(archive):
            folder.mkdir()
            for parts, content in _plain_files(archive, limit, progress):
                parts = parts[1:] if len(parts) > 1 and parts[0] == target.name else parts
                if parts[-1].lower().endswith(tuple(suffixes)):
                    size += _write(content, folder.joinpath(*parts), archive)
                    files += 1
            if not files:
                raise BrokenArchive(f"{archive} holds no file that ends in {', '.join(suffixes)}.")
            stamp = {"archive": archive.name, "sha256": sha256, "files": files, "bytes": size}
            (folder / _STAMP).write_text(json.dumps(stamp), "utf-8")
    return Unpacked(target, sha256, files, size)


def unpack_file(archive: Path, name: str, target: Path, *, limit: int = LIMIT) -> None:
    """Make the file ``target`` from the first file in the archive that is called ``name``, in any folder.

    Raises:
        HostileArchive, BrokenArchive: see there.
        DiskFull: there is no room for it.
    """
    with _damage_in_words(archive):
        for parts, content in _plain_files(archive, limit):
            if parts[-1] == name:
                with publish(target) as fresh:
                    _write(content, fresh, archive)
                return
    raise BrokenArchive(f"{archive} holds no file {name}: delete it and fetch the right one.")


def _write(content: IO[bytes], path: Path, archive: Path) -> int:
    """Make a new file and return its bytes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(content, file)
            return file.tell()
    except OSError as error:
        if error.errno not in _UNUSABLE_NAME:
            raise
        reason = "two members have this name" if error.errno != errno.ENAMETOOLONG else "it has too long a name"
        raise HostileArchive(f"{archive} is refused: of its member {path.name[:100]!r}, {reason}.") from None


def _plain_files(
    archive: Path, limit: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[tuple[list[str], IO[bytes]]]:
    """Folders and name of every plain file, and its content, to be read before the next one is asked for.

    Links and devices are passed over. What comes out is written as new files in a new folder, so that a name which
    leads nowhere else is all that has to be made sure of.
    """
    total, size = archive.stat().st_size, 0
    with (
        archive.open("rb") as file,
        tqdm(total=total, desc=f"unpacking {archive.name}", unit="B", unit_scale=True, disable=None) as bar,
    ):
        is_zip = file.read(4) == b"PK\3\4"
        file.seek(0)
        for name, length, content in _zip_files(file) if is_zip else _tar_files(file):
            parts = [part for part in name.split("/") if part not in ("", ".")]
            if name.startswith("/") or ".." in parts or "\0" in name or not parts:
                raise HostileArchive(f"{archive} is refused: its member {name[:100]!r} leads out of the folder.")
            size += length
            if size > limit:
                raise HostileArchive(f"{archive} is refused: it unpacks to more than {limit:,} bytes.")
            yield parts, content
            bar.update(file.tell() - bar.n)
            progress(file.tell(), total)


def _tar_files(file: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    is_gzip = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    # tarfile's own unzipping would not notice that the end is missing
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_gzip else file
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        while member := tar.next():
            # tarfile would keep them all
            tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            if member.isreg() and (content := tar.extractfile(member)):
                yield member.name, member.size, content


def _zip_files(file: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.flag_bits & 1:
                raise zipfile.BadZipFile(f"{member.filename} is encrypted")
            if not member.is_dir():
                with archive.open(member) as content:
                    yield member.filename, member.file_size, content


@contextmanager
def _damage_in_words(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise BrokenArchive(
            f"{archive} is damaged, cut off, or no .tar, .tar.gz or .zip ({error}): delete it and fetch it again."
        ) from error
