"""Damaged copies of MIDI files through scan, index and shards: a verdict each, and no run stopped.

Bytes are changed, removed and inserted, files cut short, headers and chunk lengths overwritten. Of the files that are
refused it is counted how many mido reads to their end, by verdict: each of those has its reason in words.
"""

import io
import json
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import mido
import numpy as np
import polars as pl

from benchmarks.harness import machine, midi_files, options
from music_assets.corpus.index.build import build_index
from music_assets.corpus.index.settings import IndexSettings
from music_assets.corpus.reading.scan import read_files, scan
from music_assets.corpus.reading.verdicts import OK
from music_assets.paths import DataPaths
from music_assets.tokens.build import build_shards

SOURCES = 400


def main() -> None:
    chosen = options(__doc__)
    with midi_files(chosen.corpus, SOURCES) as sources, tempfile.TemporaryDirectory() as data:
        paths = DataPaths(Path(data).resolve())
        folder = paths.raw / "damaged" / "jazz"
        folder.mkdir(parents=True)
        originals = [source.read_bytes() for source in sources]
        for number in range(chosen.files):
            chance = np.random.default_rng(number)
            damaged = damage(originals[number % len(originals)], chance)
            (folder / f"{number:06d}.mid").write_bytes(damaged)
        began = time.perf_counter()
        scan(paths.raw, paths.files)
        index = build_index(paths, IndexSettings(minimum_pieces=1))
        files = read_files(paths.files, ["path", "md5", "verdict", "detail", "piece_id"])
        usable = files.filter(files["verdict"] == OK).unique("piece_id").sort("piece_id")
        shards = build_shards(
            usable.select("piece_id", "path", "md5", group_id="piece_id", split=pl.lit("train")),
            paths.raw,
            lambda transposition: paths.shard("jazz", transposition),
            "jazz",
            ["original"],
            workers=os.cpu_count() or 1,
        )
        seconds = time.perf_counter() - began
        refused = files.filter(files["verdict"] != OK)
        with ProcessPoolExecutor() as pool:
            readable = list(pool.map(mido_reads, (paths.raw / path for path in refused["path"]), chunksize=50))
        by_verdict = Counter(refused.filter(readable)["verdict"])
        print(
            json.dumps(
                {
                    "name": "damaged_files",
                    "value": len(files),
                    "unit": f"files with a verdict, of {chosen.files}",
                    "seconds": round(seconds, 1),
                    "verdicts": dict(Counter(files["verdict"]).most_common()),
                    "repaired": int(((files["verdict"] == OK) & (files["detail"] != "")).sum()),
                    "refused_without_words": int((refused["detail"] == "").sum()),
                    "refused_though_mido_reads_them": dict(by_verdict.most_common()),
                    "pieces": index.pieces,
                    "in_the_shard": shards[0].pieces,
                    "failed_to_encode": dict(Counter(shards[0].failed.values()).most_common(10)),
                    "machine": machine(),
                }
            )
        )


def damage(data: bytes, chance: np.random.Generator) -> bytes:
    """A copy with one to eight faults."""
    out = bytearray(data)
    for _ in range(chance.integers(1, 9)):
        place = int(chance.integers(0, len(out) + 1))
        match chance.integers(0, 7):
            case 0 | 1 if place < len(out):
                out[place] = chance.integers(0, 256)
            case 2:
                del out[place : place + int(chance.integers(1, 5))]
            case 3:
                out[place:place] = chance.bytes(int(chance.integers(1, 5)))
            case 4 if chance.random() < 0.3:
                del out[place:]
            case 5:  # the header
                place = int(chance.integers(4, 14))
                out[place : place + 1] = chance.bytes(1)
            case 6 if 0 <= (chunk := out.find(b"MTrk", place)) <= len(out) - 8:  # a length
                out[chunk + 4 + int(chance.integers(0, 4))] = chance.integers(0, 256)
    return bytes(out)


def mido_reads(file: Path) -> bool:
    """Whether mido reads a file to its end."""
    try:
        mido.MidiFile(file=io.BytesIO(file.read_bytes()), clip=True)
    except Exception:  # noqa: BLE001, whatever it meets
        return False
    return True


if __name__ == "__main__":
    main()
