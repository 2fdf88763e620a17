"""Only the item that kills, hangs or fills its worker is lost; and no worker outlives its master."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from music_assets.foundation.isolation import MEMORY_BYTES, WorkerFailure, run_isolated


def test_a_crash_costs_one_item_and_not_its_neighbours() -> None:
    harmless, deadly = signal.SIGURG, signal.SIGSEGV
    items = [harmless] * 10 + [deadly] + [harmless] * 10
    results = list(run_isolated(signal.raise_signal, items, workers=2, chunk=5))
    assert [result for item, result in results if item == harmless] == [None] * 20
    assert [result for item, result in results if item == deadly] == [
        WorkerFailure("crashed the parser", f"The worker process ended with code {-deadly}.")
    ]


@pytest.mark.slow
def test_an_item_that_hangs_is_given_up() -> None:
    results = dict(run_isolated(time.sleep, [0.0, 0.01, 60.0], workers=1, seconds=1.0))
    assert results.pop(60.0) == WorkerFailure("took too long", "It was given up after 1 seconds.")
    assert results == {0.0: None, 0.01: None}


def test_an_item_that_fills_the_memory_is_lost() -> None:
    results = dict(run_isolated(bytearray, [3, 2 * MEMORY_BYTES], workers=1))
    assert results[3] == bytearray(3)
    assert isinstance(lost := results[2 * MEMORY_BYTES], WorkerFailure)
    assert lost.verdict == "too large"


def test_an_exception_of_the_function_ends_the_run() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_isolated(int, ["1", "one"], workers=1))


def test_nothing_to_do() -> None:
    assert list(run_isolated(int, [])) == []


@pytest.mark.slow
def test_a_worker_that_hangs_ends_though_its_master_was_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = (
        "import sys; from pathlib import Path; from music_assets.foundation.isolation import run_isolated\n"
        "list(run_isolated(Path.read_bytes, [Path(sys.argv[1])], workers=1, seconds=1.5))"
    )
    master = subprocess.Popen([sys.executable, "-c", code, str(pipe)])
    with pipe.open("wb"):  # waits for the worker, which then waits for bytes that never come
        processes = psutil.Process(master.pid).children(recursive=True)
        master.kill()
        master.wait()
        assert len(processes) >= 2
        assert psutil.wait_procs(processes, timeout=20)[1] == []


def test_a_script_is_not_run_again_in_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from music_assets.foundation.isolation import run_isolated\n"
        "print('once'); print(sorted(run_isolated(int, ['1', '2'], workers=2, chunk=1)))"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("once\n[('1', 1), ('2', 2)]\n", "")
