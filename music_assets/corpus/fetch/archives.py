"""Archives from strangers: only plain files come out, only into the target, and never more than the limits allow."""

import contextlib
import gzip
import json
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tqdm import tqdm

from music_assets.corpus.fetch.download import file_sha256
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.locks import exclusive
from music_assets.foundation.publishing import publish

_STAMP = ".written.json"
_BLOCK = 512  # bytes of a tar's header, and what its parts are multiples of
_HEADERS = 16 << 10  # room for the long names of one member; tarfile reads headers whole into memory
_READ_AHEAD = 20 * _BLOCK  # tarfile's
_PADDING = 1 << 20  # zeros that a writer of tapes may end a tar with
_COMPONENT = 255  # bytes of a file's name on Linux
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
}

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, UnicodeError, NotImplementedError)


class HostileArchive(MusicAssetsError):
    """An archive holds what no honest one does; the message names the member, and nothing of it was kept."""


class BrokenArchive(MusicAssetsError):
    """An archive is cut off or damaged, or is none, or does not hold what it should; nothing of it was kept."""


class FolderInTheWay(MusicAssetsError):
    """There is a folder already, and it is not of this archive; it was left alone."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most."""

    members: int = 50_000
    """Files and folders, also those that are not wanted."""
    bytes: int = 4 << 30
    """All files together, unpacked."""
    file_bytes: int = 64 << 20
    """One file, unpacked."""
    name_bytes: int = 1024
    """The name of a member with its folders."""


@dataclass(frozen=True)
class Unpacked:
    """A folder that holds the wanted files of an archive."""

    path: Path
    sha256: str
    """Of the archive."""
    files: int
    bytes: int
    """All files together."""


@dataclass(frozen=True)
class _Member:
    """A plain file in an archive; its content must be read before the next member is asked for."""

    parts: tuple[str, ...]
    size: int
    seconds: float
    """Time of its last change, since 1970."""
    content: IO[bytes]


def unpacked(target: Path) -> Unpacked | None:
    """What :func:`unpack` has put there; None if it did not make this folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        stamp = json.loads((target / _STAMP).read_text("utf-8"))
        return Unpacked(target, stamp["sha256"], stamp["files"], stamp["bytes"])
    return None


def require_free(target: Path, sha256: str) -> None:
    """Raise FolderInTheWay unless ``target`` is free, empty, or unpacked from the archive of that hash."""
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
    sha256: str | None = None,
    limits: Limits = Limits(),
    suffixes: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Unpacked:
    """Make the folder ``target`` from a .tar, .tar.gz or .zip (told apart by content), and return what is in it.

    A folder in the archive that is called as ``target`` is ``target`` itself. Only plain files are made, of those only
    names that end in one of ``suffixes`` (small letters; None for all), with the times that the archive gives. A link,
    a device, a name that leads out of the target or comes twice, or more than ``limits`` allow, and nothing is made.
    The folder appears only when it is complete, and its stamp keeps the archive's hash (``sha256`` if that is known):
    nothing is done for an archive that was unpacked before. ``progress`` is called with (bytes of the archive read,
    its bytes).

    Raises:
        HostileArchive, BrokenArchive, FolderInTheWay: see there.
        DiskFull: there is no room for it.
        Busy: another process is unpacking to ``target``.
    """
    sha256 = sha256 or file_sha256(archive)
    with exclusive(target):
        require_free(target, sha256)
        if made := unpacked(target):
            return made
        files = size = 0
        with publish(target) as folder, _plain_words(archive):
            folder.mkdir()
            for member in _read(archive, limits, progress):
                inside = len(member.parts) > 1 and member.parts[0] == target.name
                parts = member.parts[1:] if inside else member.parts
                name = "/".join(parts)
                if name == _STAMP or (suffixes is not None and not name.lower().endswith(tuple(suffixes))):
                    continue
                try:
                    path = folder.joinpath(*parts)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("xb") as file:
                        shutil.copyfileobj(member.content, file)
                except (FileExistsError, NotADirectoryError):
                    raise HostileArchive(f"{archive} is refused: it has two members {name!r}.") from None
                os.utime(path, (member.seconds, member.seconds))
                files, size = files + 1, size + member.size
            if not files:
                wanted = f" that ends in {', '.join(suffixes)}" if suffixes else ""
                raise BrokenArchive(f"{archive} holds no file{wanted}.")
            stamp = {"archive": archive.name, "sha256": sha256, "files": files, "bytes": size}
            (folder / _STAMP).write_text(json.dumps(stamp), "utf-8")
    return Unpacked(target, sha256, files, size)


def unpack_file(archive: Path, name: str, target: Path, *, limits: Limits = Limits()) -> None:
    """Make the file ``target`` from the first file in the archive that is called ``name``, in any folder.

    Raises:
        HostileArchive, BrokenArchive: see there.
        DiskFull: there is no room for it.
    """
    with _plain_words(archive):
        for member in _read(archive, limits):
            if member.parts[-1] == name:
                with publish(target) as fresh, fresh.open("xb") as file:
                    shutil.copyfileobj(member.content, file)
                return
    raise BrokenArchive(f"{archive} holds no file {name}: delete it and fetch the right one.")


def _read(
    archive: Path, limits: Limits, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[_Member]:
    """The plain files of an archive, after every check that needs no content."""
    guard = _Guard(archive, limits)
    total = archive.stat().st_size
    with (
        archive.open("rb") as file,
        tqdm(total=total, desc=f"unpacking {archive.name}", unit="B", unit_scale=True, disable=None) as bar,
    ):
        head = file.read(4)
        file.seek(0)
        if head == b"PK\3\4":
            members = _zip_members(file, guard)
        elif head[:2] == b"\x1f\x8b":
            members = _tar_members(cast(IO[bytes], gzip.GzipFile(fileobj=file)), guard)
        else:
            members = _tar_members(file, guard)
        for member in members:
            yield member
            bar.update(file.tell() - bar.n)
            progress(file.tell(), total)


class _Guard:
    """Refuses members, and counts them."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self.archive, self.limits = archive, limits
        self.members = self.bytes = 0

    def refuse(self, name: str, why: str) -> HostileArchive:
        shown = name if len(name) <= 100 else f"{name[:100]}..."
        return HostileArchive(f"{self.archive} is refused: its member {shown!r} {why}.")

    def check(self, name: str, size: int) -> tuple[str, ...]:
        """The folders and the name of a file or folder that may come out."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/"):
            raise self.refuse(name, "has an absolute path")
        if ".." in parts:
            raise self.refuse(name, "leads out of the folder")
        if "\0" in name:
            raise self.refuse(name, "has a zero byte in its name")
        longest = max((len(os.fsencode(part)) for part in parts), default=0)
        if longest > _COMPONENT or len(os.fsencode(name)) > self.limits.name_bytes:
            raise self.refuse(name, "has too long a name")
        if not 0 <= size <= self.limits.file_bytes:
            raise self.refuse(name, f"has {size:,} bytes, more than the {self.limits.file_bytes:,} of a file")
        self.members += 1
        self.bytes += size
        if self.members > self.limits.members:
            raise self.refuse(name, f"is one more than the {self.limits.members:,} that are allowed")
        if self.bytes > self.limits.bytes:
            raise self.refuse(name, f"makes it more than the {self.limits.bytes:,} bytes that are allowed")
        return parts


class _Counted:
    """A stream that ends in an error where nothing more is expected."""

    def __init__(self, stream: IO[bytes], guard: _Guard) -> None:
        self.stream, self.guard = stream, guard
        self.position = 0
        self.zeros = 0
        """Zero bytes at the end of what was read."""
        self.allow(_HEADERS)

    def allow(self, position: int) -> None:
        """Bytes up to this position may be read, and what tarfile reads ahead."""
        self.stop = position + _READ_AHEAD

    def read(self, size: int) -> bytes:
        chunk = self.stream.read(size)
        self.position += len(chunk)
        if self.position > self.stop:
            raise HostileArchive(
                f"{self.guard.archive} is refused: what is no file in it, near byte {self.position:,} of the unpacked "
                "stream, is too large."
            )
        rest = len(chunk.rstrip(b"\0"))
        self.zeros = len(chunk) - rest if rest else self.zeros + len(chunk)
        return chunk


def _tar_members(stream: IO[bytes], guard: _Guard) -> Iterator[_Member]:
    # tarfile's own filters are not in every Python 3.11, and these checks are stricter
    counted = _Counted(stream, guard)
    with tarfile.open(fileobj=counted, mode="r|") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
        while member := tar.next():
            tar.members.clear()  # tarfile would keep them all
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
            if not plain and not member.isdir():
                raise guard.refuse(member.name, f"is {_KINDS.get(member.type, 'neither a file nor a folder')}")
            parts = guard.check(member.name, member.size)
            counted.allow(tar.offset + _HEADERS)  # where the next header begins
            content = tar.extractfile(member) if plain else None
            if content is not None:
                if not parts:
                    raise guard.refuse(member.name, "has no name")
                # a time may be anything, also no number: max keeps its first argument then
                yield _Member(parts, member.size, min(time.time(), max(0.0, member.mtime)), content)
        counted.allow(tar.offset + _PADDING)
        while counted.read(_READ_AHEAD):
            pass
        # tarfile takes any header that it does not understand for the end; the true end is a block of zeros
        if counted.position < tar.offset + _BLOCK:
            raise EOFError
        if counted.position - counted.zeros > tar.offset:
            raise tarfile.ReadError(f"no header at byte {tar.offset:,}")


def _zip_members(file: IO[bytes], guard: _Guard) -> Iterator[_Member]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise EOFError from None  # it begins as a zip, and has lost the directory at its end
    with archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise guard.refuse(info.filename, f"is {_KINDS.get(kind, 'neither a file nor a folder')}")
            parts = guard.check(info.filename, info.file_size)
            if info.filename.endswith("/"):
                continue
            if not parts:
                raise guard.refuse(info.filename, "has no name")
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise guard.refuse(info.filename, "is encrypted, or packed by a method other than deflate")
            if info.header_offset < 0:
                raise zipfile.BadZipFile("its directory points before its beginning")
            changed = time.mktime((*info.date_time, 0, 0, -1))
            with archive.open(info) as content:
                yield _Member(parts, info.file_size, changed, content)


@contextmanager
def _plain_words(archive: Path) -> Iterator[None]:
    """Say what is wrong with an archive where a library stumbles over it."""
    try:
        yield
    except EOFError:
        raise BrokenArchive(f"{archive} is cut off before its end: delete it and fetch it again.") from None
    except tarfile.ReadError as error:
        if "unexpected end of data" in str(error):
            raise BrokenArchive(f"{archive} is cut off before its end: delete it and fetch it again.") from None
        raise BrokenArchive(f"{archive} is damaged, or no .tar, .tar.gz or .zip: {error}.") from None
    except _DAMAGE as error:
        raise BrokenArchive(f"{archive} is damaged: {error}.") from None
