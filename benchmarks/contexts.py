"""How often each context of memory has been there before, and how often what followed it then follows again.

    python -m benchmarks.contexts --data DIR [--pieces N]

One table for each kind of token that is read; contexts are numbered as in `music_assets.tokens.memory`, first the runs
of tokens. Of all such tokens in validation pieces: the share whose context is known; of those the share that is right;
the share that is sure (right 4 times in a row or more), and of those the share that is right; and the share of all at
which this context is right and no other.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.harness import machine
from benchmarks.pieces import read_pieces
from music_assets.evaluation.pieces import real_pieces
from music_assets.tokens.memory import CONTEXTS, NO_CANDIDATE, candidates_of
from music_assets.tokens.vocabulary import SIZE, TOKEN_TYPE, TOKEN_TYPES

SURE = 3  # level


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder with token shards; else written tunes")
    parser.add_argument("--pieces", type=int, default=40, help="validation pieces, of all genres")
    chosen = parser.parse_args()
    pieces = real_pieces(read_pieces(chosen.data), "valid")
    documents = [piece.ids for piece in pieces[:: max(1, len(pieces) // chosen.pieces)][: chosen.pieces]]
    told = np.concatenate([candidates_of(ids)[:-1, :CONTEXTS] for ids in documents])
    kinds = np.concatenate([TOKEN_TYPE[ids[:-1]] for ids in documents])
    came = np.concatenate([ids[1:].astype(np.int64) for ids in documents])
    known = told != NO_CANDIDATE
    right = known & (told % SIZE == came[:, None])
    sure = known & (told // SIZE >= SURE)
    print(f"{len(documents)} validation pieces, {len(came):,} tokens, {machine()}")
    for kind, name in enumerate(TOKEN_TYPES):
        of_kind = kinds == kind
        if not known[of_kind].any():
            continue
        some = right[of_kind].any(axis=1).mean()
        print(f"\nafter {name}: {of_kind.sum():,} tokens, some context right at {some:.1%}\n")
        print("| context | known | then right | sure | then right | alone right |\n|---|---|---|---|---|---|")
        for column in range(CONTEXTS):
            k, r, s = (array[of_kind, column] for array in (known, right, sure))
            alone = r & (right[of_kind].sum(axis=1) == 1)
            if k.any():
                shares = f"{k.mean():.0%} | {_share(r, k)} | {s.mean():.0%} | {_share(r, s)} | {alone.mean():.2%}"
                print(f"| {column + 1} | {shares} |")


def _share(of: np.ndarray, among: np.ndarray) -> str:
    return f"{of[among].mean():.1%}" if among.any() else "-"


if __name__ == "__main__":
    main()
