"""What can be asked of a network: one class for Python, the launchpad and the command line."""

import shlex
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from music_assets.foundation.keys import Key, parse_key
from music_assets.foundation.midi.programs import DRUMS, find_programs
from music_assets.foundation.settings import Settings, invalid_settings
from music_assets.tokens.vocabulary import TEMPOS, TIME_SIGNATURES

_SIGNATURES = ", ".join(f"{numerator}/{denominator}" for numerator, denominator in TIME_SIGNATURES)


class Wishes(Settings):
    """What is asked of music, whatever its genre. What is left out is up to the network."""

    instruments: list[str] = Field(
        default=[],
        description="Exactly these play: names of General MIDI, families, program numbers, or drums",
    )
    tempo: float | None = Field(
        default=None, ge=float(TEMPOS[0]), le=float(TEMPOS[-1]), description="Quarter notes a minute, throughout"
    )
    time_signature: str | None = Field(default=None, description="Of all bars, such as 3/4")
    bars: int | None = Field(default=None, ge=1, le=512, description="Exactly so many")
    max_bars: int = Field(
        default=16, ge=1, le=512, description="Most bars, where neither bars nor length are asked for"
    )
    length: int | None = Field(default=None, ge=1, le=4096, description="Exactly so many notes, instead of bars")
    density: float | None = Field(
        default=None, gt=0, le=64, description="Notes a quarter note, all instruments together, about so many"
    )
    key: str | None = Field(
        default=None, description="All notes but drums are of its scale: C minor, Eb, F# dorian, A minor pentatonic"
    )
    notes: list[int] = Field(default=[], description="MIDI pitches of quarter notes to begin with")
    count: int = Field(default=24, ge=1, le=4096, description="Number of candidates")
    temperature: float = Field(default=1.0, gt=0, le=5, description="Below 1 safer, above 1 wilder")
    top_k: int = Field(default=0, ge=0, description="Keep only the k likeliest tokens; 0 keeps all")
    top_p: float = Field(
        default=0.98, gt=0, le=1, description="Keep the likeliest tokens up to this total probability; 1 keeps all"
    )
    min_p: float = Field(
        default=0.015,
        ge=0,
        lt=1,
        description="Keep tokens at least so many times as likely as the likeliest; 0 keeps all",
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, le=100, description="How many times less likely the pitches of the last 32 notes become"
    )
    forgetting: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="How often memory tells nothing of the pitch that comes next: the more, the less music repeats",
    )
    guidance: float = Field(
        default=1.5,
        ge=0,
        le=20,
        description="How strongly genre and wishes steer: 1 as learned, more exaggerates them, 0 forgets them",
    )
    guidance_at_end: float | None = Field(
        default=None, ge=0, le=20, description="Guidance in the last bar, reached evenly; else it stays as it is"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the random numbers")

    @field_validator("instruments")
    @classmethod
    def _instruments(cls, names: list[str]) -> list[str]:
        for name in names:
            find_programs(name)
        return names

    @field_validator("key")
    @classmethod
    def _key(cls, name: str | None) -> str | None:
        if name is not None:
            parse_key(name)
        return name

    @field_validator("time_signature")
    @classmethod
    def _time_signature(cls, name: str | None) -> str | None:
        if name is not None and name.replace(" ", "") not in _SIGNATURES.split(", "):
            raise ValueError(f"there is no such time signature: choose one of {_SIGNATURES}")
        return name

    @field_validator("notes")
    @classmethod
    def _notes(cls, pitches: list[int]) -> list[int]:
        if any(not 0 <= pitch < 128 for pitch in pitches):
            raise ValueError("MIDI pitches are 0 to 127")
        return pitches

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Refuse wishes that exclude each other, and those that mean nothing beside the others."""
        if self.guidance_at_end is not None and not self.has_known_end:
            raise ValueError(
                "guidance_at_end needs to know where the end is: ask for a number of bars, or leave it out."
            )
        if self.length is not None and self.bars is not None:
            raise ValueError("Bars and length exclude each other: ask for a number of bars or of notes.")
        programs = frozenset[int]().union(*self.instrument_sets)
        if self.pitch_classes is not None and programs == frozenset({DRUMS}):
            raise ValueError("Drums have no key: leave out key, or add an instrument.")
        if self.notes and programs == frozenset({DRUMS}):
            raise ValueError("Notes to begin with need an instrument that is not drums: add one, or leave out notes.")
        if self.length is not None and self.length < max(len(self.instrument_sets), len(self.notes) + 1):
            raise ValueError(
                f"{self.length} notes are too few for what is asked for: let length be at least "
                f"{max(len(self.instrument_sets), len(self.notes) + 1)}."
            )
        if self.pitch_classes is not None and (
            outside := [pitch for pitch in self.notes if pitch % 12 not in self.pitch_classes]
        ):
            raise ValueError(f"The pitch {outside[0]} to begin with is not in {self.key}: change notes or key.")
        return self

    @property
    def has_known_end(self) -> bool:
        """Whether the number of bars is known before they are written."""
        return self.bars is not None

    @property
    def instrument_sets(self) -> tuple[frozenset[int], ...]:
        """The programs that each of the instruments stands for."""
        return tuple(find_programs(name) for name in self.instruments)

    @property
    def pitch_classes(self) -> frozenset[int] | None:
        """Those that may sound; None for all."""
        return None if self.key is None else self.parsed_key.pitch_classes

    @property
    def parsed_key(self) -> Key:
        """The key that is asked for."""
        assert self.key is not None
        return parse_key(self.key)

    @property
    def time_signature_index(self) -> int | None:
        """The index in ``TIME_SIGNATURES`` of the time signature that is asked for."""
        if self.time_signature is None:
            return None
        numerator, denominator = self.time_signature.split("/")
        return TIME_SIGNATURES.index((int(numerator), int(denominator)))


class Request(Wishes):
    """All that decides a batch of candidates, together with the checkpoint."""

    genre: str | None = Field(default=None, description="A genre of the checkpoint; none: any music")
    count: int = Field(default=4, ge=1, le=4096, description="Number of candidates")
    continue_file: str | None = Field(default=None, description="MIDI file to go on from")
    fill_file: str | None = Field(default=None, description="MIDI file in which bars are written anew")
    from_bar: int | None = Field(
        default=None, ge=1, description="First bar to write, counted from 1; a file is continued behind its last bar"
    )
    to_bar: int | None = Field(default=None, ge=1, description="Last bar to fill")
    instrument: str | None = Field(default=None, description="The one instrument to fill; else all are written anew")

    @field_validator("instrument")
    @classmethod
    def _instrument(cls, name: str | None) -> str | None:
        if name is not None:
            find_programs(name)
        return name

    @model_validator(mode="after")
    def _files_agree(self) -> Self:
        """Refuse what a file cannot have, and what means nothing without one."""
        filling, continuing = self.fill_file is not None, self.continue_file is not None
        if filling and continuing:
            raise ValueError("Either a file is continued or it is filled: leave out continue_file or fill_file.")
        if self.notes and (filling or continuing):
            raise ValueError("Notes to begin with and a file exclude each other: leave one of them out.")
        if not filling:
            for name in ("to_bar", "instrument") if continuing else ("from_bar", "to_bar", "instrument"):
                if getattr(self, name) is not None:
                    files = "fill_file" if continuing else "fill_file or continue_file"
                    raise ValueError(f"{name} is of no use without a file: give {files}, or leave it out.")
            return self
        for name in ("tempo", "time_signature", "bars", "length"):
            if getattr(self, name) is not None:
                raise ValueError(f"What is filled keeps the file's {name.replace('_', ' ')}: leave out {name}.")
        if self.from_bar is None:
            raise ValueError("Say which bars to fill: from_bar, and to_bar if they are several.")
        if self.to_bar is not None and self.to_bar < self.from_bar:
            raise ValueError(f"Bars {self.from_bar} to {self.to_bar} are none: to_bar comes before from_bar.")
        if self.instrument is not None and self.instruments:
            raise ValueError("Fill one instrument, or all with instruments of your choice: leave one of them out.")
        return self

    @property
    def files(self) -> dict[str, str | None]:
        """The fields that name a file."""
        return {"continue_file": self.continue_file, "fill_file": self.fill_file}

    @property
    def has_known_end(self) -> bool:
        """See :attr:`Wishes.has_known_end`."""
        return self.fill_file is not None or super().has_known_end

    @property
    def command(self) -> str:
        """The command line that makes the same again, but for the network that is asked."""
        options = ["music-assets generate"]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value == field.default:
                continue
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)  # pyright: ignore[reportUnknownArgumentType]
            options += [f"--{OPTION_NAMES.get(name, name.replace('_', '-'))}", shlex.quote(text)]
        return " ".join(options)


OPTION_NAMES = {"continue_file": "continue", "fill_file": "fill"}
"""Options of the command line that are called otherwise than their field."""


def make_request(**wishes: Any) -> Request:
    """A request of some wishes, ``make_request(genre="jazz", bars=16)``.

    Raises:
        InvalidSettings: a wish that cannot be, or wishes that exclude each other; the sentence says which.
    """
    try:
        return Request.model_validate({name: str(w) if isinstance(w, Path) else w for name, w in wishes.items()})
    except ValidationError as error:
        raise invalid_settings(error) from None
