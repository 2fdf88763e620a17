"""Muon against AdamW: the tokens that each takes to AdamW's final bits per note, by architecture, at equal tokens.

``python -m benchmarks.optimizers [--data DIR] [--architectures gpt,lstm,gru] [--tokens N] [--seeds N]
[--rates muon:0.008,adamw:0.004]``; by default every optimiser has its own peak learning rate.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.pieces import read_pieces
from music_assets.tokens.shards import Shard
from music_assets.training.config import TrainingConfig
from music_assets.training.loop import TrainingProgress, train
from music_assets.training.optimizer import peak_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder with token shards; without it, tunes are written")
    parser.add_argument("--architectures", default="gpt,lstm,gru")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--validations", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rates", default="muon,adamw", help="optimisers, each with or without :learning rate")
    chosen = parser.parse_args()
    pieces = read_pieces(chosen.data)
    print("| architecture | optimiser | rate | seed | bits per note | tokens to AdamW's last | share |")
    print("|---|---|---|---|---|---|---|")
    for architecture in chosen.architectures.split(","):
        for seed in range(chosen.seeds):
            curves = {
                name: curve(architecture, name, seed, chosen.tokens, chosen.validations, pieces)
                for name in chosen.rates.split(",")
            }
            goal = next((points[-1][1] for name, points in curves.items() if name.startswith("adamw")), None)
            for name, points in curves.items():
                reached = next((tokens for tokens, bits in points if goal is not None and bits <= goal), None)
                share = None if reached is None else round(reached / points[-1][0], 2)
                optimizer, rate = settings(name)
                row = [
                    architecture,
                    optimizer,
                    f"{rate:g}",
                    seed,
                    f"{points[-1][1]:.3f}",
                    reached or "",
                    share or "never",
                ]
                print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(json.dumps({"tokens": chosen.tokens, "machine": machine()}))


def settings(name: str) -> tuple[str, float]:
    optimizer, _, rate = name.partition(":")
    config = TrainingConfig.model_validate({"optimizer": optimizer, "learning_rate": float(rate) if rate else None})
    return optimizer, peak_rate(config)


def curve(
    architecture: str, name: str, seed: int, tokens: int, validations: int, pieces: list[Shard]
) -> list[tuple[int, float]]:
    """Bits per note of held-out pieces over training tokens."""
    optimizer, rate = settings(name)
    points: list[tuple[int, float]] = []

    def report(progress: TrainingProgress) -> None:
        if progress.score:
            points.append((progress.tokens, progress.score.bits_per_note))

    config = TrainingConfig.model_validate(
        {
            "minutes": None,
            "tokens": tokens,
            "optimizer": optimizer,
            "learning_rate": rate,
            "validations": validations,
            "validation_tokens": 30_000,
            "seed": seed,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        train(architecture, config, pieces, Path(folder) / "run", report=report)
    return points


if __name__ == "__main__":
    main()
