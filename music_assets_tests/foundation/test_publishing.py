"""Files and folders that appear whole or not at all."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from music_assets.foundation.publishing import DiskFull, publish, restore
from music_assets_tests.disks import small_disk


def write_folder(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "a").write_text(text)


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    target = tmp_path / "x"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), publish(target) as fresh:
        fresh.rename(tmp_path / "missing")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_is_replaced_whole(tmp_path: Path):
    target = tmp_path / "x"
    for text in ("old", "new"):
        with publish(target) as fresh:
            write_folder(fresh, text)
    assert (target / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_swap_cut_in_two_is_undone(tmp_path: Path):
    write_folder(tmp_path / ".x.old", "old")
    assert (restore(tmp_path / "x") / "a").read_text() == "old"


def test_a_kill_while_writing_leaves_the_old_version(tmp_path: Path):
    target = tmp_path / "x"
    target.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from music_assets.foundation.publishing import publish\n"
        "with publish(Path(sys.argv[1])) as fresh:\n"
        "    fresh.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    with publish(tmp_path / "x.new") as fresh:
        fresh.write_text("another target")
    assert len(list(tmp_path.iterdir())) == 3
    with publish(target) as fresh:
        fresh.write_text("new")
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.new"]


def test_two_writers_at_once_leave_each_other_alone(tmp_path: Path):
    target = tmp_path / "x"
    code = (
        "import sys; from pathlib import Path; from music_assets.foundation.publishing import publish\n"
        "with publish(Path(sys.argv[1])) as fresh:\n"
        "    fresh.write_text('slow'); print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow:
        assert slow.stdout
        slow.stdout.readline()
        with publish(target) as fresh:
            fresh.write_text("quick")
        assert target.read_text() == "quick"
        slow.communicate("\n")
    assert slow.returncode == 0
    assert target.read_text() == "slow"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_many_writers_of_one_target_all_succeed(tmp_path: Path):
    target = tmp_path / "x"

    def write(number: int) -> None:
        for _ in range(20):
            with publish(target) as fresh:
                fresh.write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert target.read_text() in {str(number) for number in range(8)}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_is_larger_than_the_room_left_says_so_and_leaves_the_old(tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        with publish(disk / "file") as fresh:
            fresh.write_bytes(b"old")
        with pytest.raises(DiskFull, match="free some space"), publish(disk / "file") as fresh:
            fresh.write_bytes(bytes(20 << 20))  # what is removed then leaves much room again
        assert (disk / "file").read_bytes() == b"old"
        assert [path.name for path in disk.iterdir()] == ["file"]
