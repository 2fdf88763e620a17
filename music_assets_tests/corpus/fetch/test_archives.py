"""Unpacking archives that lie, lead out, are damaged; and processes that are killed meanwhile."""

import io
import json
import random
import signal
import stat
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from music_assets.corpus.fetch.archives import (
    BrokenArchive,
    FolderInTheWay,
    HostileArchive,
    Unpacked,
    unpack,
    unpack_file,
    unpacked,
)
from music_assets.corpus.reading.walk import SUFFIXES
from music_assets.foundation.hashing import file_sha256
from music_assets.foundation.locks import Busy, exclusive

pytestmark = pytest.mark.slow

KINDS = ("tar", "tar.gz", "zip")
FILES = {
    "songs/Abba/Dancing Queen.mid": b"MThd" * 700,
    "songs/.38 Special/Fantasy Girl.MID": b"a",
    "songs/Ä/ö.mid": b"",
    "songs/README": b"read me",
    f"songs/{'long ' * 30}/{'name ' * 30}.mid": b"b" * 513,
}
MADE = {name.removeprefix("songs/"): content for name, content in FILES.items() if name.lower().endswith(".mid")}


def pack(path: Path, kind: str, files: Mapping[str, bytes]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(content), 0o6777, 4242
            archive.addfile(info, io.BytesIO(content))
    return path


def pack_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    """A tar of one honest file and the given members, which have no content."""
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("before.mid"))
        for info in members:
            archive.addfile(info)
    return path


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def unpack_all(archive: Path, target: Path, **options: Any) -> Unpacked:
    return unpack(archive, target, **{"sha256": file_sha256(archive), "suffixes": SUFFIXES} | options)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".written.json"
    }


def left(folder: Path) -> set[str]:
    """What lies in the folder that holds the target."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("kind", KINDS)
def test_midi_files_come_out_and_the_folder_of_the_same_name_becomes_the_target(tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / f"any.{kind}", kind, FILES)
    calls = []
    made = unpack_all(archive, tmp_path / "raw" / "songs", progress=lambda *numbers: calls.append(numbers))
    assert tree(made.path) == MADE
    assert (made.sha256, made.files, made.bytes) == (file_sha256(archive), len(MADE), sum(map(len, MADE.values())))
    assert left(tmp_path / "raw") == {"songs"}
    assert calls == sorted(calls)
    assert calls[-1][0] <= calls[-1][1] == archive.stat().st_size
    assert unpacked(made.path) == made
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o7111 for path in made.path.rglob("*.mid"))


def test_other_folders_stay_where_they_are(tmp_path: Path) -> None:
    files = {"jazz/a.mid": b"1", "./songs/jazz/b.mid": b"2", "songs/.written.json": b"{}"}
    made = unpack_all(pack(tmp_path / "a.tar", "tar", files), tmp_path / "songs")
    assert tree(made.path) == {"jazz/a.mid": b"1", "jazz/b.mid": b"2"}
    assert unpacked(made.path) == made


DEVICE = {"devmajor": 1, "devminor": 3}


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (member("../evil.mid"), "leads out"),
        (member("songs/../songs/evil.mid"), "leads out"),
        (member("/etc/evil.mid"), "leads out"),
        (member("a", pax_headers={"path": "a\0b.mid"}), "leads out"),
        (member("x" * 300 + ".mid"), "too long a name"),
        (member("./before.mid"), "two members"),
        (member("before.mid/evil.mid"), "two members"),
    ],
)
def test_hostile_names_are_refused_and_nothing_is_left(tmp_path: Path, info: tarfile.TarInfo, words: str) -> None:
    archive = pack_tar(tmp_path / "a.tar", info)
    with pytest.raises(HostileArchive, match=words) as caught:
        unpack_all(archive, tmp_path / "raw" / "songs")
    assert str(caught.value).startswith(f"{archive} is refused: ")
    assert left(tmp_path) == {"a.tar", "raw"}
    assert left(tmp_path / "raw") == set()


@pytest.mark.parametrize(
    "info",
    [
        member("evil.mid", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("songs", type=tarfile.SYMTYPE, linkname="/tmp"),
        member("evil.mid", type=tarfile.LNKTYPE, linkname="before.mid"),
        member("evil.mid", type=tarfile.CHRTYPE, **DEVICE),
        member("evil.mid", type=tarfile.FIFOTYPE),
    ],
)
def test_links_devices_and_pipes_do_not_come_out(tmp_path: Path, info: tarfile.TarInfo) -> None:
    made = unpack_all(pack_tar(tmp_path / "a.tar", info, tarfile.TarInfo("songs/after.mid")), tmp_path / "songs")
    assert tree(made.path) == {"before.mid": b"", "after.mid": b""}
    assert left(made.path) == {"before.mid", "after.mid", ".written.json"}


def test_a_zip_that_leads_out_or_is_encrypted(tmp_path: Path) -> None:
    with pytest.raises(HostileArchive, match="leads out"):
        unpack_all(pack(tmp_path / "a.zip", "zip", {"../evil.mid": b""}), tmp_path / "songs")
    path = pack(tmp_path / "b.zip", "zip", {"a.mid": b"secret"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BrokenArchive, match="encrypted"):
        unpack_all(path, tmp_path / "songs")
    assert left(tmp_path) == {"a.zip", "b.zip"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_limit(tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / "a", kind, {f"{number}.mid": bytes(1000) for number in range(10)})
    with pytest.raises(HostileArchive, match="unpacks to more than 9,999 bytes"):
        unpack_all(archive, tmp_path / "songs", limit=9999)
    assert left(tmp_path) == {"a"}
    assert unpack_all(archive, tmp_path / "songs", limit=10_000).files == 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An archive of each kind, of content that does not compress to nothing."""
    randoms = random.Random(0)
    files = {f"songs/{number}.mid": randoms.randbytes(number * 300) for number in range(8)}
    folder = tmp_path_factory.mktemp("whole")
    return {kind: pack(folder / kind, kind, files).read_bytes() for kind in KINDS}


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=100
)
@given(
    kind=st.sampled_from(KINDS),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=12)), max_size=4),
    kept=st.floats(0.01, 1),
)
def test_a_damaged_archive_gives_one_sentence_or_files(
    tmp_path_factory: pytest.TempPathFactory,
    whole: dict[str, bytes],
    kind: str,
    edits: list[tuple[float, bytes]],
    kept: float,
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    data = bytearray(whole[kind])
    for share, junk in edits:
        place = int(share * len(data))
        data[place : place + len(junk)] = junk
    (folder / "a").write_bytes(data[: int(kept * len(data))])
    try:
        unpack_all(folder / "a", folder / "songs")
    except (HostileArchive, BrokenArchive):
        assert left(folder) == {"a"}
    else:
        assert left(folder) == {"a", "songs"}


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>" * 100, b"\x1f\x8b", b"PK\3\4", bytes(2000)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(BrokenArchive):
        unpack_all(tmp_path / "a", tmp_path / "songs")
    assert left(tmp_path) == {"a"}


def test_an_archive_without_midi(tmp_path: Path) -> None:
    with pytest.raises(BrokenArchive, match=r"holds no file that ends in \.mid, "):
        unpack_all(pack(tmp_path / "a", "tar", {"songs/README": b""}), tmp_path / "songs")


CHILD = """
import os, signal, sys
from pathlib import Path
from music_assets.corpus.fetch.archives import unpack
left = int(sys.argv[3])
def progress(done, total):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
unpack(Path(sys.argv[1]), Path(sys.argv[2]), sha256="0", suffixes=[".mid"], progress=progress)
"""


def test_a_kill_leaves_nothing_and_the_next_unpacking_clears_up(tmp_path: Path) -> None:
    files = {f"songs/{number % 7}/{number}.mid": bytes([number]) * 100 for number in range(200)}
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", files)
    target = tmp_path / "raw" / "songs"
    command = [sys.executable, "-c", CHILD, str(archive), str(target), "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not target.exists()
    assert len(left(tmp_path / "raw")) == 2  # the folder that was begun, and the lock, which nobody holds
    made = unpack_all(archive, target)
    assert tree(made.path) == {name.removeprefix("songs/"): content for name, content in files.items()}
    assert left(tmp_path / "raw") == {"songs"}


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", FILES)
    first = unpack_all(archive, tmp_path / "songs")
    (first.path / "genres.csv").write_text("path,genre\n")
    times = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    assert unpack_all(archive, tmp_path / "songs") == first
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == times


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", FILES)
    target = tmp_path / "songs"
    target.mkdir()
    (target / "mine.mid").write_bytes(b"mine")
    for stamp in (None, "{", "[]", json.dumps({"sha256": "0" * 64, "files": 1, "bytes": 1})):
        if stamp is not None:
            (target / ".written.json").write_text(stamp)
        with pytest.raises(FolderInTheWay, match="move it away or delete it"):
            unpack_all(archive, target)
        assert tree(target) == {"mine.mid": b"mine"}
    (target / "mine.mid").unlink()
    (target / ".written.json").unlink()
    assert unpack_all(archive, target).files == len(MADE)


def test_two_do_not_unpack_to_one_folder_at_once(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", FILES)
    with exclusive(tmp_path / "songs"), pytest.raises(Busy, match="Another process is writing"):
        unpack_all(archive, tmp_path / "songs")


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_out_of_an_archive(tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / "a", kind, FILES)
    unpack_file(archive, "README", tmp_path / "labels" / "me")
    assert (tmp_path / "labels" / "me").read_bytes() == b"read me"
    with pytest.raises(BrokenArchive, match="holds no file other"):
        unpack_file(archive, "other", tmp_path / "labels" / "other")
    with pytest.raises(HostileArchive, match="more than 6 bytes"):
        unpack_file(pack(tmp_path / "b", kind, {"README": b"read me"}), "README", tmp_path / "c", limit=6)
    assert left(tmp_path / "labels") == {"me"}


def test_many_members_take_no_memory(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", "tar", {f"{number}.txt": b"" for number in range(4000)} | {"a.mid": b"MThd"})
    tracemalloc.start()
    try:
        assert unpack_all(archive, tmp_path / "songs").files == 1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
