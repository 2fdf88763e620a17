"""Unpacking archives that lie, lead out, never end, break off; and processes that are killed meanwhile."""

import gzip
import io
import json
import os
import random
import signal
import stat
import struct
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
    Limits,
    unpack,
    unpack_file,
    unpacked,
)
from music_assets.corpus.fetch.download import file_sha256
from music_assets.corpus.reading.walk import SUFFIXES
from music_assets.foundation.locks import Busy, exclusive

KINDS = ("tar", "tar.gz", "zip")
FILES = {
    "songs/Abba/Dancing Queen.mid": b"MThd" * 700,
    "songs/.38 Special/Fantasy Girl.MID": b"a",
    "songs/Ä/ö.mid": b"",
    "songs/README": b"read me",
    f"songs/{'long ' * 30}/{'name ' * 30}.mid": b"b" * 513,
}
RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60
)


def pack(path: Path, kind: str, files: Mapping[str, bytes], **fields: Any) -> Path:
    """An archive of those files; ``fields`` are set on every member of a tar."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name, (2016, 5, 4, 3, 2, 0)), content, zipfile.ZIP_DEFLATED)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_462_330_920
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def pack_tar(path: Path, *members: tarfile.TarInfo, before: str = "before.mid") -> Path:
    """A tar of one honest file and the given members, which have no content."""
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(before))
        for member in members:
            archive.addfile(member)
    return path


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


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
def test_the_folder_of_the_same_name_becomes_the_target(tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / f"any.{kind}", kind, FILES)
    calls = []
    made = unpack(archive, tmp_path / "raw" / "songs", progress=lambda *numbers: calls.append(numbers))
    expected = {name.removeprefix("songs/"): content for name, content in FILES.items()}
    assert tree(made.path) == expected
    assert (made.sha256, made.files, made.bytes) == (
        file_sha256(archive),
        len(FILES),
        sum(len(content) for content in FILES.values()),
    )
    assert left(tmp_path / "raw") == {"songs"}
    assert calls == sorted(calls)
    assert calls[-1][0] <= calls[-1][1] == archive.stat().st_size
    assert unpacked(made.path) == made


def test_other_folders_stay_where_they_are(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", "tar", {"jazz/a.mid": b"1", "./songs/jazz/b.mid": b"2", "songs": b"3"})
    made = unpack(archive, tmp_path / "songs")
    assert tree(made.path) == {"jazz/a.mid": b"1", "jazz/b.mid": b"2", "songs": b"3"}


@pytest.mark.parametrize("kind", KINDS)
def test_only_wanted_files_come_out(tmp_path: Path, kind: str) -> None:
    made = unpack(pack(tmp_path / "a", kind, FILES), tmp_path / "songs", suffixes=SUFFIXES)
    assert set(tree(made.path)) == {name.removeprefix("songs/") for name in FILES if name.lower().endswith(".mid")}
    with pytest.raises(BrokenArchive, match=r"holds no file that ends in \.xyz"):
        unpack(pack(tmp_path / "b", kind, FILES), tmp_path / "none", suffixes=[".xyz"])
    assert left(tmp_path) == {"a", "b", "songs"}


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_plain_and_as_old_as_the_archive_says(tmp_path: Path, kind: str) -> None:
    fields = {} if kind == "zip" else {"mode": 0o6777, "uid": 4242}
    made = unpack(pack(tmp_path / "a", kind, FILES, **fields), tmp_path / "songs")
    for path in made.path.rglob("*.mid"):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) & 0o7111 == 0
        assert status.st_uid == os.getuid()
        assert status.st_mtime < 1_500_000_000


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1e300", "1e300", "-inf"])
def test_times_that_are_none(tmp_path: Path, seconds: str) -> None:
    archive = pack_tar(tmp_path / "a.tar", member("a.mid", pax_headers={"mtime": seconds}))
    made = unpack(archive, tmp_path / "songs")
    assert 0 <= (made.path / "a.mid").stat().st_mtime <= made.path.stat().st_mtime + 1


names = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
        lambda part: part not in (".", "..", ".written.json")
    ),
    min_size=1,
    max_size=4,
).map("/".join)


@RELAXED
@given(st.dictionaries(names, st.binary(max_size=1500), min_size=1, max_size=8), st.sampled_from(KINDS))
def test_any_honest_archive_comes_out_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], kind: str
) -> None:
    folders = {name[:end] for name in files for end in range(len(name)) if name[end] == "/"}
    # one name may not be a folder and a file, nor come twice once the target's own name is left out
    files = {name: content for name, content in files.items() if name not in folders and name.split("/")[0] != "songs"}
    if kind == "zip":
        files = {name: content for name, content in files.items() if name.isascii()}
    if not files:
        return
    folder = tmp_path_factory.mktemp("honest")
    made = unpack(pack(folder / "a", kind, files), folder / "songs")
    assert tree(made.path) == files


DEVICE = {"devmajor": 1, "devminor": 3}
HOSTILE = {
    "parent": (member("../evil.mid"), "leads out"),
    "parent inside": (member("songs/../../evil.mid"), "leads out"),
    "parent that comes back": (member("songs/../songs/evil.mid"), "leads out"),
    "parent folder": (member("..", type=tarfile.DIRTYPE), "leads out"),
    "absolute": (member("/etc/evil.mid"), "absolute path"),
    "absolute twice": (member("//etc/evil.mid"), "absolute path"),
    "absolute folder": (member("/etc/evil", type=tarfile.DIRTYPE), "absolute path"),
    "symbolic link": (member("evil.mid", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a symbolic link"),
    "link to a folder": (member("evil", type=tarfile.SYMTYPE, linkname=".."), "is a symbolic link"),
    "hard link": (member("evil.mid", type=tarfile.LNKTYPE, linkname="before.mid"), "is a hard link"),
    "device": (member("evil.mid", type=tarfile.CHRTYPE, **DEVICE), "is a device"),
    "block device": (member("evil.mid", type=tarfile.BLKTYPE, **DEVICE), "is a device"),
    "pipe": (member("evil.mid", type=tarfile.FIFOTYPE), "is a pipe"),
    "contiguous": (member("evil.mid", type=tarfile.CONTTYPE), "neither a file nor a folder"),
    "unknown": (member("evil.mid", type=b"Z"), "neither a file nor a folder"),
    "sparse": (
        member("evil.mid", pax_headers={"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,0"}),
        "neither a file nor a folder",
    ),
    "no name": (member("."), "has no name"),
    "long name": (member("x" * 300 + ".mid"), "too long a name"),
    "deep name": (member("x/" * 600 + "a.mid"), "too long a name"),
    "same twice": (member("./before.mid"), "has two members"),
    "file as a folder": (member("before.mid/evil.mid"), "has two members"),
    "file as a deep folder": (member("before.mid/evil/evil.mid"), "has two members"),
    "zero byte": (member("a", pax_headers={"path": "a\0b"}), "zero byte"),
}


@pytest.mark.parametrize(
    ("name", "unwanted"),
    # what does not come out cannot be there twice
    [
        (name, unwanted)
        for name in HOSTILE
        for unwanted in (False, True)
        if not unwanted or "two" not in HOSTILE[name][1]
    ],
)
def test_hostile_members_are_refused_by_name_and_nothing_is_left(tmp_path: Path, name: str, unwanted: bool) -> None:
    info, words = HOSTILE[name]
    archive = pack_tar(tmp_path / "a.tar", info)
    seen = left(tmp_path)
    with pytest.raises(HostileArchive, match=words) as caught:
        unpack(archive, tmp_path / "raw" / "songs", suffixes=[".xyz"] if unwanted else None)
    assert str(caught.value).startswith(f"{archive} is refused: it")
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == seen | {"raw"}
    assert left(tmp_path / "raw") == set()


@RELAXED
@given(
    name=st.lists(st.sampled_from(["..", ".", "", "a", "songs", "b.mid"]), min_size=1, max_size=5).map("/".join),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
)
def test_what_tarfiles_own_filter_refuses_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, kind: bytes
) -> None:
    folder = tmp_path_factory.mktemp("filter")
    info = member(name, type=kind, linkname="x")
    if not name.strip("/"):
        return  # such a header ends the archive
    archive = pack_tar(folder / "a.tar", info, before="before")
    try:
        tarfile.data_filter(info, str(folder / "songs"))
    except tarfile.FilterError:
        with pytest.raises(HostileArchive):
            unpack(archive, folder / "songs")
    else:
        try:
            unpack(archive, folder / "songs")
        except HostileArchive:
            assert info.issym() or info.islnk() or ".." in name or name.startswith("/") or set(name) <= {".", "/"}
    assert left(folder) <= {"a.tar", "songs"}


def test_hostile_zips(tmp_path: Path) -> None:
    def refuse(name: str, content: bytes, words: str, **fields: Any) -> None:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("before.mid", b"")
            info = zipfile.ZipInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.writestr(info, content, info.compress_type)
        with pytest.raises(HostileArchive, match=words):
            unpack(path, tmp_path / "raw" / "songs", limits=Limits(file_bytes=1 << 20))
        assert left(tmp_path / "raw") == set()

    refuse("../evil.mid", b"", "leads out")
    refuse("/evil.mid", b"", "absolute path")
    refuse("evil.mid", b"/etc/passwd", "is a symbolic link", external_attr=(stat.S_IFLNK | 0o777) << 16)
    refuse("evil.mid", b"", "is a device", external_attr=(stat.S_IFCHR | 0o777) << 16)
    refuse("evil.mid", b"", "is a pipe", external_attr=(stat.S_IFIFO | 0o777) << 16)
    refuse("evil.mid", b"", "neither a file", external_attr=(stat.S_IFSOCK | 0o777) << 16)
    refuse("evil.mid", bytes(2 << 20), "2,097,152 bytes, more than", compress_type=zipfile.ZIP_DEFLATED)
    refuse("evil.mid", b"x", "other than deflate", compress_type=zipfile.ZIP_LZMA)
    refuse("./.", b"x", "has no name")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", "zip", {"a.mid": b"secret"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(HostileArchive, match="encrypted"):
        unpack(path, tmp_path / "songs")


@pytest.mark.parametrize("kind", KINDS)
def test_limits(tmp_path: Path, kind: str) -> None:
    files = {f"{number}.mid": bytes(1000) for number in range(10)}
    archive = pack(tmp_path / "a", kind, files)
    for limits, words in [
        (Limits(members=9), "'9.mid' is one more than the 9"),
        (Limits(bytes=9999), "'9.mid' makes it more than the 9,999 bytes"),
        (Limits(file_bytes=999), "'0.mid' has 1,000 bytes"),
        (Limits(name_bytes=4), "'0.mid' has too long a name"),
    ]:
        with pytest.raises(HostileArchive, match=words):
            unpack(archive, tmp_path / "songs", limits=limits)
        with pytest.raises(HostileArchive, match=words):
            unpack(archive, tmp_path / "songs", limits=limits, suffixes=[".xyz"])
        assert left(tmp_path) == {"a"}
    made = unpack(archive, tmp_path / "songs", limits=Limits(members=10, bytes=10_000, file_bytes=1000, name_bytes=5))
    assert made.files == 10


def header(name: bytes, kind: bytes, size: int) -> bytes:
    """A tar header with any size, in the base-256 form that goes beyond 8 GiB and below zero."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = b"\x80" + size.to_bytes(11, "big") if size >= 0 else size.to_bytes(12, "big", signed=True)
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("kind", "size", "error"),
    [
        (b"0", 1 << 62, HostileArchive),  # a file that would fill any disk
        (b"0", 32 << 20, HostileArchive),  # one that is larger than a file may be
        (b"0", -512, (HostileArchive, BrokenArchive)),  # a step back
        (b"5", 1 << 62, HostileArchive),
        (b"L", 32 << 20, HostileArchive),  # a name that would fill the memory
        (b"K", 32 << 20, HostileArchive),
        (b"x", 32 << 20, HostileArchive),
        (b"g", 32 << 20, HostileArchive),
        (b"L", -512, (HostileArchive, BrokenArchive)),
        (b"x", -512, (HostileArchive, BrokenArchive)),
        (b"S", 32 << 20, HostileArchive),
        (b"Z", 1 << 62, HostileArchive),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_bombs_are_stopped_before_they_are_in_memory(
    tmp_path: Path, kind: bytes, size: int, error: Any, first: bool
) -> None:
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as archive:
        if not first:
            archive.write(header(b"before.mid", b"0", 0))
        archive.write(header(b"evil.mid", kind, size))
        for _ in range(33):
            archive.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(error):
            unpack(path, tmp_path / "raw" / "songs", limits=Limits(file_bytes=16 << 20))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert left(tmp_path / "raw") == set()


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb") as archive:
        for _ in range(10_000):
            archive.write(header(b"x", b"x", 0))
    with pytest.raises(HostileArchive, match="is too large"):
        unpack(path, tmp_path / "songs")


def test_a_long_tail_of_zeros_is_refused_and_a_short_one_is_not(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", "tar", FILES)
    tar = path.read_bytes()
    for tail, fine in [(512 * 1000, True), (32 << 20, False)]:
        path.write_bytes(gzip.compress(tar + bytes(tail)))
        if fine:
            assert unpack(path, tmp_path / "short").files == len(FILES)
        else:
            with pytest.raises(HostileArchive, match="is too large"):
                unpack(path, tmp_path / "long")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An archive of each kind, of content that does not compress to nothing."""
    randoms = random.Random(0)
    files = {f"songs/{number}.mid": randoms.randbytes(number * 300) for number in range(8)}
    folder = tmp_path_factory.mktemp("whole")
    return {kind: pack(folder / kind, kind, files).read_bytes() for kind in KINDS}


@RELAXED
@given(kind=st.sampled_from(KINDS), share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_archive_says_so(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], kind: str, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    # a tar ends in zeros, of which the first block is its end
    data = whole[kind].rstrip(b"\0") if kind == "tar" else whole[kind]
    cut = 520 + int(share * (len(data) - 520))
    (folder / "a").write_bytes(data[:cut])
    with pytest.raises(BrokenArchive, match=r"is cut off before its end: delete it and fetch it again\.$"):
        unpack(folder / "a", folder / "songs")
    assert left(folder) == {"a"}


@settings(RELAXED, max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=12)), max_size=4),
)
def test_a_damaged_archive_gives_one_sentence_or_all_files(
    tmp_path_factory: pytest.TempPathFactory,
    whole: dict[str, bytes],
    kind: str,
    edits: list[tuple[float, bytes]],
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    data = bytearray(whole[kind])
    for share, junk in edits:
        place = int(share * len(data))
        data[place : place + len(junk)] = junk
    (folder / "a").write_bytes(data)
    try:
        made = unpack(folder / "a", folder / "songs")
    except (HostileArchive, BrokenArchive):
        assert left(folder) == {"a"}
    else:
        assert left(folder) == {"a", "songs"}
        assert made.files == len(tree(made.path)) == 8


@settings(RELAXED, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))
def test_a_damaged_header_with_the_right_checksum(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], edits: list[tuple[int, bytes]]
) -> None:
    """The checksum keeps most damage out; an attacker writes a right one."""
    folder = tmp_path_factory.mktemp("header")
    data = bytearray(whole["tar"])
    for place, junk in edits:
        data[512 + place : 512 + place + len(junk)] = junk
    data[512 + 148 : 512 + 156] = b" " * 8
    data[512 + 148 : 512 + 156] = b"%06o\0 " % sum(data[512:1024])
    (folder / "a").write_bytes(data)
    try:
        unpack(folder / "a", folder / "songs")
    except (HostileArchive, BrokenArchive):
        assert left(folder) == {"a"}
    assert left(folder) <= {"a", "songs"}


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>" * 100, b"\x1f\x8b", b"PK\3\4", bytes(100), bytes(2000)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(BrokenArchive):
        unpack(tmp_path / "a", tmp_path / "songs")
    assert left(tmp_path) == {"a"}


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
unpack(Path(sys.argv[1]), Path(sys.argv[2]), progress=progress)
"""


def test_a_kill_leaves_nothing_and_the_next_unpacking_clears_up(tmp_path: Path) -> None:
    files = {f"songs/{number % 7}/{number}.mid": bytes([number]) * 100 for number in range(200)}
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", files)
    target = tmp_path / "raw" / "songs"
    for moment in (1, 100, 200):
        command = [sys.executable, "-c", CHILD, str(archive), str(target), str(moment)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not target.exists()
        assert len(left(tmp_path / "raw")) == 2  # the folder that was begun, and the lock, which nobody holds
    made = unpack(archive, target)
    assert tree(made.path) == {name.removeprefix("songs/"): content for name, content in files.items()}
    assert left(tmp_path / "raw") == {"songs"}


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", FILES)
    first = unpack(archive, tmp_path / "songs")
    (first.path / "genres.csv").write_text("path,genre\n")
    times = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    calls = []
    assert unpack(archive, tmp_path / "songs", progress=lambda *numbers: calls.append(numbers)) == first
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == times
    assert calls == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", FILES)
    target = tmp_path / "songs"
    target.mkdir()
    (target / "mine.mid").write_bytes(b"mine")
    for stamp in (None, "{", "[]", json.dumps({"sha256": "0" * 64, "files": 1, "bytes": 1})):
        if stamp is not None:
            (target / ".written.json").write_text(stamp)
        with pytest.raises(FolderInTheWay, match="move it away or delete it"):
            unpack(archive, target)
        assert tree(target) == {"mine.mid": b"mine"}
    (target / "mine.mid").unlink()
    (target / ".written.json").unlink()
    assert unpack(archive, target).files == len(FILES)


def test_two_do_not_unpack_to_one_folder_at_once(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", "tar.gz", FILES)
    with exclusive(tmp_path / "songs"), pytest.raises(Busy, match="Another process is writing"):
        unpack(archive, tmp_path / "songs")


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_out_of_an_archive(tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / "a", kind, FILES)
    unpack_file(archive, "README", tmp_path / "labels" / "me")
    assert (tmp_path / "labels" / "me").read_bytes() == b"read me"
    with pytest.raises(BrokenArchive, match="holds no file other"):
        unpack_file(archive, "other", tmp_path / "labels" / "other")
    with pytest.raises(HostileArchive, match="has 7 bytes"):
        unpack_file(
            pack(tmp_path / "b", kind, {"README": b"read me"}), "README", tmp_path / "c", limits=Limits(file_bytes=6)
        )
    assert left(tmp_path / "labels") == {"me"}


def test_a_zip_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", "zip", {"a.mid": b"content" * 100})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\1\2") + 16
    data[place : place + 4] = struct.pack("<I", 0)
    path.write_bytes(data)
    with pytest.raises(BrokenArchive, match="is damaged: Bad CRC-32"):
        unpack(path, tmp_path / "songs")
    assert left(tmp_path) == {"a.zip"}


def test_a_zip_with_a_directory_that_is_wrong(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", "zip", {"a.mid": b"content"})
    whole = path.read_bytes()
    end = whole.index(b"PK\5\6")
    data = bytearray(whole)
    data[end + 16 : end + 20] = struct.pack("<I", len(data))
    path.write_bytes(data)
    with pytest.raises(BrokenArchive):
        unpack(path, tmp_path / "songs")
    data = bytearray(whole)
    place = whole.index(b"PK\1\2")
    data[place + 28 : place + 32] = struct.pack("<HH", 0, 5)  # the name becomes an extra field
    path.write_bytes(data)
    with pytest.raises((BrokenArchive, HostileArchive)):
        unpack(path, tmp_path / "songs")
    assert left(tmp_path) == {"a.zip"}


def test_many_members_take_no_memory(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar", "tar", {f"{number}.txt": b"" for number in range(4000)} | {"a.mid": b"MThd"})
    tracemalloc.start()
    try:
        assert unpack(archive, tmp_path / "songs", suffixes=SUFFIXES).files == 1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_archive_of_an_unpacked_folder(tmp_path: Path) -> None:
    files = {"songs/a.mid": b"MThd", "songs/.written.json": b"{}", "songs/b/.written.json": b"mine"}
    made = unpack(pack(tmp_path / "a.tar", "tar", files), tmp_path / "songs")
    assert made.files == 2
    assert unpacked(made.path) == made
    assert (made.path / "b" / ".written.json").read_bytes() == b"mine"
