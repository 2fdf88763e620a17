"""Two processes that share each batch, against one; and what a process says when it fails."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from music_assets.tokens.shards import read_shard, write_shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training import distributed
from music_assets.training.distributed import Job, process_group
from music_assets.training.loop import train
from music_assets.training.precision import UnusableDevice
from music_assets_tests.training.corpus import shards, small_config

pytestmark = pytest.mark.slow


def job(folder, **settings):
    paths = []
    for shard in shards():
        paths.append(folder / f"{shard.genre}-{shard.transposition}.arrow")
        write_shard(paths[-1], shard, [shard.ids])
    vocabulary = Vocabulary(("reel", "waltz")).to_json()
    config = small_config(device="cpu", **settings)
    return Job(architecture="gpt", config=config, shards=paths, run=folder / "two", vocabulary=vocabulary)


def start(folder, made):
    (folder / "job.json").write_text(made.model_dump_json())
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, "-m", *torchrun, "-m", "music_assets.training.distributed", str(folder / "job.json")]
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def losses(text):
    return [float(line.split("loss ")[1].split(",")[0]) for line in text.splitlines() if "loss " in line]


def test_two_processes_learn_what_one_does(tmp_path):
    made = job(tmp_path, accumulate=2, precision="float32", optimizer="adamw")
    process = start(tmp_path, made)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    reports = []
    one = train(
        "gpt",
        made.config,
        [read_shard(path) for path in made.shards],
        tmp_path / "one",
        vocabulary=Vocabulary.from_json(made.vocabulary),
        report=reports.append,
    )
    assert losses(output) == pytest.approx([progress.loss for progress in reports], abs=0.001)  # printed digits
    theirs, ours = load_file(tmp_path / "two" / "best" / "model.safetensors"), load_file(one.best / "model.safetensors")
    for name, tensor in ours.items():
        assert (theirs[name] - tensor).norm() <= 1e-5 * tensor.norm(), name  # sums in another order


def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    made = job(tmp_path, tokens=10**9)
    process = start(tmp_path, made.model_copy(update={"parent": parent.pid}))
    assert process.stdout
    assert any("loss" in line for line in process.stdout)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.stdout.close()
    assert process.returncode not in (None, 0)


@pytest.mark.parametrize(("device", "sentence"), [("cuda", "2 processes .* a GPU each"), ("cuda:0", "is one for 2")])
def test_a_device_that_cannot_serve_all_processes_is_refused(device, sentence, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UnusableDevice, match=sentence), process_group(device):
        pass


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """Runs one process of a group whose job raises an error; the words that it leaves for Dagster."""

    def run(error):
        def broken(job):
            raise error

        monkeypatch.setattr(distributed, "run_job", broken)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(sys, "argv", ["distributed", str(tmp_path / "job.json")])
        (tmp_path / "job.json").write_text(job(tmp_path).model_dump_json())
        with pytest.raises((SystemExit, type(error))) as caught:
            distributed.main()
        said = tmp_path / distributed.ERROR
        return caught.value, said.read_text() if said.exists() else None

    return run


def test_a_process_says_what_a_user_can_mend(failing, capsys):
    sentence = "The device 'cuda:7' is one for 2 processes: choose auto, cuda or cpu."
    ended, said = failing(UnusableDevice(sentence))
    assert (ended.code, said) == (1, sentence)
    assert capsys.readouterr().err == f"{sentence}\n"


def test_a_bug_in_a_process_keeps_its_traceback(failing):
    bug = ValueError("operands could not be broadcast together")
    raised, said = failing(bug)
    assert (raised, said) == (bug, None)
