"""Whether a new checkpoint takes the champion's place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel

from music_assets.checkpoints.runs import CheckpointError, champion, read_facts, set_champion
from music_assets.checkpoints.storage import load_checkpoint
from music_assets.tokens.vocabulary import VocabularyMismatch
from music_assets.training.validation import ValidationSet, validate


class Heard(BaseModel, frozen=True):
    """Genre consistency, how well the genre of a checkpoint's samples is heard: the share of the way from chance, 0, to
    real music, 1, and the bounds of its 95% interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.0%} [{self.low:.0%}, {self.high:.0%}]"

    def overlaps(self, other: "Heard") -> bool:
        """Whether the two intervals have a point in common."""
        return self.low <= other.high and other.low <= self.high


Judge = Callable[[Path, Sequence[str]], Heard | None]
"""Of a checkpoint's folder and the genres to be told apart; None where its samples cannot be judged."""


@dataclass(frozen=True)
class Standing:
    """What a checkpoint is judged by: bits per note of validation pieces, and its samples; None: not measured."""

    bits: float | None
    heard: Heard | None = None


@dataclass(frozen=True)
class Decision:
    """Whether the challenger won, and what both are judged by; None: there is no usable champion."""

    won: bool
    reason: str
    challenger: Standing
    champion: Standing | None

    @property
    def numbers(self) -> dict[str, str]:
        """What was measured of the challenger and of the champion that it met, by name, in words."""
        found = {"genre_consistency": self.challenger.heard}
        if self.champion:
            bits = self.champion.bits
            found |= {
                "incumbent_bits_per_note": None if bits is None else f"{bits:.4f}",
                "incumbent_genre_consistency": self.champion.heard,
            }
        return {name: "not measured" if value is None else str(value) for name, value in found.items()}


def challenge(
    folder: Path,
    challenger: Path,
    pieces: ValidationSet,
    device: str | torch.device = "cpu",
    judge: Judge = lambda checkpoint, genres: None,
) -> Decision:
    """Make a checkpoint the champion of its architecture's ``folder`` if it wins by :func:`compare`.

    Both are measured on the same validation pieces: the champion is scored again if it was scored on others. Their
    samples are of the genres that both know. A champion that cannot be used any more, or any where there is no piece
    to compare on, gives way.

    Raises:
        CheckpointError: the challenger is missing or damaged.
    """
    genres = read_facts(challenger).genres
    try:
        incumbent = champion(folder)
        if incumbent and incumbent != challenger:
            known = read_facts(incumbent).genres
            shared = [genre for genre in genres if genre in known]
            old = _standing(incumbent, shared, pieces, device, judge)
        else:
            shared, old = genres, None
    except (CheckpointError, VocabularyMismatch) as error:
        new = _standing(challenger, genres, pieces, device, judge)
        set_champion(folder, challenger)
        return Decision(True, f"The champion cannot be used any more: {error}", new, None)
    new = _standing(challenger, shared, pieces, device, judge)
    if incumbent == challenger:
        return Decision(True, "It is the champion already.", new, new)
    won, reason = compare(new, old) if old else (True, "It is the first champion.")
    if won:
        set_champion(folder, challenger)
    return Decision(won, reason, new, old)


def compare(challenger: Standing, champion: Standing) -> tuple[bool, str]:
    """Whether the challenger wins, and why, in a sentence with the numbers of both.

    Where the intervals of what is heard do not overlap, the one whose samples are heard better wins: a network may
    know real music well and make poor music. Otherwise fewer bits per note win; where there are none, the newer wins.
    """
    ours, theirs = challenger.heard, champion.heard
    if ours and theirs and not ours.overlaps(theirs):
        won = ours.low > theirs.high
        verdict = "better" if won else "less well"
        return won, (
            f"The genre of its samples is heard {verdict}, {ours} of the way from chance to real music against the "
            f"champion's {theirs}; their 95% intervals do not overlap, and that goes before bits per note"
            f"{_both(challenger, champion)}."
        )
    if challenger.bits is None or champion.bits is None:
        return True, "It is newer, and there is no held-out piece to compare on."
    won = challenger.bits < champion.bits
    verdict = "fewer than" if won else "not fewer than"
    return won, (
        f"It needs {challenger.bits:.3f} bits per note on held-out pieces, {verdict} the champion's "
        f"{champion.bits:.3f}.{_no_verdict(ours, theirs)}"
    )


def _both(challenger: Standing, champion: Standing) -> str:
    known = challenger.bits is not None and champion.bits is not None
    return f", {challenger.bits:.3f} against {champion.bits:.3f}" if known else ""


def _no_verdict(ours: Heard | None, theirs: Heard | None) -> str:
    """Why the samples did not decide."""
    if ours and theirs:
        return f" The genre of their samples is heard alike, {ours} and {theirs}: the 95% intervals overlap."
    if ours or theirs:
        whose = "its own" if ours else "the champion's"
        return f" Of their samples only {whose} could be judged, {ours or theirs}."
    return ""


def _standing(
    checkpoint: Path, genres: Sequence[str], pieces: ValidationSet, device: str | torch.device, judge: Judge
) -> Standing:
    facts = read_facts(checkpoint)
    loaded = load_checkpoint(checkpoint, device)
    if facts.validation_hash == pieces.hash:
        return Standing(facts.bits_per_note, judge(checkpoint, genres))
    score = validate(loaded.network, loaded.vocabulary, pieces)
    return Standing(score.bits_per_note if score else None, judge(checkpoint, genres))
