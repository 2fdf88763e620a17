"""What training settings are worth: the same network, data and number of tokens, with one set of settings or another.

    python -m benchmarks.settings [--data DIR] [--tokens N] [--seeds 0,1] optimizer=adamw optimizer=muon,tokens=700000

Each argument is one training: `default`, or fields of TrainingSettings that differ from it. All are compared with the
first: the bits per note of held-out pieces at the end, and after which share of the tokens they were as few as the
first one's at its end.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.pieces import read_pieces
from music_assets.models.registry import find_architecture
from music_assets.tokens.shards import Shard
from music_assets.training.compilation import can_compile
from music_assets.training.loop import train
from music_assets.training.precision import choose_device
from music_assets.training.progress import TrainingProgress
from music_assets.training.settings import TrainingSettings

Curve = list[tuple[int, float]]  # training tokens, bits per note


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainings", nargs="+", help="`default`, or settings as field=value,field=value")
    parser.add_argument("--data", type=Path, help="a data folder with token shards; without it, tunes are written")
    parser.add_argument("--architecture", default="gpt")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--validations", type=int, default=5)
    parser.add_argument("--validation-tokens", type=int, default=60_000)
    parser.add_argument("--seeds", default="0", help="by commas")
    chosen = parser.parse_args()
    pieces = read_pieces(chosen.data)
    common = {
        "minutes": None,
        "tokens": chosen.tokens,
        "validations": chosen.validations,
        "validation_tokens": chosen.validation_tokens,
        "compile": compiles(chosen.architecture),
    }
    print(f"{chosen.architecture}, {chosen.tokens:,} tokens, {machine()}\n")
    print("| training | seed | bits per note | against the first | as good as the first after |")
    print("|---|---|---|---|---|")
    for seed in map(int, chosen.seeds.split(",")):
        goal = None
        for name in chosen.trainings:
            config = TrainingSettings.model_validate({**common, **fields(name), "seed": seed})
            points = curve(chosen.architecture, config, pieces)
            bits = points[-1][1]
            goal = goal or bits
            reached = next((tokens for tokens, of in points if of <= goal), None)
            share = "never" if reached is None else f"{reached / points[-1][0]:.0%} of the tokens"
            print(f"| {name} | {seed} | {bits:.3f} | {bits / goal - 1:+.1%} | {share} |", flush=True)


def compiles(architecture: str) -> bool:
    """Whether trainings are compiled, however short they are."""
    return find_architecture(architecture).worth_compiling and can_compile(choose_device())


def fields(text: str) -> dict[str, str]:
    """Of `field=value,field=value`, or `default`."""
    return {} if text == "default" else dict(part.split("=", 1) for part in text.split(","))


def curve(architecture: str, config: TrainingSettings, pieces: list[Shard]) -> Curve:
    points: Curve = []

    def report(progress: TrainingProgress) -> None:
        if progress.score:
            points.append((progress.tokens, progress.score.bits_per_note))

    with tempfile.TemporaryDirectory() as folder:
        train(architecture, config, pieces, Path(folder) / "run", report=report)
    return points


if __name__ == "__main__":
    main()
