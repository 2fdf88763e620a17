"""What every benchmark shares: the corpus, rounds that take turns, and a line of result."""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

ROUNDS = 5


@dataclass(frozen=True)
class Result:
    """One measurement; ``ratio`` above 1 is better than the baseline."""

    name: str
    value: float
    unit: str
    baseline: str
    baseline_value: float
    ratio: float
    machine: str


def compare(
    name: str, unit: str, amount: float, ours: Callable[[], object], baseline: str, theirs: Callable[[], object]
) -> Result:
    """Both in turns, ``ROUNDS`` times after one unmeasured round; ``amount`` is the work of a round in ``unit`` x s."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for measured in range(ROUNDS + 1):
        for side, function in (("ours", ours), ("theirs", theirs)):
            began = time.perf_counter()
            function()
            if measured:
                times[side].append(time.perf_counter() - began)
    value, other = (amount / statistics.median(taken) for taken in times.values())
    return Result(name, round(value, 1), unit, baseline, round(other, 1), round(value / other, 2), machine())


def machine() -> str:
    """Processor, cores and versions in words."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    cores, python = len(os.sched_getaffinity(0)), platform.python_version()
    return f"{model}, {cores} cores, Python {python}, torch {version('torch')}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def options(description: str | None) -> argparse.Namespace:
    """``--corpus DIR`` (MIDI files; small written ones if absent), ``--files N`` and ``--json``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--corpus", type=Path, help="a folder of MIDI files; without it, small ones are written")
    parser.add_argument("--files", type=int, default=40, help="how many of its files to take")
    parser.add_argument("--json", action="store_true", help="only the JSON lines")
    return parser.parse_args()


@contextmanager
def midi_files(corpus: Path | None, count: int) -> Iterator[list[Path]]:
    """Every n-th file of the corpus, so that ``count`` are taken; or tunes written for the purpose."""
    if corpus is not None:
        found = sorted(corpus.rglob("*.mid"))
        if not found:
            raise SystemExit(f"There is no .mid file under {corpus}.")
        yield found[:: max(1, len(found) // count)][:count]
        return
    from music_assets_tests.midi_files import write_corpus

    with tempfile.TemporaryDirectory() as folder:
        yield write_corpus(Path(folder), {"band": count // 2, "chorale": count - count // 2}, bars=64)


def show(results: list[Result], only_json: bool) -> None:
    for result in results:
        print(json.dumps(asdict(result)))
        if not only_json:
            print(f"  {result.name}: {result.ratio:g} times {result.baseline}")
