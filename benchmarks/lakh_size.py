"""A drop folder of Lakh's size: does the time of a scan grow with the files, and how much memory do all processes take?

The folder is made from real files by altering bytes: every copy has other pitches than its source, one in six nearly
the same ones. Building 180,000 files takes some minutes and 7 GB; a folder that is there is used again.
"""

import argparse
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.harness import Result, machine, show
from music_assets.corpus.verdicts import MINIMUM_NOTES

MEMORY_LIMIT = 2 << 30
"""Bytes that all processes together may take."""
NEAR = 6
"""One copy in so many is a near-duplicate of its source."""
FRAGMENT = """
import sys, time
from pathlib import Path
from music_assets.corpus.scan import scan
began = time.perf_counter()
scan(Path(sys.argv[1]), Path(sys.argv[2]))
print(time.perf_counter() - began)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of MIDI files to make others from")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "lakhsize", help="where to")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 60_000, 180_000], help="numbers of files")
    parser.add_argument("--json", action="store_true", help="only the JSON lines")
    chosen = parser.parse_args()
    results, rates = [], []
    for size in sorted(chosen.sizes):
        raw = build(chosen.corpus, chosen.folder / str(size), size)
        with tempfile.TemporaryDirectory() as folder:
            cold, memory = measure(raw, Path(folder) / "files.parquet")
            again, _ = measure(raw, Path(folder) / "files.parquet")
        rates.append(size / cold)
        smallest = f"{min(chosen.sizes)} files"
        for name, value, unit, baseline, other, ratio in [
            ("scan_files_per_second", rates[-1], "files/s", smallest, rates[0], rates[-1] / rates[0]),
            ("scan_peak_memory", memory / 2**20, "MiB", "limit", MEMORY_LIMIT / 2**20, MEMORY_LIMIT / memory),
            ("rescan_seconds", again, "s", "from cold", cold, cold / again),
        ]:
            results.append(
                Result(f"{name}_{size}", round(value, 2), unit, baseline, round(other, 2), round(ratio, 2), machine())
            )
        show(results[-3:], chosen.json)


def measure(raw: Path, table: Path) -> tuple[float, int]:
    """Seconds of a scan in a process of its own, and the most bytes it and its children were seen to hold together.

    Memory that processes share counts for each.
    """
    peak = 0
    command = [sys.executable, "-c", FRAGMENT, str(raw), str(table)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(_resident(process.pid)))
            time.sleep(0.1)
        assert process.stdout
        return float(process.stdout.read()), peak


def _resident(pid: int) -> Iterator[int]:
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            yield process.memory_info().rss
    except psutil.NoSuchProcess:
        return


def build(corpus: Path, folder: Path, size: int) -> Path:
    """``size`` files in the layout of Lakh: ``<first hex digit>/<md5>.mid``."""
    made = folder / "made.json"
    if made.exists() and json.loads(made.read_text()) == size:
        return folder / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    sources = [path.read_bytes() for path in sorted(corpus.rglob("*.mid"))]
    keys = [_keys(data) for data in sources]
    melodic = [source for source, found in enumerate(keys) if len(found) >= MINIMUM_NOTES]
    for first_digit in "0123456789abcdef":
        (folder / "raw" / first_digit).mkdir(parents=True, exist_ok=True)
    count = 0
    for number in itertools.count():
        source = melodic[number % len(melodic)]
        data = _altered(sources[source], keys[source], np.random.default_rng(number))
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        target = folder / "raw" / digest[0] / f"{digest}.mid"
        count += not target.exists()
        target.write_bytes(data)
        if count == size:
            break
    made.write_text(json.dumps(size))
    return folder / "raw"


def _altered(data: bytes, keys: NDArray[np.intp], chance: np.random.Generator) -> bytes:
    """A copy with all pitches shuffled within half octaves, or a transposed one with other velocities."""
    copy = np.frombuffer(data, np.uint8).copy()
    pitches = np.arange(128)
    if chance.integers(NEAR):
        for low in range(0, 126, 6):
            pitches[low : low + 6] = chance.permutation(pitches[low : low + 6])
    else:
        pitches = np.clip(pitches + chance.integers(-6, 7), 0, 127)
        struck = keys[copy[keys + 1] > 0] + 1
        copy[struck] = (copy[struck] - 1 + chance.integers(127)) % 127 + 1
    copy[keys] = pitches[copy[keys] & 127]
    return copy.tobytes()


def _keys(data: bytes) -> NDArray[np.intp]:
    """Where the pitches of notes are, drums left out; of a damaged file those up to the damage."""
    keys = []
    try:
        position = 14
        while position + 8 < len(data):
            end = position + 8 + int.from_bytes(data[position + 4 : position + 8])
            position += 8
            status = 0
            while position < end:
                position, _ = _number(data, position)
                if data[position] & 0x80:
                    status = data[position]
                    position += 1
                kind = status >> 4
                if kind == 0xF:
                    position, length = _number(data, position + (status == 0xFF))
                    position += length
                    continue
                if kind in (8, 9) and status & 15 != 9:
                    keys.append(position)
                position += 1 if kind in (0xC, 0xD) else 2
    except IndexError:
        pass
    return np.array([key for key in keys if key + 1 < len(data)], np.intp)


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A number of variable length: where it ends, and what it is."""
    value = 0
    while True:
        byte = data[position]
        value = value << 7 | byte & 127
        position += 1
        if byte < 128:
            return position, value


if __name__ == "__main__":
    main()
