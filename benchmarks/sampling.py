"""What sampling settings and wishes are worth: the same checkpoint, judged by the samples it makes.

    python -m benchmarks.sampling --data DIR [--samples 24] temperature=1 temperature=0.9,guidance=2 wishes=real

Each argument is one row: `default`, or fields of a request that differ from it. `wishes=real` asks each sample for the
instruments and the density of the first 8 bars of a real test piece of its genre, and for 8 bars. All samples have 8
bars unless said otherwise.
What the columns are is said in `benchmarks/judging.py`; the last one is notes per second of sampling.
"""

import argparse
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.judging import Judge, table_head
from benchmarks.settings import fields
from music_assets.checkpoints.storage import load_checkpoint
from music_assets.evaluation.subject import champion_of
from music_assets.paths import DataPaths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", help="`default`, or wishes as field=value,field=value")
    parser.add_argument("--data", type=Path, required=True, help="a data folder with a trained champion")
    parser.add_argument("--architecture", default="gpt")
    parser.add_argument("--samples", type=int, default=24, help="of each genre")
    chosen = parser.parse_args()
    subject = champion_of(DataPaths(chosen.data), chosen.architecture)
    checkpoint, judge = load_checkpoint(subject.checkpoint), Judge.of(subject.shards)
    print(f"{chosen.architecture}, {subject.facts.tokens:,} tokens, {len(subject.facts.genres)} genres, {machine()}\n")
    print(table_head("samples", "notes/s"))
    for name in chosen.rows:
        print(f"| {' | '.join([name, *judge.row(checkpoint, fields(name), chosen.samples)])} |", flush=True)


if __name__ == "__main__":
    main()
