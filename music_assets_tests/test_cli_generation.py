"""The commands that ask for music, as a user runs them, on a network that is not trained."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from music_assets.checkpoints.runs import set_champion
from music_assets.checkpoints.storage import save_checkpoint
from music_assets.foundation.midi.writing import write_midi
from music_assets.paths import DataPaths
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    paths = DataPaths(tmp_path_factory.mktemp("data"))
    for architecture in ("gpt", "pianoroll"):
        checkpoint, folder = untrained(architecture), paths.checkpoints(architecture)
        save_checkpoint(folder / "run" / "best", checkpoint.network, checkpoint.vocabulary, checkpoint.facts)
        set_champion(folder, folder / "run" / "best")
    return paths.root


def run(data: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MUSIC_ASSETS_DATA": str(data)}
    return subprocess.run(
        [sys.executable, "-m", "music_assets", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_candidates_are_written_and_no_request_overwrites_anothers(data, tmp_path):
    song = tmp_path / "song.mid"
    write_midi(make_tune(style="band", seed=1, bars=6), song)
    for asked in (
        ["--genre", "reel", "--bars", "2", "--instruments", "piano,drums", "--key", "C minor", "--count", "2"],
        ["--notes", "60,62,64", "--length", "20", "--count", "1"],
        ["--continue", "song.mid", "--bars", "2", "--count", "1"],
        ["--fill", "song.mid", "--from-bar", "2", "--to-bar", "3", "--instrument", "drums", "--count", "1"],
        ["--architecture", "pianoroll", "--bars", "2", "--count", "1"],
    ):
        done = run(data, tmp_path, "generate", *asked, "--out", "ideas", "--no-audio")
        assert done.returncode == 0, done.stderr
    made = sorted((tmp_path / "ideas").glob("*.json"))
    assert len(made) == 6
    assert all(file.with_suffix(suffix).stat().st_size for file in made for suffix in (".mid", ".png"))
    commands = {json.loads(file.read_text())["command"] for file in made}
    assert "music-assets generate --length 20 --notes 60,62,64 --count 1 --architecture gpt" in commands


def test_what_cannot_be_is_one_sentence(data, tmp_path):
    for asked, sentence in (
        (["--genre", "polka"], "Genre 'polka' is not in the vocabulary; it has reel, jig."),
        (["--bars", "4", "--length", "9"], "Bars and length exclude each other"),
        (["--notes", "60,x"], "--notes takes numbers separated by commas, not '60,x'."),
        (["--continue", "none.mid"], "There is no file none.mid: check its name."),
        (["--architecture", "lstm"], "train lstm first"),
    ):
        done = run(data, tmp_path, "generate", *asked)
        assert done.returncode == 1
        assert sentence in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_choices_are_listed(data, tmp_path):
    told = run(data, tmp_path, "choices").stdout
    assert "reel, jig" in told
    assert "Violin" in told
    assert "Sitar" not in told


def test_ctrl_c_keeps_the_bars_that_are_complete(data, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "music_assets", "generate", "--bars", "512", "--count", "40", "--no-audio"],
        cwd=tmp_path, env=os.environ | {"MUSIC_ASSETS_DATA": str(data)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    begun = ""
    while " bars in" not in begun or begun.strip().startswith("0 bars"):
        begun = process.stderr.read(40)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "Stopped: what has been written is kept." in error
    kept = [json.loads(file.read_text()) for file in (tmp_path / "generated").glob("*.json")]
    assert len(kept) == 40
    assert {one["ended"] for one in kept} == {"stopped"}
    assert any(one["notes"] for one in kept)
