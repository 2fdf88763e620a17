"""A drop folder of Lakh's size: does time grow with the files, how much memory do all processes take, do views answer?

The folder is made from real files by altering bytes: every copy has other pitches than its source, one in six nearly
the same ones, and six in ten a genre by its md5. Building 180,000 files takes some minutes and 7 GB; a folder that is
there is used again.
"""

import argparse
import hashlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.harness import Result, machine, show
from music_assets.corpus.index.tables import VIEWS
from music_assets.corpus.reading.verdicts import MINIMUM_NOTES
from music_assets.paths import DataPaths

MEMORY_LIMIT = 2 << 30
"""Bytes that all processes together may take."""
VIEW_LIMIT = 1.0
"""Seconds in which every view should answer."""
NEAR = 6
"""One copy in so many is a near-duplicate of its source."""
GENRES = ("blues", "classical", "country", "electronic", "folk", "jazz", "latin", "metal", "pop", "rock")
LABELLED = 6
"""Of ten files so many have a genre."""
FRAGMENT = """
import json, sys, time
from pathlib import Path
from music_assets.corpus.index.build import build_index
from music_assets.corpus.reading.scan import scan
from music_assets.paths import DataPaths
paths = DataPaths(Path(sys.argv[1]))
times = [time.perf_counter()]
scan(paths.raw, paths.files)
times.append(time.perf_counter())
build_index(paths)
times.append(time.perf_counter())
print(json.dumps([times[1] - times[0], times[2] - times[1]]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of MIDI files to make others from")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "lakhsize", help="where to")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 60_000, 180_000], help="numbers of files")
    parser.add_argument("--json", action="store_true", help="only the JSON lines")
    chosen = parser.parse_args()
    rates: list[float] = []
    sizes = sorted(chosen.sizes)
    for size in sizes:
        with tempfile.TemporaryDirectory() as data:
            (Path(data) / "raw").symlink_to(build(chosen.corpus, chosen.folder / str(size), size))
            scanned, indexed, memory = measure(Path(data))
            again = sum(measure(Path(data))[:2])
            slowest, seconds = slowest_view(DataPaths(Path(data)).index)
        cold = scanned + indexed
        rates.append(size / cold)
        lines = [
            ("files_per_second", rates[-1], "files/s", f"{sizes[0]} files", rates[0], rates[-1] / rates[0]),
            ("peak_memory", memory / 2**20, "MiB", "limit", MEMORY_LIMIT / 2**20, MEMORY_LIMIT / memory),
            ("scan_seconds", scanned, "s", "scan and index", cold, cold / scanned),
            ("index_seconds", indexed, "s", "scan and index", cold, cold / indexed),
            ("rescan_seconds", again, "s", "scan and index", cold, cold / again),
            (f"slowest_view_{slowest}", seconds, "s", "limit", VIEW_LIMIT, VIEW_LIMIT / seconds),
        ]
        show(
            [
                Result(f"{name}_{size}", round(value, 3), unit, baseline, round(other, 2), round(ratio, 2), machine())
                for name, value, unit, baseline, other, ratio in lines
            ],
            chosen.json,
        )


def slowest_view(index: Path) -> tuple[str, float]:
    """The view that takes longest to give all its rows, and its seconds, the median of three times."""
    times = {}
    with duckdb.connect(str(index), read_only=True) as connection:
        for view in VIEWS:
            taken = []
            for _ in range(3):
                began = time.perf_counter()
                connection.sql(f"from {view}").to_arrow_table()
                taken.append(time.perf_counter() - began)
            times[view] = statistics.median(taken)
    return max(times.items(), key=lambda item: item[1])


def measure(data: Path) -> tuple[float, float, int]:
    """Seconds of a scan and of a build of the index in a process of their own, and the most bytes that it and its
    children were seen to hold together.

    Memory that processes share counts for each.
    """
    peak = 0
    with subprocess.Popen([sys.executable, "-c", FRAGMENT, str(data)], stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(_resident(process.pid)))
            time.sleep(0.1)
        assert process.stdout
        scanned, indexed = json.loads(process.stdout.read())
        return scanned, indexed, peak


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
    labels = ["md5,genre"]
    for number in itertools.count():
        source = melodic[number % len(melodic)]
        data = _altered(sources[source], keys[source], np.random.default_rng(number))
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        target = folder / "raw" / digest[0] / f"{digest}.mid"
        count += not target.exists()
        target.write_bytes(data)
        if int(digest[:8], 16) % 10 < LABELLED:
            labels.append(f"{digest},{GENRES[source % len(GENRES)]}")
        if count == size:
            break
    (folder / "raw" / "genres.csv").write_text("\n".join(labels) + "\n")
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
