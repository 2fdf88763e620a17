"""Whether a new checkpoint takes the champion's place."""

from dataclasses import dataclass
from pathlib import Path

import torch

from music_assets.checkpoints.runs import CheckpointError, champion, read_facts, set_champion
from music_assets.checkpoints.storage import load_checkpoint
from music_assets.tokens.vocabulary import VocabularyMismatch
from music_assets.training.validation import ValidationSet, validate


@dataclass(frozen=True)
class Decision:
    """Bits per note of both on the same validation pieces, and who is the champion now."""

    won: bool
    reason: str
    challenger: float | None
    champion: float | None


def challenge(folder: Path, challenger: Path, pieces: ValidationSet, device: str | torch.device = "cpu") -> Decision:
    """Make a checkpoint the champion of its architecture's ``folder`` if it needs fewer bits per note.

    Both are measured on the same validation pieces: the champion is scored again if it was scored on others.
    A champion that cannot be used any more, or any where there is no piece to compare on, gives way.
    """
    bits = _bits(challenger, pieces, device)
    try:
        incumbent = champion(folder)
        if incumbent == challenger:
            return Decision(True, "It is the champion already.", bits, bits)
        best = _bits(incumbent, pieces, device) if incumbent else None
    except (CheckpointError, VocabularyMismatch) as error:
        set_champion(folder, challenger)
        return Decision(True, f"The champion cannot be used any more: {error}", bits, None)
    if incumbent is None:
        won, reason = True, "It is the first champion."
    elif bits is None or best is None:
        won, reason = True, "It is newer, and there is no held-out piece to compare on."
    else:
        won = bits < best
        verdict = "fewer than" if won else "not fewer than"
        reason = (
            f"It needs {bits:.3f} bits per note on {pieces.pieces} held-out pieces, "
            f"{verdict} the champion's {best:.3f}."
        )
    if won:
        set_champion(folder, challenger)
    return Decision(won, reason, bits, best)


def _bits(checkpoint: Path, pieces: ValidationSet, device: str | torch.device) -> float | None:
    facts = read_facts(checkpoint)
    loaded = load_checkpoint(checkpoint, device)
    if facts.validation_hash == pieces.hash:
        return facts.bits_per_note
    score = validate(loaded.network, loaded.vocabulary, pieces)
    return score.bits_per_note if score else None
