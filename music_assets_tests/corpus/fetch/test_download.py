"""Downloads from a real server that breaks off, lies, and changes its mind."""

import hashlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from music_assets.corpus.fetch.download import Damaged, Downloaded, DownloadFailed, download
from music_assets.foundation.locks import Busy, exclusive
from music_assets.foundation.publishing import DiskFull
from music_assets_tests import disks
from music_assets_tests.file_server import FileServer, Manner, file_server

pytestmark = pytest.mark.slow

BODY = random.Random(0).randbytes(300_001)
SHA256 = hashlib.sha256(BODY).hexdigest()
KNOWN = {"sha256": SHA256, "size": len(BODY)}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        server.files["file"] = BODY
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file"


def fetch(server: FileServer, target: Path, **options: Any) -> Downloaded:
    return download(f"{server.url}/file", target, **{"waits": (0.0, 0.0, 0.0), "timeout": 20.0} | options)


def beside(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} if target.parent.exists() else set()


@pytest.mark.parametrize("known", [KNOWN, {"sha256": SHA256}, {}], ids=["known", "hash", "unknown"])
@pytest.mark.parametrize("manner", [Manner(), Manner(chunked=True)], ids=["plain", "chunked"])
def test_a_file_comes_whole_and_alone(server: FileServer, target: Path, known: dict[str, Any], manner: Manner) -> None:
    server.manner = manner
    calls = []
    done = fetch(server, target, progress=lambda *numbers: calls.append(numbers), **known)
    assert done == Downloaded(target, len(BODY), SHA256, len(BODY))
    assert target.read_bytes() == BODY
    assert beside(target) == {"file"}
    assert calls == sorted(calls)
    assert calls[-1] == (len(BODY), len(BODY))


@pytest.mark.parametrize("chunked", [False, True])
def test_breaks_cost_no_byte_of_a_file_with_a_known_hash(server: FileServer, target: Path, chunked: bool) -> None:
    server.manners["file"] = [Manner(cut=cut, chunked=chunked) for cut in (1, 60_000, 16_384, 100_000)]
    done = fetch(server, target, **KNOWN)
    assert target.read_bytes() == BODY
    assert done.fetched == server.sent == len(BODY)


def test_parts_of_a_file_without_a_hash_are_never_joined(server: FileServer, target: Path) -> None:
    server.manners["file"] = [Manner(cut=150_000)]
    with pytest.raises(DownloadFailed):
        fetch(server, target, waits=())
    fetch(server, target)
    assert [request.start for request in server.requests] == [None, None]
    assert target.read_bytes() == BODY


def test_resets_hangs_and_overload_are_sat_out(server: FileServer, target: Path) -> None:
    server.manners["file"] = [
        Manner(status=503),
        Manner(cut=100_000, reset=True),
        Manner(cut=50_000, hang=True),
        Manner(status=429),
        Manner(cut=0, reset=True),
    ]
    fetch(server, target, timeout=0.3, **KNOWN)
    assert target.read_bytes() == BODY
    starts = [request.start or 0 for request in server.requests]
    assert starts == sorted(starts)
    # of a connection that hangs, all has come but what was being read
    assert starts[3] - starts[2] > 50_000 - 2 * 16_384


def test_it_gives_up_after_some_tries_without_progress_and_goes_on_later(server: FileServer, target: Path) -> None:
    server.manners["file"] = [Manner(cut=1000), Manner(cut=1000), *[Manner(cut=0)] * 4]
    with pytest.raises(DownloadFailed, match=r"4 tries in a row .* 2,000 bytes are kept"):
        fetch(server, target, **KNOWN)
    assert len(server.requests) == 1 + 1 + 3
    assert not target.exists()
    server.manners.clear()
    assert fetch(server, target, **KNOWN).fetched == len(BODY) - 2000
    assert target.read_bytes() == BODY
    assert beside(target) == {"file"}


CHILD = """
import os, signal, sys
from pathlib import Path
from music_assets.corpus.fetch.download import download
url, target, at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
def progress(done, total):
    if done >= at:
        os.kill(os.getpid(), signal.SIGKILL)
download(url, target, progress=progress, **eval(sys.argv[4]))
"""


def test_killed_processes_lose_nothing_that_had_come(server: FileServer, target: Path) -> None:
    for moment in (100_000, len(BODY)):
        command = [sys.executable, "-c", CHILD, f"{server.url}/file", str(target), str(moment), repr(KNOWN)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not target.exists()
    assert (server.requests[1].start or 0) >= 100_000
    assert fetch(server, target, **KNOWN).fetched == 0
    assert target.read_bytes() == BODY
    assert beside(target) == {"file"}


def test_a_complete_part_of_unknown_length(server: FileServer, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("file.part").write_bytes(BODY)
    assert fetch(server, target, sha256=SHA256) == Downloaded(target, len(BODY), SHA256, 0)


def test_a_server_without_ranges_is_asked_from_the_start_until_it_brings_nothing_new(
    server: FileServer, target: Path
) -> None:
    server.manner = Manner(ranges=False)
    server.manners["file"] = [Manner(cut=200_000)]
    assert fetch(server, target, **KNOWN).fetched == 200_000 + len(BODY)
    assert target.read_bytes() == BODY
    target.unlink()
    server.requests.clear()
    server.manner = Manner(ranges=False, cut=100_000)
    with pytest.raises(DownloadFailed, match="nothing new"):
        fetch(server, target, **KNOWN)
    assert len(server.requests) == 1 + 3


def test_a_mirror_goes_on_where_another_one_died(server: FileServer, target: Path) -> None:
    server.manners["file"] = [Manner(cut=150_000)]
    with pytest.raises(DownloadFailed):
        fetch(server, target, waits=(), **KNOWN)
    with file_server() as mirror:
        mirror.files["file"] = BODY
        assert fetch(mirror, target, **KNOWN).fetched == len(BODY) - 150_000
    assert target.read_bytes() == BODY


def test_a_damaged_file_goes_and_the_next_try_starts_anew(server: FileServer, target: Path) -> None:
    server.files["file"] = BODY[:-1] + b"!"
    with pytest.raises(Damaged, match=f"instead of {SHA256} and was deleted: start again"):
        fetch(server, target, **KNOWN)
    assert beside(target) == set()
    server.files["file"] = BODY
    assert fetch(server, target, **KNOWN).fetched == len(BODY)


@pytest.mark.parametrize("length", [1000, len(BODY) + 1])
def test_another_length_than_the_known_one_is_refused_and_costs_nothing(
    server: FileServer, target: Path, length: int
) -> None:
    server.manners["file"] = [Manner(cut=150_000), Manner(length=length, ranges=False)]
    with pytest.raises(DownloadFailed, match=f"has {length:,} bytes, and not the 300,001 of the file"):
        fetch(server, target, **KNOWN)
    assert fetch(server, target, **KNOWN).fetched == len(BODY) - 150_000


@pytest.mark.parametrize(
    ("chunked", "words"), [(False, "has 300,001 bytes, more than the 1,000"), (True, "sends more than 1,000")]
)
def test_an_unknown_size_has_a_limit(server: FileServer, target: Path, chunked: bool, words: str) -> None:
    server.manner = Manner(chunked=chunked)
    sizes = []
    with pytest.raises(DownloadFailed, match=words):
        fetch(server, target, limit=1000, progress=lambda done, total: sizes.append(done))
    assert max(sizes, default=0) <= 1000
    assert beside(target) == set()


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        (Manner(status=404), "answers 404 Not Found: check the address"),
        (Manner(headers={"Content-Type": "text/html; charset=utf-8"}), "gives a web page and not the file"),
        (Manner(status=302, headers={"Location": "file:///etc/passwd"}), "leads nowhere"),
        (Manner(status=302, headers={"Location": "/file"}), "leads nowhere"),
    ],
)
def test_what_no_other_try_would_mend_fails_at_once(
    server: FileServer, target: Path, manner: Manner, words: str
) -> None:
    server.manner = manner
    with pytest.raises(DownloadFailed, match=words):
        fetch(server, target)
    assert beside(target) == set()


def test_an_archive_that_is_announced_as_compressed_content_stays_as_it_is(server: FileServer, target: Path) -> None:
    server.manner = Manner(headers={"Content-Encoding": "x-gzip"})
    fetch(server, target, **KNOWN)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("url", ["file:///etc/hostname", "/etc/hostname", "http://", "http://[/"])
def test_only_web_addresses(target: Path, url: str) -> None:
    with pytest.raises(DownloadFailed, match=r"http|Invalid"):
        download(url, target, waits=())
    assert beside(target) == set()


def test_nobody_is_there(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DownloadFailed, match="no connection to the server"):
        download(f"http://127.0.0.1:{port}/file", target, waits=())


def test_a_disk_that_fills_up_keeps_what_has_come(server: FileServer, tmp_path: Path) -> None:
    with disks.small_disk(tmp_path / "disk", "400k") as disk:
        target, filler = disk / "file", disk / "filler"

        def fill(done: int, total: int) -> None:
            if done > 100_000 and not filler.exists():
                filler.write_bytes(bytes(200_000))

        with pytest.raises(DiskFull, match=f"The disk that holds {disk} is full"):
            fetch(server, target, progress=fill, **KNOWN)
        filler.unlink()
        kept = (disk / "file.part").stat().st_size
        assert kept > 100_000
        assert fetch(server, target, **KNOWN).fetched == len(BODY) - kept
        assert target.read_bytes() == BODY


def test_two_do_not_fetch_one_file_at_once(server: FileServer, target: Path) -> None:
    with exclusive(target), pytest.raises(Busy, match="Another process is writing"):
        fetch(server, target)


def test_requests_is_loaded_only_when_something_is_fetched() -> None:
    code = "import sys, music_assets.corpus.fetch.lakh; print([m for m in ('requests', 'urllib3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
