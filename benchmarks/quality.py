"""What training settings are worth to the music: each is trained, samples, and is judged by its samples.

    python -m benchmarks.quality --data DIR [--minutes M | --tokens N] default network.layers=4 minutes=3,seed=1

Each argument is one training: `default`, or fields of TrainingSettings that differ from it; those of the network
have `network.` before them, and wishes of the samples `sample.`, as in `sample.guidance=3`. A row says, beside the
columns of `benchmarks/judging.py`: bits per note of the validation pieces; the bits that the first 200 tokens of a test
piece cost; how many of them it saves to be told the genre; and how well the network classifies by these tokens (which
genre makes them likeliest), as balanced accuracy, for genres with test pieces.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import machine
from benchmarks.judging import Judge, table_head
from benchmarks.settings import compiles, fields
from music_assets.checkpoints.storage import Checkpoint, load_checkpoint
from music_assets.evaluation.pieces import Piece
from music_assets.paths import DataPaths
from music_assets.tokens.shards import read_shard
from music_assets.training.loop import train
from music_assets.training.scoring import token_nats
from music_assets.training.settings import TrainingSettings
from music_assets.training.validation import BEGINNING


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainings", nargs="+", help="`default`, or settings as field=value,field=value")
    parser.add_argument("--data", type=Path, required=True, help="a data folder with token shards")
    parser.add_argument("--architecture", default="gpt")
    parser.add_argument("--minutes", type=float, help="of each training")
    parser.add_argument("--tokens", type=int, help="of each training, instead of minutes")
    parser.add_argument("--samples", type=int, default=24, help="of each genre")
    parser.add_argument("--keep", type=Path, help="a folder in which the checkpoints stay")
    chosen = parser.parse_args()
    if not chosen.minutes and not chosen.tokens:
        parser.error("say how long each training is: --minutes or --tokens")
    shards = [read_shard(path) for path in sorted(DataPaths(chosen.data).root.glob("tokens/*/*.arrow"))]
    judge = Judge.of([shard for shard in shards if shard.transposition == "original"])
    common = {
        "minutes": chosen.minutes,
        "tokens": chosen.tokens,
        "compile": compiles(chosen.architecture),
    }
    print(f"{chosen.architecture}, {len(judge.training):,} training pieces, {machine()}\n")
    print(
        table_head("training", "bits per note", "first 200", "saved by genre", "as classifier", "Mtokens", "notes/s"),
        flush=True,
    )
    for name in chosen.trainings:
        asked, network, wishes = split(fields(name))
        settings = TrainingSettings.model_validate({**common, **asked, "network": network})
        with tempfile.TemporaryDirectory() as folder:
            run = (chosen.keep or Path(folder)) / name
            result = train(chosen.architecture, settings, shards, run)
            checkpoint = load_checkpoint(result.best)
        *judged, speed = judge.row(checkpoint, wishes, chosen.samples)
        cost, saved, accuracy = beginnings(checkpoint, judge.held_out)
        row = [
            *(name, *judged, f"{checkpoint.facts.bits_per_note:.2f}", f"{cost:.0f} bits"),
            *(f"{saved:.1f} bits", f"{accuracy:.2f}", f"{result.tokens / 1e6:.1f}", speed),
        ]
        print(f"| {' | '.join(row)} |", flush=True)


def split(asked: dict[str, str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Settings of the training, of the network and of the samples."""
    parts: tuple[dict[str, str], dict[str, str], dict[str, str]] = ({}, {}, {})
    for name, value in asked.items():
        room, _, field = name.rpartition(".")
        parts[("", "network", "sample").index(room)][field] = value
    return parts


def beginnings(checkpoint: Checkpoint, pieces: Sequence[Piece]) -> tuple[float, float, float]:
    """Of the first tokens of pieces: their bits, the bits saved by the true genre, and the balanced accuracy of the
    genre that makes them likeliest."""
    genres = [genre for genre in checkpoint.facts.genres if any(piece.genre == genre for piece in pieces)]
    known = [piece for piece in pieces if piece.genre in genres]
    parts = [piece.ids[:BEGINNING] for piece in known]

    def bits(genre: str | None) -> np.ndarray:
        found = token_nats(checkpoint.token_network, checkpoint.vocabulary, parts, genre)
        return np.array([nats[: len(part)].sum() for nats, part in zip(found, parts, strict=True)]) / np.log(2)

    by_genre = np.array([bits(genre) for genre in genres])  # [genres, pieces]
    true = np.array([genres.index(piece.genre) for piece in known])
    given = by_genre[true, np.arange(len(known))]
    right = by_genre.argmin(axis=0) == true
    accuracy = np.mean([right[true == number].mean() for number in range(len(genres))])
    return float(given.mean()), float((bits(None) - given).mean()), float(accuracy)


if __name__ == "__main__":
    main()
