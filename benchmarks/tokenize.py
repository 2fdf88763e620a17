"""Encoding and decoding REMI against miditok with the same vocabulary, transposing whole shards, and building them.

One core each, but for the shards of all files of the corpus: those are built by two processes and by one.
"""

import os
import shutil
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness import Result, compare, machine, midi_files, options, show
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import load_score
from music_assets.tokens.build import build_shards, transposed
from music_assets.tokens.remi import decode, encode
from music_assets.tokens.shards import Shard, make_shard, write_shard
from music_assets.tokens.transposition import TRANSPOSITIONS
from music_assets.tokens.vocabulary import REMI_CONFIG

SHARD_TOKENS = 10_000_000
"""Size of the shard that is transposed: the corpus over and over."""
SHARD_ROUNDS = 3


def main() -> None:
    chosen = options(__doc__)
    warnings.simplefilter("ignore")
    with midi_files(chosen.corpus, chosen.files) as files:
        scores = []
        for file in files:
            try:
                scores.append(load_score(file))
            except BadMidi:
                continue
        folder = chosen.corpus or Path(os.path.commonpath(files))
        documents = [encode(score) for score in scores]
        results = [*against_miditok(scores, documents), transposing(documents), building(folder)]
    show(results, chosen.json)


def against_miditok(scores: list, documents: list[np.ndarray]) -> list[Result]:
    from miditok import REMI, TokenizerConfig

    miditok = REMI(TokenizerConfig(**REMI_CONFIG))
    theirs = [document.tolist() for document in documents]
    tokens = sum(map(len, documents))
    return [
        compare(
            "encode_tokens_per_second",
            "tokens/s",
            tokens,
            lambda: [encode(score) for score in scores],
            "miditok",
            lambda: [miditok.encode(score.copy()) for score in scores],
        ),
        compare(
            "decode_tokens_per_second",
            "tokens/s",
            tokens,
            lambda: [decode(document) for document in documents],
            "miditok",
            lambda: [miditok.decode(document) for document in theirs],
        ),
    ]


def transposing(documents: list[np.ndarray]) -> Result:
    """Tokens written in all transposed shards a second, against as many bytes written as they are."""
    original = repeated(documents)
    names = [name for name in TRANSPOSITIONS if name != "original"]
    pieces = [transposed(original, name)[0] for name in names]
    with tempfile.TemporaryDirectory() as folder:

        def transpose() -> None:
            clear(Path(folder))
            for name in names:
                listing, blocks, _ = transposed(original, name)
                write_shard(Path(folder) / name, listing, blocks)

        def copy() -> None:
            clear(Path(folder))
            for name, listing in zip(names, pieces, strict=True):
                (Path(folder) / name).write_bytes(original.ids[: listing.offsets[-1]].data)

        return compare(
            "transpose_tokens_per_second",
            "tokens/s",
            sum(int(listing.offsets[-1]) for listing in pieces),
            transpose,
            "writing the untransposed ids",
            copy,
        )


def clear(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def repeated(documents: list[np.ndarray]) -> Shard:
    """A shard of training pieces, each of the documents as often as fills it."""
    documents = documents * (1 + SHARD_TOKENS // sum(map(len, documents)))
    names = [f"{index:08}" for index in range(len(documents))]
    ones = [1] * len(names)
    return make_shard("all", "original", names, names, ["train"] * len(names), ones, ones, documents)


def building(folder: Path) -> Result:
    """Seconds from the MIDI files of a folder to their original shard, by two processes against one."""
    files = sorted(folder.rglob("*.mid"))
    names = [str(path.relative_to(folder)) for path in files]
    pieces = pl.DataFrame({"piece_id": names, "path": names, "group_id": names, "split": ["train"] * len(names)})
    seconds: dict[int, list[float]] = {2: [], 1: []}
    tokens = 0
    with tempfile.TemporaryDirectory() as made:
        for _ in range(SHARD_ROUNDS):
            for workers, taken in seconds.items():
                began = time.perf_counter()
                path = Path(made) / str(workers) / "original.arrow"
                tokens = build_shards(pieces, folder, lambda _, path=path: path, "all", ["original"], workers)[0].tokens
                taken.append(time.perf_counter() - began)
                shutil.rmtree(path.parent)
    two, one = (statistics.median(taken) for taken in seconds.values())
    unit = f"s, {len(files)} files, {tokens:,} tokens"
    return Result("shards_seconds", round(two, 2), unit, "one process", round(one, 2), round(one / two, 2), machine())


if __name__ == "__main__":
    main()
