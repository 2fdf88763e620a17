"""Whether a new checkpoint takes the champion's place."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel

from music_assets.checkpoints.runs import CheckpointError, champion, read_facts, set_champion
from music_assets.checkpoints.storage import load_checkpoint
from music_assets.tokens.vocabulary import VocabularyMismatch
from music_assets.training.validation import ValidationSet, validate


class Heard(BaseModel, frozen=True):
    """How well the genre of a checkpoint's samples is heard: the share of the way from chance, 0, to real music, 1, and
    the bounds of its interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.0%} [{self.low:.0%}, {self.high:.0%}]"


Judge = Callable[[Path], Heard | None]
"""Of a checkpoint's folder; None where its samples cannot be judged."""


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


def challenge(
    folder: Path,
    challenger: Path,
    pieces: ValidationSet,
    device: str | torch.device = "cpu",
    judge: Judge = lambda checkpoint: None,
) -> Decision:
    """Make a checkpoint the champion of its architecture's ``folder`` if it wins by :func:`compare`.

    Both are measured on the same validation pieces: the champion is scored again if it was scored on others.
    A champion that cannot be used any more, or any where there is no piece to compare on, gives way.
    """
    new = _standing(challenger, pieces, device, judge)
    try:
        incumbent = champion(folder)
        if incumbent == challenger:
            return Decision(True, "It is the champion already.", new, new)
        old = _standing(incumbent, pieces, device, judge) if incumbent else None
    except (CheckpointError, VocabularyMismatch) as error:
        set_champion(folder, challenger)
        return Decision(True, f"The champion cannot be used any more: {error}", new, None)
    won, reason = compare(new, old) if old else (True, "It is the first champion.")
    if won:
        set_champion(folder, challenger)
    return Decision(won, reason, new, old)


def compare(challenger: Standing, champion: Standing) -> tuple[bool, str]:
    """Whether the challenger wins, and why.

    Where the intervals of what is heard do not overlap, the one whose samples are heard better wins: a network may
    know real music well and make poor music. Otherwise fewer bits per note win.
    """
    ours, theirs = challenger.heard, champion.heard
    if ours and theirs and (ours.low > theirs.high or theirs.low > ours.high):
        won = ours.low > theirs.high
        verdict = "better" if won else "less well"
        return won, (
            f"The genre of its samples is heard {verdict}, {ours} of the way from chance to real music against the "
            f"champion's {theirs}; that goes before bits per note{_both(challenger, champion)}."
        )
    if challenger.bits is None or champion.bits is None:
        return True, "It is newer, and there is no held-out piece to compare on."
    won = challenger.bits < champion.bits
    verdict = "fewer than" if won else "not fewer than"
    heard = f" The genre of their samples is heard alike, {ours} and {theirs}." if ours and theirs else ""
    return won, (
        f"It needs {challenger.bits:.3f} bits per note on held-out pieces, {verdict} the champion's "
        f"{champion.bits:.3f}.{heard}"
    )


def _both(challenger: Standing, champion: Standing) -> str:
    known = challenger.bits is not None and champion.bits is not None
    return f", {challenger.bits:.3f} against {champion.bits:.3f}" if known else ""


def _standing(checkpoint: Path, pieces: ValidationSet, device: str | torch.device, judge: Judge) -> Standing:
    facts = read_facts(checkpoint)
    loaded = load_checkpoint(checkpoint, device)
    if facts.validation_hash == pieces.hash:
        return Standing(facts.bits_per_note, judge(checkpoint))
    score = validate(loaded.network, loaded.vocabulary, pieces)
    return Standing(score.bits_per_note if score else None, judge(checkpoint))
