"""Samples drawn for a benchmark, and what is said of them: the same columns in every table."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.classifier import Excerpts, generated_excerpts, genre_consistency, real_excerpts
from music_assets.evaluation.comparison import compare_features
from music_assets.evaluation.controls import Facts
from music_assets.evaluation.copying import copy_report
from music_assets.evaluation.features import bar_self_similarity, excerpt, programs_used
from music_assets.evaluation.guidance import pitch_runs
from music_assets.evaluation.pieces import Piece, real_pieces, sampled_piece
from music_assets.evaluation.resampling import Estimate
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.generation.generate import generate
from music_assets.generation.request import make_request
from music_assets.tokens.shards import Shard

BARS = 8

COLUMNS = ("consistency", "without programs", "distances beyond", "copying", "variety", "similarity", "instruments")
"""The genre consistency with its interval, with and without programs; how many of the distances to real music lie
beyond real music's own; the share of samples that copy more than 95% of real pieces do; of all runs of four pitches in
the samples of a genre the share that occurs once; how similar neighbouring bars are; the median number of
instruments. In brackets what real beginnings have, of as many pieces a genre, the instruments as their middle half."""


@dataclass(frozen=True)
class Judge:
    """Real pieces to hold samples against."""

    training: list[Piece]
    held_out: list[Piece]
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> "Judge":
        """With the training and the test pieces of `original` shards."""
        return cls(real_pieces(shards, "train"), real_pieces(shards, "test"))

    @cached_property
    def excerpts(self) -> tuple[Excerpts, Excerpts]:
        bars = self.settings.excerpt_bars
        return real_excerpts(self.training, bars, self.settings.excerpts_per_piece), real_excerpts(self.held_out, bars)

    @cached_property
    def real(self) -> tuple[float, NDArray[np.float64]]:
        """Similarity of neighbouring bars, and the quartiles of instruments, in the beginnings of held-out pieces."""
        beginnings = self.excerpts[1].features
        quartiles = np.quantile(beginnings.scalars["programs used"], [0.25, 0.75])
        return float(np.nanmean(beginnings.scalars["bar similarity, 1 apart"])), quartiles

    def beginnings(self, count: int) -> list[Piece]:
        """The first bars of about so many training pieces, of each genre as many."""
        genres = sorted({piece.genre for piece in self.training})
        chosen = [
            piece
            for genre in genres
            for piece in [piece for piece in self.training if piece.genre == genre][: round(count / len(genres))]
        ]
        return [replace(piece, notes=excerpt(piece.notes, self.settings.excerpt_bars)) for piece in chosen]

    def row(self, checkpoint: Checkpoint, wishes: dict[str, str], count: int) -> list[str]:
        """:meth:`columns` of so many samples a genre, and the notes per second of making them."""
        began = time.perf_counter()
        samples = list(sampled(checkpoint, wishes, count, self.held_out))
        speed = sum(len(piece.notes) for piece in samples) / (time.perf_counter() - began)
        return [*self.columns(samples), f"{speed:,.0f}"]

    def columns(self, samples: Sequence[Piece]) -> list[str]:
        """What ``COLUMNS`` name, in words."""
        generated = generated_excerpts(samples, self.settings.excerpt_bars)
        found = [
            _percent(genre_consistency(*self.excerpts, generated, self.settings, shown).headline)
            for shown in (True, False)
        ]
        distances = compare_features(self.held_out, samples, self.settings).distances
        beyond = sum(distance.is_beyond_floor for distance in distances)
        copied = copy_report(self.training, self.held_out, samples, self.settings).share_above
        playing = np.median([programs_used(piece.notes) for piece in samples])
        similar = np.nanmean([bar_self_similarity(piece.notes, 1)[0] for piece in samples])
        of_real, (low, high) = self.real
        return [
            *found,
            f"{beyond} of {len(distances)}",
            f"{copied.value:.1%}",
            f"{variety(samples):.0%} ({variety(self.beginnings(len(samples))):.0%})",
            f"{similar:.2f} ({of_real:.2f})",
            f"{playing:g} ({low:g} to {high:g})",
        ]


def sampled(checkpoint: Checkpoint, asked: dict[str, str], count: int, held_out: Sequence[Piece]) -> Iterator[Piece]:
    """Samples of every genre of the checkpoint; with the wish `wishes=real` what real beginnings have is
    asked for."""
    wishes: dict[str, Any] = {"max_bars": BARS, **{key: value for key, value in asked.items() if key != "wishes"}}
    for genre in checkpoint.facts.genres:
        if asked.get("wishes") == "real":
            pieces = [piece for piece in held_out if piece.genre == genre and Facts.of(piece, BARS).instruments]
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
                yield sampled_piece(f"{genre}-{request.seed + one.index}", genre, one.ids)


def wishes_of(piece: Piece) -> dict[str, Any]:
    """What one would ask for to get the beginning of such a piece."""
    wishes = Facts.of(piece, BARS).wishes
    return {**wishes["instruments"], **wishes["density"], "bars": BARS}


def variety(samples: Sequence[Piece]) -> float:
    """The share of runs of four pitches of one instrument that occur once among the samples of a genre."""
    once = total = 0
    for genre in {piece.genre for piece in samples}:
        runs = np.concatenate([pitch_runs(piece.notes) for piece in samples if piece.genre == genre])
        _, counts = np.unique(runs, return_counts=True)
        once, total = once + int((counts == 1).sum()), total + len(runs)
    return once / max(total, 1)


def table_head(first: str, *more: str) -> str:
    """The head of a Markdown table with ``COLUMNS`` behind the first column, and some more."""
    names = [first, *COLUMNS, *more]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def _percent(found: Estimate) -> str:
    return f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}]"
