"""Downloads from a real server that breaks off, lies, and changes its mind."""

import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from music_assets.corpus.fetch import download as module
from music_assets.corpus.fetch.download import Damaged, Downloaded, DownloadFailed, download
from music_assets.foundation.locks import Busy, exclusive
from music_assets.foundation.publishing import DiskFull
from music_assets_tests import disks
from music_assets_tests.file_server import FileServer, Manner, file_server

BODY = random.Random(0).randbytes(300_001)
OTHER = random.Random(1).randbytes(300_001)
SHA256 = hashlib.sha256(BODY).hexdigest()
KNOWN = {"sha256": SHA256, "size": len(BODY)}
NO_WAITS = (0.0, 0.0, 0.0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        server.files["file"] = BODY
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file"


def fetch(server: FileServer, target: Path, **options: Any) -> Downloaded:
    return download(f"{server.url}/file", target, **{"waits": NO_WAITS, "timeout": 20.0} | options)


def beside(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} if target.parent.exists() else set()


@pytest.mark.parametrize("known", [KNOWN, {}], ids=["known", "unknown"])
@pytest.mark.parametrize("manner", [Manner(), Manner(chunked=True), Manner(tags=())], ids=["plain", "chunked", "bare"])
def test_a_file_comes_whole_and_alone(server: FileServer, target: Path, known: dict[str, Any], manner: Manner) -> None:
    server.manner = manner
    calls = []
    done = fetch(server, target, progress=lambda *numbers: calls.append(numbers), **known)
    assert done == Downloaded(target, len(BODY), SHA256, len(BODY))
    assert target.read_bytes() == BODY
    assert beside(target) == {"file"}
    assert calls == sorted(calls)
    assert calls[-1] == (len(BODY), len(BODY))


def test_an_empty_file(server: FileServer, target: Path) -> None:
    server.files["file"] = b""
    assert fetch(server, target).bytes == 0
    assert target.read_bytes() == b""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(1, 60_000), max_size=8),
    known=st.sampled_from([KNOWN, {}]),
    tags=st.sampled_from([("ETag",), ("Last-Modified",)]),
    chunked=st.booleans(),
)
def test_breaks_cost_no_byte(
    server: FileServer,
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    known: dict[str, Any],
    tags: tuple[str, ...],
    chunked: bool,
) -> None:
    target = tmp_path_factory.mktemp("break") / "file"
    server.requests.clear()
    server.manner = Manner(tags=tags)
    server.manners["file"] = [Manner(cut=cut, tags=tags, chunked=chunked) for cut in cuts]
    done = fetch(server, target, **known)
    assert target.read_bytes() == BODY
    assert done.fetched == server.sent == len(BODY)
    assert len(server.requests) == len(cuts) + 1


@pytest.mark.parametrize("known", [KNOWN, {}], ids=["known", "unknown"])
def test_resets_hangs_and_overload_are_sat_out(server: FileServer, target: Path, known: dict[str, Any]) -> None:
    server.manners["file"] = [
        Manner(status=503),
        Manner(cut=100_000, reset=True),
        Manner(cut=50_000, hang=True),
        Manner(status=429),
        Manner(cut=0, reset=True),
    ]
    done = fetch(server, target, timeout=0.3, **known)
    assert target.read_bytes() == BODY
    starts = [request.start or 0 for request in server.requests]
    assert starts == sorted(starts)
    assert done.fetched == len(BODY)
    # of a connection that hangs, all has come but what was being read
    assert starts[3] - starts[2] > 50_000 - 2 * 16_384


def test_it_gives_up_after_some_tries_without_progress_and_goes_on_later(server: FileServer, target: Path) -> None:
    server.manners["file"] = [Manner(cut=1000), Manner(cut=1000), *[Manner(cut=0)] * 3, Manner(cut=0), Manner(cut=0)]
    with pytest.raises(DownloadFailed, match=r"4 tries in a row .* broke off\. 2,000 bytes are kept"):
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


@pytest.mark.parametrize("known", [KNOWN, {}], ids=["known", "unknown"])
def test_killed_processes_lose_nothing_that_had_come(server: FileServer, target: Path, known: dict[str, Any]) -> None:
    kept = []
    for moment in (0, 20_000, 200_000, len(BODY)):
        command = [sys.executable, "-c", CHILD, f"{server.url}/file", str(target), str(moment), repr(known)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not target.exists()
        part = target.with_name("file.part")
        kept.append(part.stat().st_size if part.exists() else 0)
    assert kept == sorted(kept)
    assert kept[-1] == len(BODY)
    assert [request.start for request in server.requests] == [kept[0] or None, kept[0] or None, *kept[1:3]]
    done = fetch(server, target, **known)
    assert done.fetched == 0
    assert target.read_bytes() == BODY
    assert beside(target) == {"file"}


def test_a_server_without_ranges_is_asked_from_the_start(server: FileServer, target: Path) -> None:
    server.manner = Manner(ranges=False)
    server.manners["file"] = [Manner(cut=200_000), Manner(ranges=False, cut=100_000)]
    done = fetch(server, target, **KNOWN)
    assert target.read_bytes() == BODY
    assert done.fetched == 200_000 + 100_000 + len(BODY)


def test_without_ranges_and_with_constant_breaks_it_ends(server: FileServer, target: Path) -> None:
    server.manner = Manner(ranges=False, cut=100_000)
    with pytest.raises(DownloadFailed, match="nothing new"):
        fetch(server, target, **KNOWN)
    assert len(server.requests) == 1 + len(NO_WAITS)


@pytest.mark.parametrize("manner", [Manner(), Manner(if_range=False)], ids=["If-Range", "sloppy"])
@pytest.mark.parametrize("later", [True, False], ids=["another call", "same call"])
@pytest.mark.parametrize("other", [OTHER, OTHER[:120_000], OTHER + b"x"], ids=["same size", "shorter", "longer"])
def test_halves_of_two_versions_are_never_joined(
    server: FileServer, target: Path, manner: Manner, later: bool, other: bytes
) -> None:
    server.manner = manner
    server.manners["file"] = [Manner(cut=150_000)]

    def change(done: int, total: int) -> None:
        if done == 150_000:
            server.files["file"] = other

    if later:
        with pytest.raises(DownloadFailed):
            fetch(server, target, progress=change, waits=())
    fetch(server, target, progress=change)
    assert target.read_bytes() == other
    if manner.if_range:
        assert [request.if_range is None for request in server.requests] == [True, False]


def test_bytes_of_an_unknown_version_are_not_kept(server: FileServer, target: Path) -> None:
    server.manner = Manner(tags=())
    server.manners["file"] = [Manner(cut=150_000, tags=())]
    fetch(server, target)
    assert [request.start for request in server.requests] == [None, None]
    assert target.read_bytes() == BODY


def test_a_weak_tag_names_no_version(server: FileServer, target: Path) -> None:
    weak = Manner(tags=(), headers={"ETag": 'W/"1"'})
    server.manner = weak
    server.manners["file"] = [Manner(cut=150_000, tags=(), headers={"ETag": 'W/"1"'})]
    fetch(server, target)
    assert [request.start for request in server.requests] == [None, None]


def test_a_mirror_goes_on_where_another_one_died(server: FileServer, target: Path) -> None:
    server.manners["file"] = [Manner(cut=150_000)]
    with pytest.raises(DownloadFailed):
        fetch(server, target, waits=(), **KNOWN)
    with file_server() as mirror:
        mirror.files["file"] = BODY
        mirror.manner = Manner(tags=("Last-Modified",))
        assert fetch(mirror, target, **KNOWN).fetched == len(BODY) - 150_000
        assert mirror.requests[0].if_range is None
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("length", [1000, len(BODY) - 1, len(BODY) + 1, 10**7])
def test_a_lie_about_a_known_length_is_refused_and_costs_nothing(server: FileServer, target: Path, length: int) -> None:
    server.manners["file"] = [Manner(cut=150_000)]
    with pytest.raises(DownloadFailed):
        fetch(server, target, waits=(), **KNOWN)
    server.manner = Manner(length=length)
    with pytest.raises(DownloadFailed, match=f"offers {length:,} bytes, and the file has 300,001.*150,000 bytes are"):
        fetch(server, target, **KNOWN)
    assert not target.exists()
    server.manner = Manner()
    assert fetch(server, target, **KNOWN).fetched == len(BODY) - 150_000


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_never_gets_as_long_as_announced(server: FileServer, target: Path, ranges: bool) -> None:
    server.manner = Manner(length=len(BODY) + 5000, ranges=ranges)
    with pytest.raises(DownloadFailed, match="brought nothing new"):
        fetch(server, target)
    assert not target.exists()


def test_a_body_beyond_the_known_size_is_not_written(server: FileServer, target: Path) -> None:
    server.manner = Manner(chunked=True)
    sizes = []

    def look(done: int, total: int) -> None:
        sizes.append(sum(path.stat().st_size for path in target.parent.glob("file.part")))

    with pytest.raises(DownloadFailed, match=r"sends more than 100,000 bytes"):
        fetch(server, target, size=100_000, sha256=SHA256, progress=look)
    assert max(sizes) <= 100_000
    assert beside(target) == set()


@pytest.mark.parametrize(
    ("chunked", "words"), [(False, "has 300,001 bytes, more than the 1,000"), (True, "sends more than 1,000")]
)
def test_an_unknown_size_has_a_limit(server: FileServer, target: Path, chunked: bool, words: str) -> None:
    server.manner = Manner(chunked=chunked)
    with pytest.raises(DownloadFailed, match=words):
        fetch(server, target, limit=1000)
    assert beside(target) == set()


def test_a_complete_part_of_unknown_length(server: FileServer, target: Path) -> None:
    tag = f'"{hashlib.md5(BODY).hexdigest()}"'
    target.parent.mkdir(parents=True)
    target.with_name("file.part").write_bytes(BODY)
    target.with_name("file.part.json").write_text(json.dumps({"url": f"{server.url}/file", "tag": tag}))
    assert fetch(server, target) == Downloaded(target, len(BODY), SHA256, 0)
    assert [request.start for request in server.requests] == [len(BODY)]


@pytest.mark.parametrize("facts", ["", "[]", '{"url": 1, "wrong": 2}', "null"])
def test_a_part_that_is_too_long_or_of_nothing_known_is_begun_anew(
    server: FileServer, target: Path, facts: str
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("file.part").write_bytes(bytes(len(BODY) + 10))
    target.with_name("file.part.json").write_text(facts)
    assert fetch(server, target, **KNOWN).fetched == len(BODY)
    target.unlink()
    target.with_name("file.part").write_bytes(BODY[:1000])
    assert fetch(server, target).fetched == len(BODY)
    assert target.read_bytes() == BODY


def test_a_server_with_less_than_is_there_gives_its_file_anew(server: FileServer, target: Path) -> None:
    server.manners["file"] = [Manner(cut=150_000)]
    with pytest.raises(DownloadFailed):
        fetch(server, target, waits=())
    server.files["file"] = OTHER[:100_000]
    server.manner = Manner(if_range=False)
    fetch(server, target)
    assert target.read_bytes() == OTHER[:100_000]
    assert [request.start for request in server.requests] == [None, 150_000, None]


def test_a_damaged_file_goes_and_the_next_try_starts_anew(server: FileServer, target: Path) -> None:
    server.files["file"] = BODY[:-1] + b"!"
    with pytest.raises(Damaged, match=f"instead of {SHA256} and was deleted: start again"):
        fetch(server, target, **KNOWN)
    assert beside(target) == set()
    server.files["file"] = BODY
    assert fetch(server, target, **KNOWN).fetched == len(BODY)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        (Manner(status=404), "answers 404 Not Found: check the address"),
        (Manner(status=403), "answers 403"),
        (Manner(headers={"Content-Type": "text/html; charset=utf-8"}), "gives a web page and not the file"),
        (Manner(status=302, headers={"Location": "file:///etc/passwd"}), "leads nowhere"),
        (Manner(status=302, headers={"Location": "/file"}), "leads nowhere"),
        (Manner(headers={"Content-Encoding": "gzip"}), "comes compressed"),
    ],
)
def test_what_no_other_try_would_mend_fails_at_once(
    server: FileServer, target: Path, manner: Manner, words: str
) -> None:
    server.manner = manner
    with pytest.raises(DownloadFailed, match=words):
        fetch(server, target)
    assert len({request.start for request in server.requests}) == 1
    assert beside(target) == set()


def test_an_archive_that_is_announced_as_compressed_content_stays_as_it_is(server: FileServer, target: Path) -> None:
    server.manner = Manner(headers={"Content-Encoding": "x-gzip"})
    fetch(server, target, **KNOWN)
    assert target.read_bytes() == BODY


def test_a_redirection_is_followed(server: FileServer, target: Path) -> None:
    server.manners["file"] = [Manner(cut=1000)]
    server.manners["moved"] = [Manner(status=302, headers={"Location": "/file"})] * 2
    download(f"{server.url}/moved", target, waits=NO_WAITS, **KNOWN)
    assert target.read_bytes() == BODY
    assert [(request.path, request.start) for request in server.requests][-1] == ("file", 1000)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hostname", "http://", "http://[/"])
def test_only_web_addresses(target: Path, url: str) -> None:
    with pytest.raises(DownloadFailed, match=r"http|Invalid"):
        download(url, target, waits=NO_WAITS)
    assert beside(target) == set()


def test_nobody_is_there(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DownloadFailed, match="no connection to the server"):
        download(f"http://127.0.0.1:{port}/file", target, waits=NO_WAITS)


def test_a_file_that_is_too_large_for_the_disk_is_not_begun(server: FileServer, target: Path) -> None:
    server.manner = Manner(length=1 << 60)
    with pytest.raises(DiskFull, match=r"no room for the 1,152,921,504,606,846,976 bytes"):
        fetch(server, target, sha256=SHA256, size=1 << 60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", "400k") as disk:
        yield disk


def test_a_disk_that_fills_up_keeps_what_has_come(server: FileServer, small_disk: Path) -> None:
    target, filler = small_disk / "file", small_disk / "filler"

    def fill(done: int, total: int) -> None:
        if done > 100_000 and not filler.exists():
            filler.write_bytes(bytes(200_000))

    with pytest.raises(DiskFull, match=f"The disk that holds {small_disk} is full"):
        fetch(server, target, progress=fill, **KNOWN)
    filler.unlink()
    kept = (small_disk / "file.part").stat().st_size
    assert kept > 100_000
    assert fetch(server, target, **KNOWN).fetched == len(BODY) - kept
    assert target.read_bytes() == BODY


def test_two_do_not_fetch_one_file_at_once(server: FileServer, target: Path) -> None:
    with exclusive(target), pytest.raises(Busy, match="Another process is writing"):
        fetch(server, target)
    fetch(server, target)
    assert beside(target) == {"file"}


def test_requests_is_loaded_only_when_something_is_fetched() -> None:
    code = "import sys, music_assets.corpus.fetch.lakh; print([m for m in ('requests', 'urllib3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert tuple(sorted(module.WAITS)) == module.WAITS
