"""A drop folder to its index: from cold against pretty_midi, with nothing new, and with ten new files."""

import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import pretty_midi

from benchmarks.harness import Result, machine, midi_files, options, show
from music_assets.corpus.index.build import build_index
from music_assets.corpus.index.settings import IndexSettings
from music_assets.corpus.reading.scan import scan
from music_assets.corpus.reading.verdicts import OK, examine
from music_assets.foundation.midi.reading import load_score
from music_assets.paths import DataPaths

ROUNDS = 3
NEW_FILES = 10


def main() -> None:
    chosen = options(__doc__)
    warnings.simplefilter("ignore")
    files = 0
    times: dict[str, list[float]] = {"cold": [], "rescan": [], "new": [], "pretty_midi": []}
    with midi_files(chosen.corpus, chosen.files) as sample:
        readable = [file for file in sample if examine(file)["verdict"] == OK]
        folder = chosen.corpus or Path(os.path.commonpath(sample))
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as data:
                paths = DataPaths(Path(data).resolve())
                paths.raw.mkdir()
                (paths.raw / "corpus").symlink_to(folder.resolve())
                times["cold"].append(_seconds(paths))
                times["rescan"].append(_seconds(paths))
                _write_new(readable, paths.raw / "new")
                times["new"].append(_seconds(paths))
                files = build_index(paths).files - NEW_FILES
            began = time.perf_counter()
            for file in readable:
                pretty_midi.PrettyMIDI(str(file))
            times["pretty_midi"].append((time.perf_counter() - began) / len(readable))
    median = {name: statistics.median(taken) for name, taken in times.items()}
    cores = len(os.sched_getaffinity(0))
    ours, theirs = files / median["cold"] / cores, 1 / median["pretty_midi"]
    show(
        [
            Result(
                "index_files_per_second",
                round(ours, 1),
                f"files/s a core, {files} files",
                "pretty_midi, reading only",
                round(theirs, 1),
                round(ours / theirs, 2),
                machine(),
            ),
            *(
                Result(
                    name,
                    round(median[case], 3),
                    "s",
                    "from cold",
                    round(median["cold"], 2),
                    round(median["cold"] / median[case], 2),
                    machine(),
                )
                for name, case in (("rescan_seconds", "rescan"), ("ten_new_files_seconds", "new"))
            ),
        ],
        chosen.json,
    )


def _seconds(paths: DataPaths) -> float:
    began = time.perf_counter()
    scan(paths.raw, paths.files, workers=len(os.sched_getaffinity(0)))
    build_index(paths, IndexSettings())
    return time.perf_counter() - began


def _write_new(files: list[Path], folder: Path) -> None:
    """Ten files that are like none before: each the sample's n-th, a bar late and with another tempo."""
    folder.mkdir()
    for number, file in enumerate((files * NEW_FILES)[:NEW_FILES]):
        score = load_score(file)
        score.shift_time(4 * score.tpq, inplace=True)
        for tempo in score.tempos:
            tempo.mspq += 1 + number
        score.dump_midi(str(folder / f"New {number}.mid"))


if __name__ == "__main__":
    main()
