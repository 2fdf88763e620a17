"""Large files from the net: fetched in pieces, resumed after a break, checked before they take their name."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tqdm import tqdm

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.locks import exclusive
from music_assets.foundation.publishing import DiskFull, publish, require_room

if TYPE_CHECKING:
    from requests import Response, Session

LIMIT = 64 << 20
"""Bytes that a file of unknown size may have."""
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try after a break; they start anew whenever more of the file has come."""
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""

_CHUNK = 1 << 14  # what a connection that hangs may cost
_PASSING = (408, 425, 429, *range(500, 600))  # answers that may be others a little later


class DownloadFailed(MusicAssetsError):
    """A file could not be fetched; the message says why, and what to do."""


class Damaged(DownloadFailed):
    """A file is not what it should be: its sha256 is another one."""


@dataclass(frozen=True)
class Downloaded:
    """A file that is complete and in its place."""

    path: Path
    bytes: int
    sha256: str
    fetched: int
    """Bytes that came over the net this time."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    limit: int = LIMIT,
    waits: Sequence[float] = WAITS,
    timeout: float = TIMEOUT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Downloaded:
    """Fetch ``url`` (http or https) to ``target``, which appears only when it is complete and verified.

    What has come lies in ``<target>.part`` and is not fetched again, also by a later process: the rest is asked for
    by range (RFC 9110, section 14). With ``sha256`` from any server, for the hash tells in the end; without it only if
    the server names the version of its file (a strong ETag or Last-Modified, sent back as If-Range), so that the halves
    of two versions are never joined. ``size`` is the exact number of bytes if it is known; otherwise the server's word
    counts, up to ``limit``. No byte beyond is written. After a break it tries again by itself, and gives up after
    ``len(waits)`` further tries in a row that brought nothing new.
    ``progress`` is called with (bytes there, bytes in all; as many as there are, where nobody knows).

    Raises:
        DownloadFailed: the server does not have it, or not of that size, or broke off too often; what has come is
            kept if more may follow it.
        Damaged: it came with another sha256, and was deleted.
        DiskFull: there is no room for it; what has come is kept.
        Busy: another process is fetching it.
    """
    from requests import Session

    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadFailed(f"{url} is no address to fetch from: it must start with http:// or https://.")
    with exclusive(target), Session() as session:
        part = _Part(target, url, sha256, size, limit)
        left = list(waits)
        bar = tqdm(total=size, desc=target.name, unit="B", unit_scale=True, disable=None)

        def report() -> None:
            bar.total = part.total
            bar.update(part.bytes - bar.n)
            progress(part.bytes, part.bytes if part.total is None else part.total)

        with bar:
            most = part.bytes
            while not part.complete:
                try:
                    _request(session, part, timeout, report)
                except _Break as broken:
                    if part.bytes > most:
                        most, left = part.bytes, list(waits)
                    if not part.joinable:
                        part.discard()
                    if not left:
                        raise DownloadFailed(
                            f"{url} could not be fetched, {len(waits) + 1} tries in a row brought nothing new: "
                            f"{broken}. {part.bytes:,} bytes are kept in {part.path}; start again to go on from there."
                        ) from broken
                    time.sleep(left.pop(0))
            report()
        return part.finish()


def file_sha256(file: Path) -> str:
    """The hash of a file's bytes in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Break(Exception):
    """A try ended before the file did; another one may go on."""


@dataclass(frozen=True)
class _Version:
    """Which file, and which version of it, the bytes of a ``.part`` file come from."""

    url: str
    tag: str | None = None
    """What If-Range takes: a strong ETag, or the date of Last-Modified."""
    bytes: int | None = None
    """Its length as the server says."""


class _Part:
    """A file on its way: ``<target>.part``, and ``<target>.part.json`` that says what it is a part of."""

    def __init__(self, target: Path, url: str, sha256: str | None, size: int | None, limit: int) -> None:
        self.target, self.url, self.sha256, self.size, self.limit = target, url, sha256, size, limit
        self.path = target.with_name(f"{target.name}.part")
        self.facts = target.with_name(f"{target.name}.part.json")
        self.fetched = 0
        self.ended = False
        """The server has said that nothing follows."""
        self.version = _Version(url)
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            self.version = _Version(**json.loads(self.facts.read_text("utf-8")))
        self.bytes = self.path.stat().st_size if self.path.exists() else 0
        if not self.joinable or (self.total is not None and self.bytes > self.total):
            self.discard()

    @property
    def tag(self) -> str | None:
        """What the server must say of its file, where no hash will tell."""
        return self.version.tag if self.sha256 is None and self.version.url == self.url else None

    @property
    def joinable(self) -> bool:
        """Whether more bytes may follow those that are there."""
        return self.sha256 is not None or self.tag is not None

    @property
    def total(self) -> int | None:
        return self.version.bytes if self.size is None else self.size

    @property
    def complete(self) -> bool:
        return self.ended or (self.total is not None and self.bytes == self.total)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)
        self.bytes, self.ended, self.version = 0, False, _Version(self.url)

    def begin(self, version: _Version) -> None:
        """Start at the first byte."""
        self.discard()
        # before the first byte, so that no byte is ever of an unknown version
        with publish(self.facts) as facts:
            facts.write_text(json.dumps(asdict(version)), "utf-8")
        self.version = version

    def append(self, file: FileIO, chunk: bytes) -> None:
        """Write at the end of ``file``, which is this part opened without a buffer."""
        most = self.limit if self.total is None else self.total
        if self.bytes + len(chunk) > most:
            self.discard()
            raise DownloadFailed(f"{self.url} sends more than {most:,} bytes: this is not the file to fetch.")
        rest = memoryview(chunk)
        try:
            while rest:
                written = file.write(rest)
                self.bytes += written
                self.fetched += written
                rest = rest[written:]
        except OSError as error:
            require_room(self.path.parent, error)
            raise

    def finish(self) -> Downloaded:
        """Verify, and take the target's name."""
        self.path.touch()
        found = file_sha256(self.path)
        if self.sha256 is not None and found != self.sha256:
            self.discard()
            raise Damaged(
                f"{self.url} came with the sha256 {found} instead of {self.sha256} and was deleted: start again; "
                "if that gives the same, the server has another file, so give another address."
            )
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self.facts.unlink(missing_ok=True)
        folder = os.open(self.target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Downloaded(self.target, self.bytes, found, self.fetched)


def _request(session: "Session", part: _Part, timeout: float, report: Callable[[], None]) -> None:
    """Ask once for what is missing and append it; returns when the server has sent all it announced.

    Raises:
        _Break: another try may bring more.
        DownloadFailed: no other try will.
    """
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, RequestException, TooManyRedirects
    from urllib3.exceptions import HTTPError

    headers = {"Accept-Encoding": "identity"}
    if part.bytes:
        headers["Range"] = f"bytes={part.bytes}-"
        if part.tag:
            headers["If-Range"] = part.tag
    try:
        with session.get(part.url, headers=headers, stream=True, timeout=timeout) as response:
            _accept(response, part)
            report()
            if part.complete:
                return
            with part.path.open("ab", buffering=0) as file:
                # never decoded: a .tar.gz that is announced as gzip content is wanted as it is
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    part.append(file, chunk)
                    report()
            part.ended = part.total is None
    except (InvalidSchema, InvalidURL, MissingSchema, TooManyRedirects) as error:
        raise DownloadFailed(f"{part.url} leads nowhere ({error}): check the address.") from error
    except (RequestException, HTTPError) as error:
        raise _Break(_reason(error, timeout)) from error
    if not part.complete:
        raise _Break(f"the server ended after {part.bytes:,} of {part.total:,} bytes")


def _accept(response: "Response", part: _Part) -> None:
    """Compare the head of an answer with what is there, and start anew where they do not belong together.

    Raises:
        _Break, DownloadFailed: nothing of this answer is of use.
    """
    status, offset = response.status_code, part.bytes
    if status in _PASSING:
        raise _Break(f"the server answers {status} {response.reason}")
    if status not in (200, 206, 416):
        raise DownloadFailed(
            f"{part.url} cannot be fetched, the server answers {status} {response.reason}: check the address, "
            "or fetch the file by other means and put it into its place."
        )
    if status == 200 and response.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadFailed(
            f"{part.url} gives a web page and not the file: check the address, and whether this network asks for a "
            "login first."
        )
    if part.sha256 is None and response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadFailed(f"{part.url} comes compressed although it must not: fetch it by other means.")
    start, total = _range(response)
    if total is not None and part.size is not None and total != part.size:
        raise _Break(f"the server offers {total:,} bytes, and the file has {part.size:,}")
    if total is not None and part.size is None and total > part.limit:
        raise DownloadFailed(f"{part.url} has {total:,} bytes, more than the {part.limit:,} that are allowed.")
    version = replace(_version(response, part.url), bytes=total)
    changed = _differ(part.tag, version.tag) or _differ(part.total, total)
    if status == 416:
        part.ended = bool(offset) and total == offset and not changed
        if not part.ended:
            part.discard()
            raise _Break(f"the server has nothing from byte {offset:,} on")
        return
    if status == 206 and (start != offset or changed):
        part.discard()
        raise _Break("the file has changed on the server" if changed else "the server sends another part of the file")
    if status == 200 or not offset:
        part.begin(version)
    elif part.total is None and total is not None:
        part.version = replace(part.version, bytes=total)
    missing = (part.total or 0) - part.bytes
    if missing > shutil.disk_usage(part.path.parent).free:
        raise DiskFull(
            f"The disk that holds {part.path.parent} has no room for the {missing:,} bytes that are missing of "
            f"{part.target.name}: free some space and start again."
        )


def _range(response: "Response") -> tuple[int | None, int | None]:
    """First byte of the body, and length of the whole file, as far as the server says."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", "").strip())
    if not match:
        return None, None
    return int(match[1]) if match[1] else None, int(match[2]) if match[2] else None


def _differ(before: str | int | None, now: str | int | None) -> bool:
    return before is not None and now is not None and before != now


def _version(response: "Response", url: str) -> _Version:
    tag = response.headers.get("ETag", "")
    # a weak one may stay the same although bytes change
    return _Version(url, tag if tag.startswith('"') else response.headers.get("Last-Modified"))


def _reason(error: Exception, timeout: float) -> str:
    """What broke, in words for people; the libraries' own words are in the exception that this one is raised from."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import ConnectTimeout, ReadTimeout, SSLError
    from urllib3.exceptions import ReadTimeoutError

    if isinstance(error, ConnectTimeout | ReadTimeout | ReadTimeoutError):
        return f"nothing came for {timeout:g} seconds"
    if isinstance(error, SSLError):
        return "no secure connection to the server"
    if isinstance(error, NoConnection):
        return "no connection to the server"
    return "the connection broke off"
