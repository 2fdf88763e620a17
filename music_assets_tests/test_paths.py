import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from music_assets.paths import DataPaths, publish, restore


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
        "import os, signal, sys; from pathlib import Path; from music_assets.paths import publish\n"
        "with publish(Path(sys.argv[1])) as fresh:\n"
        "    fresh.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    with publish(target) as fresh:
        fresh.write_text("new")
    assert target.read_text() == "new"


def test_the_data_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUSIC_ASSETS_DATA", str(tmp_path))
    assert DataPaths.from_environment().raw == tmp_path / "raw"
    monkeypatch.delenv("MUSIC_ASSETS_DATA")
    assert DataPaths.from_environment().root == Path(os.getcwd()) / "data"  # noqa: PTH109
