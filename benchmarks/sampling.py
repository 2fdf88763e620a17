"""What sampling settings and wishes are worth: the same checkpoint, judged by the samples it makes.

    python -m benchmarks.sampling --data DIR [--samples 24] temperature=1 temperature=0.9,guidance=2 wishes=real

Each argument is one row: `default`, or fields of a request that differ from it. `wishes=real` asks each sample for the
instruments, the density and the bars of a real test piece of its genre. All samples have 8 bars unless said otherwise.

A row has the genre consistency with its interval, with and without programs; how many of the distances to real music
lie beyond real music's own; the share of samples that copy more than 95% of real pieces do; of all runs of four pitches
in the samples of a genre the share that occurs once; the median number of instruments; notes per second of sampling.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import machine
from benchmarks.settings import fields
from music_assets.checkpoints.storage import Checkpoint, load_checkpoint
from music_assets.evaluation.classifier import Excerpts, generated_excerpts, genre_consistency, real_excerpts
from music_assets.evaluation.comparison import compare_features
from music_assets.evaluation.copying import copy_report
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.resampling import Estimate
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.evaluation.subject import champion_of
from music_assets.foundation.midi.programs import DRUMS
from music_assets.generation.generate import generate
from music_assets.generation.request import make_request
from music_assets.paths import DataPaths
from music_assets.tokens.remi import notes

BARS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", help="`default`, or wishes as field=value,field=value")
    parser.add_argument("--data", type=Path, required=True, help="a data folder with a trained champion")
    parser.add_argument("--architecture", default="gpt")
    parser.add_argument("--samples", type=int, default=24, help="of each genre")
    chosen = parser.parse_args()
    subject = champion_of(DataPaths(chosen.data), chosen.architecture)
    checkpoint, settings = load_checkpoint(subject.checkpoint), EvaluationSettings()
    training, held_out = subject.real("train"), subject.real("test")
    judge = (
        real_excerpts(training, settings.excerpt_bars, settings.excerpts_per_piece),
        real_excerpts(held_out, settings.excerpt_bars),
    )
    print(f"{chosen.architecture}, {subject.facts.tokens:,} tokens, {len(subject.facts.genres)} genres, {machine()}\n")
    print("| samples | consistency | without programs | distances beyond | copying | variety | instruments | notes/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in chosen.rows:
        began = time.perf_counter()
        samples = list(sampled(checkpoint, fields(name), chosen.samples, held_out))
        speed = sum(len(piece.notes) for piece in samples) / (time.perf_counter() - began)
        generated = generated_excerpts(samples, settings.excerpt_bars)
        found = [_consistency(*judge, generated, settings, shown) for shown in (True, False)]
        distances = compare_features(held_out, samples, settings).distances
        beyond = sum(distance.is_beyond_floor for distance in distances)
        copied = copy_report(training, held_out, samples, settings).share_above
        playing = np.median([len(np.unique(piece.notes.program)) for piece in samples])
        print(
            f"| {name} | {_percent(found[0])} | {_percent(found[1])} | {beyond} of {len(distances)} "
            f"| {copied.value:.1%} | {variety(samples):.0%} | {playing:g} | {speed:,.0f} |",
            flush=True,
        )


def sampled(checkpoint: Checkpoint, asked: dict[str, str], count: int, held_out: Sequence[Piece]) -> Iterator[Piece]:
    """Samples of every genre of the checkpoint."""
    wishes: dict[str, Any] = {"max_bars": BARS, **{key: value for key, value in asked.items() if key != "wishes"}}
    for genre in checkpoint.facts.genres:
        if asked.get("wishes") == "real":
            pieces = [piece for piece in held_out if piece.genre == genre and len(piece.notes)]
            if not pieces:  # nor is the genre judged
                continue
            requests = [
                make_request(genre=genre, **{**wishes, **wishes_of(pieces[i % len(pieces)]), "seed": i, "count": 1})
                for i in range(count)
            ]
        else:
            requests = [make_request(genre=genre, **{**wishes, "count": count})]
        for request in requests:
            for one in generate(checkpoint, request):
                name = f"{genre}-{request.seed + one.index}"
                found = notes(one.ids)
                yield Piece(name, name, genre, one.ids, found, found.seconds)


def wishes_of(piece: Piece) -> dict[str, Any]:
    """What one would ask for to get such a piece."""
    made = piece.notes
    programs = np.unique(made.program).tolist()
    return {
        "instruments": ["drums" if program == DRUMS else str(program) for program in programs],
        "density": min(max(len(made) / made.bar_lengths.sum(), 0.01), 64.0),
        "bars": BARS,
    }


def variety(samples: Sequence[Piece]) -> float:
    """The share of runs of four pitches of one instrument that occur once among the samples of a genre."""
    once = total = 0
    for genre in {piece.genre for piece in samples}:
        runs = np.concatenate(
            [
                np.lib.stride_tricks.sliding_window_view(pitch, 4)
                for piece in samples
                if piece.genre == genre
                for program in np.unique(piece.notes.program)
                for pitch in [piece.notes.pitch[piece.notes.program == program]]
                if len(pitch) >= 4
            ]
            or [np.empty((0, 4))]
        )
        _, counts = np.unique(runs, axis=0, return_counts=True)
        once, total = once + int((counts == 1).sum()), total + len(runs)
    return once / max(total, 1)


def _consistency(
    train: Excerpts, test: Excerpts, generated: Excerpts, settings: EvaluationSettings, with_programs: bool
) -> Estimate:
    return genre_consistency(train, test, generated, settings, with_programs).headline


def _percent(found: Estimate) -> str:
    return f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}]"


if __name__ == "__main__":
    main()
