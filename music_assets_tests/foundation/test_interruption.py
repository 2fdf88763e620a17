"""Ctrl-C and TERM of a command, with real processes: it ends soon, with all it has started, and goes on if repeated."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import psutil
import pytest

from music_assets.paths import DataPaths
from music_assets.training.tracking import Tracking
from music_assets_tests.midi_files import write_corpus

_started: list[subprocess.Popen[str]] = []

PROJECT = Path(__file__).parents[2]
STUBBORN = """
import signal, subprocess, time
from music_assets.foundation.interrupts import interruptible

with interruptible(lambda: print("cleaned up", flush=True)):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: print("swallowed", flush=True))
    subprocess.Popen(["sleep", "600"])
    print("begun", flush=True)
    while True:
        time.sleep(600)
"""
SAVED = r"music-assets: .* is saved at ([\d,]+) tokens, \d+% of its budget: started again"
TOGETHER = """
from music_assets.cli.commands import _interruptible, app, main
from music_assets.pipeline import AssetRunner, bring_shards_up_to_date
import dagster as dg

@app.command()
def together() -> None:
    network = {"layers": 1, "width": 32, "embedding": 16, "context": 64}
    settings = {"minutes": None, "tokens": 10**9, "network": network, "processes": 2, "device": "cpu", "samples": 0}
    with _interruptible(), dg.DagsterInstance.get() as instance:
        bring_shards_up_to_date(instance)
        AssetRunner(instance)("checkpoint", partition="gru", config=settings | {"report_every": 5})

main()
"""


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error, soon and with no process left of those it had started."""
    started = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - started < 20
    deadline = time.monotonic() + 5
    while (left := session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, left
    return process.returncode, said


def session(leader: int) -> list[str]:
    """The processes of a session that are alive."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"]))
        except ProcessLookupError:
            continue
    return found


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    """A command in a session of its own, as in a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(PROJECT),
            "DAGSTER_HOME": str(folder),
            "MUSIC_ASSETS_DATA": str(folder / "data"),
            "MUSIC_ASSETS_TRANSPOSITIONS": "0..0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    while _started:
        with _started.pop() as process, suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(stream: object, text: str) -> None:
    for line in stream:  # type: ignore[attr-defined]
        if text in line:
            return
    raise AssertionError(f"It ended without {text!r}.")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, folder)
    write_corpus(folder / "data" / "raw", {"reel": 30}, bars=8)
    return folder


def statuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of all runs in Dagster, the newest first; none holds a slot."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    with dg.DagsterInstance.get() as instance:
        storage = instance.event_log_storage
        for pool in storage.get_concurrency_keys():
            info = storage.get_concurrency_info(pool)
            assert (info.claimed_slots, info.pending_steps) == ([], [])
        return [run.status.value for run in instance.get_runs()]


def test_the_second_signal_ends_what_does_not_hear_the_first(tmp_path: Path):
    process = start(tmp_path, "-c", STUBBORN)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    wait_for(process.stdout, "swallowed")
    process.send_signal(signal.SIGTERM)
    wait_for(process.stdout, "cleaned up")
    code, said = end_of(process)
    assert code == 130
    assert said == "music-assets: It was interrupted; started again, it goes on with what is not yet done.\n"


@pytest.mark.slow
def test_what_does_not_hear_a_signal_is_ended_in_the_end(tmp_path: Path):
    process = start(tmp_path, "-c", STUBBORN)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert end_of(process)[0] == 143


@pytest.mark.slow
def test_an_interrupted_pipeline_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch):
    command = ("-m", "music_assets", "pipeline", "--minutes", "0.3", "--samples", "1", "--retrain")
    first = start(project, *command)
    wait_for(first.stderr, " a second, loss")
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    code, said = end_of(first)
    assert code == 130
    (saved,) = re.findall(SAVED, said)
    assert statuses(project, monkeypatch)[0] == "CANCELED"

    second = start(project, *command)
    wait_for(second.stderr, f" goes on at {saved} tokens; to start anew, delete ")
    wait_for(second.stderr, " a second, loss")
    second.send_signal(signal.SIGTERM)  # as a service manager does
    code, said = end_of(second)
    assert code == 143
    (more,) = re.findall(SAVED, said)
    assert int(more.replace(",", "")) > int(saved.replace(",", ""))
    assert statuses(project, monkeypatch)[0] == "CANCELED"
    (run,) = (project / "data" / "checkpoints" / "gpt").glob("*/lock")
    assert (run.parent / "unfinished").exists()
    tracking = Tracking(DataPaths(project / "data"))
    (tracked,) = tracking.client.search_runs([tracking.experiment_id])
    assert tracked.info.status == "KILLED"


@pytest.mark.slow
def test_processes_that_train_together_are_saved_and_end(project: Path, monkeypatch: pytest.MonkeyPatch):
    process = start(project, "-c", TOGETHER, "together")
    wait_for(process.stdout, " a second, loss")
    os.killpg(process.pid, signal.SIGINT)
    code, said = end_of(process)
    assert code == 130
    assert "The training was interrupted and is saved at" in said.strip().splitlines()[-1]
    assert statuses(project, monkeypatch)[0] == "CANCELED"
