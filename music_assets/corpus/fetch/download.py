"""Large files from the net: resumed after a break, checked before they take their name."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import file_sha256
from music_assets.foundation.locks import exclusive
from music_assets.foundation.publishing import require_room

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

    With ``sha256``, what has come lies in ``<target>.part`` and is not fetched again, also by a later process: the rest
    is asked for by range, and the hash tells in the end whether the parts belong together. Without it every try begins
    anew. ``size`` is the exact number of bytes if it is known, otherwise no more than ``limit`` are written. After a
    break it tries again by itself, and gives up after ``len(waits)`` further tries in a row that brought nothing new.
    ``progress`` is called with (bytes there, bytes in all as far as anybody knows).

    Raises:
        DownloadFailed: the server does not have it, or not of that size, or broke off too often.
        Damaged: it came with another sha256, and was deleted.
        DiskFull: there is no room for it; what has come is kept.
        Busy: another process is fetching it.
    """
    from requests import Session

    if not url.startswith(("http://", "https://")):
        raise DownloadFailed(f"{url} is no address to fetch from: it must start with http:// or https://.")
    part, left, fetched = target.with_name(f"{target.name}.part"), list(waits), 0
    most = limit if size is None else size
    with (
        exclusive(target),
        Session() as session,
        tqdm(total=size, desc=target.name, unit="B", unit_scale=True, disable=None) as bar,
    ):
        longest = _length(part)
        while True:
            if sha256 is None or _length(part) > most:
                part.unlink(missing_ok=True)
            try:
                if size is None or _length(part) < size:
                    for done, total, new in _rest(session, url, part, size, most, timeout):
                        fetched += new
                        bar.total = total
                        bar.update(done - bar.n)
                        progress(done, total)
                if size is not None and _length(part) < size:
                    raise _Break(f"the server ended after {_length(part):,} of {size:,} bytes")  # noqa: TRY301, as if it had broken
                break
            except _Break as broken:
                if _length(part) > longest:
                    longest, left = _length(part), list(waits)
                if not left:
                    raise DownloadFailed(
                        f"{url} could not be fetched, {len(waits) + 1} tries in a row brought nothing new: {broken}. "
                        f"{_length(part):,} bytes are kept in {part}; start again to go on from there."
                    ) from broken
                time.sleep(left.pop(0))
        found = file_sha256(part)
        if sha256 not in (None, found):
            part.unlink()
            raise Damaged(
                f"{url} came with the sha256 {found} instead of {sha256} and was deleted: start again; if that gives "
                "the same, the server has another file, so give another address."
            )
        part.replace(target)
    return Downloaded(target, target.stat().st_size, found, fetched)


class _Break(Exception):
    """A try ended before the file did; another one may go on."""


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _rest(
    session: "Session", url: str, part: Path, size: int | None, limit: int, timeout: float
) -> Iterator[tuple[int, int, int]]:
    """Ask once for what is missing and append it; yields (bytes there, bytes in all, bytes that have just come).

    Raises:
        _Break: another try may bring more.
        DownloadFailed: no other try will.
    """
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, RequestException, TooManyRedirects
    from urllib3.exceptions import HTTPError

    offset = _length(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 416:  # nothing follows; the hash tells whether that is right
                return
            _require_file(response, url)
            if response.status_code == 200:
                offset = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                part.unlink()
                raise _Break("the server sends another part of the file")
            announced = response.headers.get("Content-Length", "")
            total = offset + int(announced) if announced.isdecimal() else size
            if total is not None and (total > limit or size not in (None, total)):
                other = "more than the {:,} that are allowed" if size is None else "and not the {:,} of the file"
                raise DownloadFailed(f"{url} has {total:,} bytes, {other.format(limit)}: check the address.")
            with part.open("ab" if offset else "wb") as file:
                yield offset, total or offset, 0
                # never decoded: a .tar.gz that is announced as gzip content is wanted as it is
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    offset += len(chunk)
                    if offset > limit:
                        part.unlink()
                        raise DownloadFailed(f"{url} sends more than {limit:,} bytes: this is not the file to fetch.")
                    file.write(chunk)
                    file.flush()
                    yield offset, total or offset, len(chunk)
    except (InvalidSchema, InvalidURL, MissingSchema, TooManyRedirects) as error:
        raise DownloadFailed(f"{url} leads nowhere ({error}): check the address.") from error
    except (RequestException, HTTPError) as error:
        raise _Break(_reason(error, timeout)) from error
    except OSError as error:
        require_room(part.parent, error)
        raise


def _require_file(response: "Response", url: str) -> None:
    status = response.status_code
    if status in _PASSING:
        raise _Break(f"the server answers {status} {response.reason}")
    if status not in (200, 206):
        raise DownloadFailed(
            f"{url} cannot be fetched, the server answers {status} {response.reason}: check the address, or fetch the "
            "file by other means and put it into its place."
        )
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadFailed(
            f"{url} gives a web page and not the file: check the address, and whether this network asks for a login "
            "first."
        )


def _reason(error: Exception, timeout: float) -> str:
    """What broke, in words for people; the libraries' own words are in the exception that this one is raised from."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import Timeout
    from urllib3.exceptions import ReadTimeoutError

    if isinstance(error, Timeout | ReadTimeoutError):
        return f"nothing came for {timeout:g} seconds"
    return "no connection to the server" if isinstance(error, NoConnection) else "the connection broke off"
