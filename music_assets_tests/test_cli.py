"""The command line as people meet it: one sentence when something is wrong."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from music_assets.corpus.reading.scan import scan
from music_assets.paths import DataPaths
from music_assets_tests.midi_files import write_corpus

PROJECT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def music_assets(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", "MUSIC_ASSETS_DATA")}
    return subprocess.run(
        [sys.executable, "-m", "music_assets", *arguments],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def project(folder: Path) -> Path:
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, folder)
    return folder


def test_help_names_the_commands(tmp_path: Path):
    done = music_assets("--help", folder=tmp_path)
    assert done.returncode == 0
    for command in ("demo", "pipeline", "embedded-corpus", "corpus", "compare", "ui"):
        assert command in done.stdout


def test_away_from_the_project(tmp_path: Path):
    done = music_assets("pipeline", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"music-assets: {tmp_path} has no dagster.yaml: start music-assets from the project's folder."
    )


def test_an_empty_drop_folder_fails_with_the_way_out(tmp_path: Path):
    done = music_assets("pipeline", folder=project(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"music-assets: raw_midi + midi_index failed: There is no MIDI file under {tmp_path}/data/raw: "
        "drop a folder of .mid files there, materialise lakh_archive, or run `make demo`."
    )


BUG = """
import sys
from music_assets.cli import commands as cli
from music_assets.defs import corpus

def planted(*arguments, **options):
    raise ValueError("operands could not be broadcast together")

corpus.build_index = planted
sys.argv = ["music-assets", "corpus", "relabel"]
cli.main()
"""


def test_a_bug_keeps_its_traceback(tmp_path: Path):
    environment = os.environ | {"DAGSTER_HOME": str(project(tmp_path)), "MUSIC_ASSETS_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", BUG], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "in planted" in done.stderr
    assert "midi_index failed" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("music-assets: ")]


def test_an_unknown_architecture_is_refused_before_any_work(tmp_path: Path):
    done = music_assets("pipeline", "--architecture", "gtp", folder=project(tmp_path))
    assert done.stderr.strip() == "music-assets: No architecture 'gtp': choose one of gpt, lstm, gru, pianoroll."


def test_a_port_in_use(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = music_assets("ui", "--mlflow-port", str(port), folder=project(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"music-assets: Port {port}, which MLflow needs, is in use: end that program or choose another port with "
        "--mlflow-port."
    )


@pytest.mark.parametrize(
    ("ports", "sentence"),
    [
        (("80000", "5000"), "There is no port 80000 for Dagster: give --dagster-port a number from 1 to 65535."),
        (("3000", "0"), "There is no port 0 for MLflow: give --mlflow-port a number from 1 to 65535."),
        (("-1", "5000"), "There is no port -1 for Dagster: give --dagster-port a number from 1 to 65535."),
        (("3971",) * 2, "Port 3971 cannot serve both: give --dagster-port and --mlflow-port different numbers."),
    ],
)
def test_ports_that_cannot_be(ports: tuple[str, str], sentence: str, tmp_path: Path):
    done = music_assets("ui", "--dagster-port", ports[0], "--mlflow-port", ports[1], folder=project(tmp_path))
    assert (done.returncode, done.stderr.strip()) == (1, f"music-assets: {sentence}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("pipeline", "--minutes", "nan"),
        ("pipeline", "--samples", "0"),
        ("demo", "--minutes", "inf"),
        ("compare", "--minutes", "-1"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_any_work(arguments: tuple[str, ...], tmp_path: Path):
    done = music_assets(*arguments, folder=project(tmp_path))
    assert done.returncode == 2
    assert f"Invalid value for '{arguments[1]}'" in done.stderr
    assert not (tmp_path / "data").exists()


def test_transpositions_that_cannot_be(tmp_path: Path):
    done = music_assets("pipeline", folder=project(tmp_path), MUSIC_ASSETS_TRANSPOSITIONS="3..1")
    assert done.returncode == 1
    assert done.stderr.startswith("music-assets: MUSIC_ASSETS_TRANSPOSITIONS is '3..1': give the lowest and the")


def test_the_corpus_summary_a_files_story_and_a_new_label(tmp_path: Path):
    folder = project(tmp_path)
    paths = DataPaths(folder / "data")
    write_corpus(paths.raw, {"reel": 30}, bars=4)
    scan(paths.raw, paths.files, workers=1)
    read = paths.files.stat().st_mtime_ns

    first = music_assets("corpus", "relabel", folder=folder)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "30 files, 30 usable, 30 pieces" in first.stdout
    (paths.raw / "tunes" / "genres.csv").write_text("path,genre\nreel/Reel Artist 0/Air 0.mid,polka\n")
    again = music_assets("corpus", "relabel", folder=folder)
    assert "polka" in again.stdout
    assert "waits for 20" in again.stdout
    assert paths.files.stat().st_mtime_ns == read
    assert music_assets("corpus", folder=folder).stdout.splitlines()[0] in again.stdout

    told = music_assets("corpus", "why", "data/raw/tunes/reel/Reel Artist 0/Air 0.mid", folder=folder)
    assert "polka 1.00 (genres.csv)" in told.stdout
    assert "in none: genre polka has too few pieces" in told.stdout
    lost = music_assets("corpus", "why", "tunes/reel/Reel Artist 0/Air.mid", folder=folder)
    assert lost.returncode == 1
    assert lost.stderr.startswith("music-assets: The index has no file tunes/reel/Reel Artist 0/Air.mid; paths are")


def test_a_summary_of_no_index(tmp_path: Path):
    done = music_assets("corpus", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no index of this version at" in done.stderr
