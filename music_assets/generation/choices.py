"""What a checkpoint can be asked for."""

from dataclasses import dataclass

from music_assets.checkpoints.runs import CheckpointFacts
from music_assets.foundation.keys import SCALES
from music_assets.foundation.midi.programs import DRUMS, FAMILIES, INSTRUMENTS
from music_assets.models.registry import find_architecture
from music_assets.tokens.vocabulary import PROGRAMS, TEMPOS, TIME_SIGNATURES


@dataclass(frozen=True)
class Choices:
    """Values that a request to a checkpoint may have."""

    genres: tuple[str, ...]
    instruments: tuple[str, ...]
    """General MIDI's names of what it has heard, drums last; none where it writes for one piano."""
    families: tuple[str, ...]
    """Of which it has heard some instrument."""
    scales: tuple[str, ...]
    time_signatures: tuple[str, ...]
    tempos: tuple[float, float]
    """Slowest and fastest, quarter notes a minute."""


def choices(facts: CheckpointFacts) -> Choices:
    """What the network of a checkpoint can be asked for."""
    if find_architecture(facts.architecture).reads == "rolls":
        heard, drums, signatures = [], False, ()
    else:
        programs = facts.programs or list(range(PROGRAMS))
        heard, drums = [program for program in programs if program != DRUMS], DRUMS in programs
        signatures = TIME_SIGNATURES
    return Choices(
        genres=tuple(facts.genres),
        instruments=(*(INSTRUMENTS[program] for program in heard), *(["Drums"] if drums else [])),
        families=tuple(FAMILIES[family] for family in sorted({program // 8 for program in heard})),
        scales=tuple(SCALES),
        time_signatures=tuple(f"{numerator}/{denominator}" for numerator, denominator in signatures),
        tempos=(float(TEMPOS[0]), float(TEMPOS[-1])),
    )
