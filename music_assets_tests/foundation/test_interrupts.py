"""SIGINT and SIGTERM in a training: it saves what it has, and goes on as if nothing had been."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from music_assets.foundation.interrupts import Interrupts, TrainingInterrupted
from music_assets.training import loop
from music_assets.training.loop import train
from music_assets_tests.training.corpus import shards, small_config
from music_assets_tests.training.stopping import until


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_a_place_where_it_harms_nothing(number: signal.Signals):
    before, done = signal.getsignal(number), []

    def work() -> None:
        with Interrupts() as interrupts:
            interrupt(number)
            done.append("not harmed")
            assert interrupts.received
            with interrupts.at_once():
                done.append("broken off")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["not harmed"]
    assert signal.getsignal(number) == before


def test_a_signal_that_found_no_such_place_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        interrupt()


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            interrupt()
        assert not interrupts.received
    finally:
        signal.signal(signal.SIGINT, before)


def in_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    pass  # `report` does it


def in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    once(monkeypatch, loop, "autocast", nth=6)


def in_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    once(monkeypatch, torch.nn.utils, "get_total_norm", nth=6)


def in_a_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    once(monkeypatch, loop, "validate", nth=1)


def in_the_last_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    once(monkeypatch, loop, "validate", nth=2)


def once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, nth: int) -> None:
    """The ``nth`` call of a function is interrupted as it begins."""
    real, calls = getattr(owner, name), []

    def wrapped(*args: object, **kwargs: object) -> object:
        calls.append(name)
        if len(calls) == nth:
            interrupt()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [in_a_report, in_a_batch, in_an_update, in_a_validation, in_the_last_validation],
    ids=lambda of: of.__name__,
)
def test_an_interrupted_training_is_saved_and_goes_on_bit_by_bit(
    place: Callable[[pytest.MonkeyPatch], None], tmp_path: Path
):
    config = small_config(network={"dropout": 0.2})
    whole, parts = [], []
    expected = train("gpt", config, shards(), tmp_path / "whole", report=until(None, whole))

    def report(progress):
        parts.append((progress.step, progress.loss))
        if place is in_a_report and progress.step == 5:
            interrupt()

    with pytest.MonkeyPatch.context() as patch:
        place(patch)
        with pytest.raises(TrainingInterrupted, match=r"is saved at .* tokens, .* of its budget: started again"):
            train("gpt", config, shards(), tmp_path / "parts", report=report)
    assert 0 < len(parts) <= 12
    resumed = train("gpt", config, shards(), tmp_path / "parts", report=until(None, parts))
    assert parts == whole
    assert (resumed.steps, resumed.facts.bits_per_note) == (expected.steps, expected.facts.bits_per_note)
    ours, theirs = (load_file(result.latest / "model.safetensors") for result in (resumed, expected))
    for name, tensor in theirs.items():
        assert torch.equal(tensor, ours[name]), name


def test_an_interrupt_before_the_first_step_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    once(monkeypatch, loop, "autocast", nth=1)
    with pytest.raises(TrainingInterrupted, match="before its first step"):
        train("gpt", small_config(), shards(), tmp_path / "run")
    assert not (tmp_path / "run" / "latest").exists()


SCRIPT = """
import sys
from pathlib import Path
from music_assets.training.loop import train
from music_assets_tests.training.corpus import shards, small_config

train("gpt", small_config(tokens=10**9), shards(), Path(sys.argv[1]), report=lambda one: print(one.step, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_is_interrupted_says_what_is_saved(number: signal.Signals, tmp_path: Path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line == "5\n":
                process.send_signal(number)
                break
        _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "TrainingInterrupted: The training was interrupted and is saved at" in said
    assert (tmp_path / "latest" / "trainer.json").exists()
