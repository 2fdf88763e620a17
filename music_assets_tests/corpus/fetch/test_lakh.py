"""Lakh and its label files from a mirror on this machine."""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from music_assets.corpus.fetch.archives import BrokenArchive, FolderInTheWay, HostileArchive
from music_assets.corpus.fetch.download import Damaged, DownloadFailed
from music_assets.corpus.fetch.lakh import COLLECTIONS, LABELS, Fetched, fetch_collection, fetch_label
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import file_sha256
from music_assets.paths import DataPaths
from music_assets_tests.corpus.fetch.test_archives import member, pack, pack_tar, tree
from music_assets_tests.file_server import FileServer, file_server

SONGS = {
    "clean_midi/Abba/Waterloo.mid": b"MThd 1",
    "clean_midi/Abba/Waterloo.1.mid": b"MThd 2",
    "clean_midi/Queen/Bohemian Rhapsody.mid": b"MThd 3" * 10_000,
    "clean_midi/.DS_Store": b"rubbish",
}
MADE = {name.removeprefix("clean_midi/"): content for name, content in SONGS.items() if name.endswith(".mid")}
TAGTRAUM = b"# tagtraum\nTRAAAAK128F9318786\tRock\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    with file_server() as server:
        archive = pack(tmp_path / "served.tar.gz", "tar.gz", SONGS)
        server.files["clean_midi.tar.gz"] = archive.read_bytes()
        server.files["msd-MASD-styleAssignment.cls"] = b"TRAAAAK128F9318786\tMetal_Heavy\n"
        with zipfile.ZipFile(tmp_path / "served.zip", "w") as archive:
            archive.writestr("__MACOSX/._msd_tagtraum_cd2c.cls", b"rubbish")
            archive.writestr("msd_tagtraum_cd2c.cls", TAGTRAUM)
        server.files["msd_tagtraum_cd2c.cls.zip"] = (tmp_path / "served.zip").read_bytes()
        yield server


@pytest.fixture
def paths(tmp_path: Path) -> DataPaths:
    return DataPaths(tmp_path / "data")


def fetch(server: FileServer, paths: DataPaths, **options: Any) -> Fetched:
    sha256 = hashlib.sha256(server.files["clean_midi.tar.gz"]).hexdigest()
    settings: dict[str, Any] = {"mirror": server.url, "sha256": sha256}
    return fetch_collection("clean_midi", paths, **settings | options)


def test_a_collection_comes_into_the_drop_folder(server: FileServer, paths: DataPaths) -> None:
    calls: dict[str, list[tuple[int, int]]] = {}
    served = server.files["clean_midi.tar.gz"]
    done = fetch(server, paths, report=lambda what: lambda *numbers: calls.setdefault(what, []).append(numbers))
    assert tree(paths.raw / "clean_midi") == MADE
    assert done == Fetched(
        "clean_midi",
        paths.raw / "clean_midi",
        sum(map(len, MADE.values())),
        hashlib.sha256(served).hexdigest(),
        3,
        len(served),
    )
    assert (paths.downloads / "clean_midi.tar.gz").read_bytes() == served
    assert [numbers[-1][1] for numbers in calls.values()] == [len(served)] * 2
    assert len(calls) == 2


def test_a_second_time_nothing_is_done_even_without_the_archive(server: FileServer, paths: DataPaths) -> None:
    first = fetch(server, paths)
    (paths.downloads / "clean_midi.tar.gz").unlink()
    times = {path: path.stat().st_mtime_ns for path in paths.raw.rglob("*")}
    second = fetch(server, paths)
    assert second == replace(first, downloaded=0)
    assert {path: path.stat().st_mtime_ns for path in paths.raw.rglob("*")} == times
    assert len(server.requests) == 1


@pytest.mark.parametrize("given", [True, False])
def test_an_archive_on_disk_is_used_as_it_is(server: FileServer, paths: DataPaths, tmp_path: Path, given: bool) -> None:
    place = tmp_path / "elsewhere" / "my archive" if given else paths.downloads / "clean_midi.tar.gz"
    place.parent.mkdir(parents=True)
    place.write_bytes(server.files["clean_midi.tar.gz"])
    done = fetch(server, paths, archive=place if given else None)
    assert (done.files, done.downloaded, server.requests) == (3, 0, [])
    assert tree(paths.raw / "clean_midi") == MADE


@pytest.mark.parametrize("given", [True, False])
def test_an_archive_that_is_not_the_published_one_is_named(paths: DataPaths, tmp_path: Path, given: bool) -> None:
    place = tmp_path / "mine.tar.gz" if given else paths.downloads / "clean_midi.tar.gz"
    place.parent.mkdir(parents=True, exist_ok=True)
    pack(place, "tar.gz", SONGS)
    published = COLLECTIONS["clean_midi"].archive.sha256
    words = f"{place} has the sha256 {file_sha256(place)} and not {published}: delete it .* give its sha256"
    with pytest.raises(Damaged, match=words):
        fetch_collection("clean_midi", paths, archive=place if given else None)
    assert place.exists()
    assert not paths.raw.exists()
    done = fetch_collection("clean_midi", paths, archive=place, sha256=file_sha256(place).upper())
    assert done.files == 3


def test_a_break_and_another_mirror(server: FileServer, paths: DataPaths) -> None:
    served = server.files["clean_midi.tar.gz"]
    paths.downloads.mkdir(parents=True)
    (paths.downloads / "clean_midi.tar.gz.part").write_bytes(served[:200])
    done = fetch(server, paths, mirror=f"{server.url}/")
    assert done.downloaded == len(served) - 200
    assert server.requests[0].start == 200


def test_hostile_and_truncated_archives_leave_the_drop_folder_as_it_was(
    server: FileServer, paths: DataPaths, tmp_path: Path
) -> None:
    (paths.raw / "mine").mkdir(parents=True)
    whole = server.files["clean_midi.tar.gz"]
    hostile = pack_tar(tmp_path / "hostile", member("../evil.mid"))
    for content, error in [(hostile.read_bytes(), HostileArchive), (whole[: len(whole) // 2], BrokenArchive)]:
        server.files["clean_midi.tar.gz"] = content
        with pytest.raises(error, match=re.escape(str(paths.downloads / "clean_midi.tar.gz"))):
            fetch(server, paths)
        assert [path.name for path in paths.raw.iterdir()] == ["mine"]
        (paths.downloads / "clean_midi.tar.gz").unlink()


def test_a_folder_in_the_way_is_told_before_anything_is_fetched(server: FileServer, paths: DataPaths) -> None:
    (paths.raw / "clean_midi").mkdir(parents=True)
    (paths.raw / "clean_midi" / "mine.mid").touch()
    with pytest.raises(FolderInTheWay):
        fetch(server, paths)
    assert server.requests == []


def test_names_that_nobody_knows(paths: DataPaths) -> None:
    with pytest.raises(MusicAssetsError, match=r"no collection 'lmd': choose clean_midi or lmd_full\."):
        fetch_collection("lmd", paths)
    with pytest.raises(MusicAssetsError, match=r"no label file 'genres': choose of match_scores\.json, "):
        fetch_label("genres", paths)
    with pytest.raises(MusicAssetsError, match=r"no archive missing\.tar\.gz: give the path of clean_midi\.tar\.gz"):
        fetch_collection("clean_midi", paths, archive=Path("missing.tar.gz"))
    assert not paths.root.exists()


def test_label_files_plain_and_zipped(server: FileServer, paths: DataPaths) -> None:
    for name, content in [
        ("msd-MASD-styleAssignment.cls", server.files["msd-MASD-styleAssignment.cls"]),
        ("msd_tagtraum_cd2c.cls", TAGTRAUM),
    ]:
        done = fetch_label(name, paths, mirror=server.url)
        assert (paths.labels / name).read_bytes() == content
        assert (done.bytes, done.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert done.downloaded == server.requests[-1].sent
        again = fetch_label(name, paths, mirror=server.url)
        assert again == replace(done, downloaded=0)
    assert len(server.requests) == 2
    assert {path.name for path in paths.labels.iterdir()} == {"msd-MASD-styleAssignment.cls", "msd_tagtraum_cd2c.cls"}


def test_a_label_file_that_is_there_is_used_as_it_is(paths: DataPaths) -> None:
    paths.labels.mkdir(parents=True)
    (paths.labels / "midi_genre_map.json").write_text("{}")
    assert fetch_label("midi_genre_map.json", paths, mirror="http://127.0.0.1:9").downloaded == 0
    (paths.labels / "match_scores.json").write_text("{}")
    with pytest.raises(Damaged, match=r"match_scores\.json has the sha256 .* delete it to have it fetched again"):
        fetch_label("match_scores.json", paths)


def test_a_label_file_that_is_not_there_or_too_large(server: FileServer, paths: DataPaths) -> None:
    with pytest.raises(DownloadFailed, match="answers 404"):
        fetch_label("msd_tagtraum_cd1.cls", paths, mirror=server.url)
    server.files["midi_genre_map.json"] = bytes((64 << 20) + 1)
    with pytest.raises(DownloadFailed, match="more than the 67,108,864 that are allowed"):
        fetch_label("midi_genre_map.json", paths, mirror=server.url)
    assert not paths.labels.exists() or not list(paths.labels.iterdir())


def test_a_zip_without_its_label_file(server: FileServer, paths: DataPaths) -> None:
    server.files["msd_tagtraum_cd1.cls.zip"] = server.files["msd_tagtraum_cd2c.cls.zip"]
    with pytest.raises(BrokenArchive, match=r"holds no file msd_tagtraum_cd1\.cls"):
        fetch_label("msd_tagtraum_cd1.cls", paths, mirror=server.url)


def test_the_catalogue_has_whole_addresses() -> None:
    for remote in [*LABELS.values(), *(known.archive for known in COLLECTIONS.values())]:
        assert re.fullmatch(r"https?://[\w.]+(/[\w-]+)+/[\w.-]+", remote.url())
        # where there is no hash, the connection must vouch for the content
        assert remote.sha256 or remote.url().startswith("https://")
        assert remote.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", remote.sha256)
        assert (remote.bytes is None) == (remote.sha256 is None)
