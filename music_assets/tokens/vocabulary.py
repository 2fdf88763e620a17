"""The one place that owns token ids: miditok's REMI layout by arithmetic, then marks, genres and controls."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.keys import KEYS
from music_assets.foundation.midi.programs import DRUMS
from music_assets.foundation.publishing import restore

# Raise when the same score begins to give other ids, so that cached encodings are refused.
ENCODER_VERSION = 1
# Raise when memory, or what controls are measured on, says other things, so that networks of before are refused.
CONDITIONING_VERSION = 2

POSITIONS_PER_BEAT = 12
TIME_SIGNATURES = tuple((numerator, denominator) for denominator in (4, 8) for numerator in range(1, 13))
VELOCITIES = np.linspace(0, 127, 33, dtype=np.int16)[1:]
TEMPOS = np.geomspace(30, 480, 49).round(2)  # 12 steps from a tempo to its double
PROGRAMS = DRUMS + 1
# (beats, positions, positions a beat), a beat being the time signature's denominator; miditok's names.
DURATION_NAMES = (
    *((beat, position, 12) for beat in range(4) for position in range(12) if beat or position),
    *((beat, position, 4) for beat in range(4, 12) for position in range(4)),
    (12, 0, 4),
)
# Length of each Duration id in positions, that is twelfths of a beat.
DURATIONS = np.array([(b * r + p) * POSITIONS_PER_BEAT // r for b, p, r in DURATION_NAMES], dtype=np.int32)

# Arguments of miditok.TokenizerConfig that give this vocabulary, and the ids of the encoder.
REMI_CONFIG: Mapping[str, Any] = {
    "special_tokens": ["PAD"],
    "pitch_range": (0, 127),
    "drums_pitch_range": (0, 127),
    "beat_res": {(0, 4): 12, (4, 12): 4},
    "num_velocities": len(VELOCITIES),
    "use_programs": True,
    "one_token_stream_for_programs": True,
    "use_tempos": True,
    "num_tempos": len(TEMPOS),
    "tempo_range": (30, 480),
    "log_tempos": True,
    "delete_equal_successive_tempo_changes": True,
    "use_time_signatures": True,
    "time_signature_range": {
        d: [numerator for numerator, denominator in TIME_SIGNATURES if denominator == d] for d in (4, 8)
    },
    "remove_duplicated_notes": True,
}

GENRE_SLOTS = 64
CONTROL_SLOTS = 128
MARKS = ("BOS", "EOS", "MASK", "FILL")
# Number of classes of each control, in the order in which a prompt states them; they hold the first control slots end
# to end. An instrument is a General MIDI family (program // 8), drums being the last.
CONTROLS = MappingProxyType(
    {"instrument": 17, "tempo": 8, "density": 8, "bars": 12, "key": len(KEYS), "time_signature": len(TIME_SIGNATURES)}
)

CLASS_EDGES = MappingProxyType(
    {
        "tempo": np.array([70, 85, 100, 115, 125, 140, 165]),  # quarter notes a minute, mean over the piece
        "density": np.array([1.5, 2.5, 4, 6, 8, 11, 15]),  # notes a quarter note, all instruments together
        "bars": 2 ** np.arange(1, CONTROLS["bars"]),
    }
)
"""Where the second and every later class begins: round numbers near the eighths of 2,737 pieces of 20 genres.

The middle tempo class is wider in pieces (30%), for 120 is what a file says that says nothing; the lowest density class
is narrow, so that a single line can be asked for. The fingerprint covers them: checkpoints of other edges are refused.
"""

# Number of ids of each type: in miditok's order up to TimeSig, then our own.
_COUNTS = {
    "Pad": 1,  # the type also of the unused ids that round the size up
    "Bar": 1,
    "Pitch": 128,
    "Velocity": len(VELOCITIES),
    "Duration": len(DURATIONS),
    "Position": POSITIONS_PER_BEAT * max(numerator for numerator, _ in TIME_SIGNATURES),
    "PitchDrum": 128,
    "Tempo": len(TEMPOS),
    "Program": PROGRAMS,
    "TimeSig": len(TIME_SIGNATURES),
    "Special": len(MARKS),
    "Genre": GENRE_SLOTS,
    "Control": CONTROL_SLOTS,
}
TOKEN_TYPES = tuple(_COUNTS)
MEANINGS = MappingProxyType(
    {
        "Pad": "fills the rows of a batch",
        "Bar": "begins a bar",
        "Pitch": "MIDI pitch of a note",
        "Velocity": "loudness of a note",
        "Duration": "length of a note: beats, positions, positions a beat",
        "Position": "place in the bar, in twelfths of its time signature's beat",
        "PitchDrum": "sound of the drum kit",
        "Tempo": "quarter notes a minute, from here on",
        "Program": "MIDI program of a note; -1 is the drum kit",
        "TimeSig": "time signature of the bar",
        "Special": "begin, end, and the gap and the filling of an infill",
        "Genre": "genre of the piece, after BOS",
        "Control": "instruments, tempo, density, bars, key and time signature by class",
    }
)
"""Token type -> what a token of it says."""
_ENDS = [*accumulate(_COUNTS.values())]
RANGES = MappingProxyType({name: range(end - _COUNTS[name], end) for name, end in zip(TOKEN_TYPES, _ENDS, strict=True)})
SIZE = -(-_ENDS[-1] // 64) * 64
TOKEN_TYPE = np.zeros(SIZE, dtype=np.uint8)
for _index, _range in enumerate(RANGES.values()):
    TOKEN_TYPE[_range.start : _range.stop] = _index
TOKEN_TYPE.setflags(write=False)


def _fingerprint(*parts: object) -> str:
    return hexdigest(repr(parts), size=8)


_OF_DOCUMENTS = {name: ids for name, ids in RANGES.items() if name not in ("Genre", "Control")}
DOCUMENT_FINGERPRINT = _fingerprint(REMI_CONFIG, ENCODER_VERSION, MARKS, _OF_DOCUMENTS)
"""Of what gives the ids of a document their meaning: all that shards hold."""
FINGERPRINT = _fingerprint(
    DOCUMENT_FINGERPRINT,
    dict(RANGES),
    SIZE,
    dict(CONTROLS),
    {name: edges.tolist() for name, edges in CLASS_EDGES.items()},
    CONDITIONING_VERSION,
)
"""Of what gives any id its meaning, controls included: what checkpoints and samples were made with."""

# Ids of each control's classes, and of each control slot what it is.
_CONTROL_ENDS = (RANGES["Control"].start + np.cumsum(list(CONTROLS.values()))).tolist()
CONTROL_RANGES = MappingProxyType(
    {name: range(end - CONTROLS[name], end) for name, end in zip(CONTROLS, _CONTROL_ENDS, strict=True)}
)
_CONTROL_NAMES = {
    token: f"Control_{name}_{index}" for name, ids in CONTROL_RANGES.items() for index, token in enumerate(ids)
}


class VocabularyMismatch(MusicAssetsError):
    """Ids that were made with another vocabulary layout or tokenizer configuration."""


class BadVocabulary(MusicAssetsError):
    """A vocabulary that is missing, is damaged, or would have more genres than slots."""


class UnknownGenre(MusicAssetsError):
    """A genre that has no id in this vocabulary."""


class UnknownControl(MusicAssetsError):
    """A control's class that the vocabulary does not have."""


class Controls(NamedTuple):
    """What a piece is like, in classes; nothing is said where there is no instrument, or None."""

    instruments: tuple[int, ...] = ()  # General MIDI families 0..15, 16 for drums: exactly these, rising
    tempo: int | None = None
    density: int | None = None  # of notes
    bars: int | None = None
    key: int | None = None  # index into ``KEYS``
    time_signature: int | None = None  # of most bars, index into ``TIME_SIGNATURES``


def check_fingerprint(what: str, found: str, expected: str = FINGERPRINT) -> None:
    """Raise VocabularyMismatch unless ``what`` carries the fingerprint of this version's vocabulary."""
    if found != expected:
        raise VocabularyMismatch(
            f"{what} was made with vocabulary {found}, this version uses {expected}: make it again."
        )


def read_vocabulary(path: Path) -> "Vocabulary":
    """The vocabulary of a checkpoint, by its folder or its vocabulary.json.

    Raises BadVocabulary if it is missing or damaged, or VocabularyMismatch if it has another layout.
    """
    file = path if path.suffix == ".json" else restore(path) / "vocabulary.json"
    if not file.is_file():
        raise BadVocabulary(f"There is no {file}: name the folder of a checkpoint, or its vocabulary.json.")
    try:
        return Vocabulary.from_json(file.read_text())
    except VocabularyMismatch as error:
        raise VocabularyMismatch(f"{file}: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise BadVocabulary(f"{file} is not a vocabulary: name the vocabulary.json of a checkpoint.") from None


@dataclass(frozen=True)
class Vocabulary:
    """Every token id, for a list of genres that hold the first genre slots in this order.

    The layout never depends on the genres: a new genre changes no existing id, nor the fingerprint.
    Raises BadVocabulary if there are more genres than slots, or ValueError if one is named twice.
    """

    genres: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.genres) > GENRE_SLOTS:
            raise BadVocabulary(
                f"{len(self.genres)} genres do not fit the {GENRE_SLOTS} genre slots: merge some of them."
            )
        if len(set(self.genres)) < len(self.genres):
            raise ValueError(f"A genre is named twice in {', '.join(self.genres)}.")

    @property
    def size(self) -> int:
        """Number of ids, a multiple of 64; unused ones at the end have the type ``Pad``."""
        return SIZE

    @property
    def ranges(self) -> MappingProxyType[str, range]:
        """Token type -> its ids, in the order of ``TOKEN_TYPES``."""
        return RANGES

    @property
    def token_type(self) -> NDArray[np.uint8]:
        """Id -> index into ``TOKEN_TYPES``; uint8[size], read-only."""
        return TOKEN_TYPE

    @property
    def fingerprint(self) -> str:
        """Hash of the layout, the tokenizer configuration and the classes of controls, not of the genre names."""
        return FINGERPRINT

    @property
    def pad(self) -> int:
        """Fills rows of a batch."""
        return RANGES["Pad"].start

    @property
    def bos(self) -> int:
        """Begins every sequence."""
        return self._mark("BOS")

    @property
    def eos(self) -> int:
        """Ends every sequence."""
        return self._mark("EOS")

    @property
    def mask(self) -> int:
        """Stands where music was taken out, for infilling."""
        return self._mark("MASK")

    @property
    def fill(self) -> int:
        """Begins the music that belongs where ``mask`` stands."""
        return self._mark("FILL")

    def genre_id(self, genre: str) -> int:
        """Id of a genre. Raises UnknownGenre."""
        if genre not in self.genres:
            raise UnknownGenre(
                f"Genre {genre!r} is not in the vocabulary; it has {', '.join(self.genres) or 'no genre'}."
            )
        return RANGES["Genre"][self.genres.index(genre)]

    def control_ids(self, controls: Controls) -> list[int]:
        """Ids of what the controls say, in the order of ``CONTROLS``. Raises UnknownControl."""
        said = [("instrument", family) for family in sorted(set(controls.instruments))]
        _, *single = CONTROLS
        said += [(name, value) for name, value in zip(single, controls[1:], strict=True) if value is not None]
        for name, value in said:
            if not 0 <= value < CONTROLS[name]:
                raise UnknownControl(f"There is no {name} class {value}: choose 0 to {CONTROLS[name] - 1}.")
        return [CONTROL_RANGES[name][value] for name, value in said]

    def prompt(self, genre: str | None = None, controls: Controls | None = None) -> list[int]:
        """What precedes a document: BOS, the genre's id if one is given, and the controls' ids.

        Raises UnknownGenre or UnknownControl.
        """
        named = [] if genre is None else [self.genre_id(genre)]
        return [self.bos, *named, *(self.control_ids(controls) if controls else [])]

    def name(self, token: int) -> str:
        """Readable name of an id, miditok's where it has one: ``Pitch_60``, ``Genre_jazz``, ``Control_tempo_3``."""
        kind = TOKEN_TYPES[int(TOKEN_TYPE[token])]
        index = token - RANGES[kind].start
        match kind:
            case "Pad":
                return "PAD_None" if index == 0 else f"Unused_{token}"
            case "Bar":
                return "Bar_None"
            case "Special":
                return f"{MARKS[index]}_None"
            case "Velocity":
                return f"Velocity_{VELOCITIES[index]}"
            case "Duration":
                return f"Duration_{'.'.join(map(str, DURATION_NAMES[index]))}"
            case "Tempo":
                return f"Tempo_{TEMPOS[index]}"
            case "Program":
                return f"Program_{-1 if index == DRUMS else index}"
            case "TimeSig":
                return "TimeSig_{}/{}".format(*TIME_SIGNATURES[index])
            case "Control" if token in _CONTROL_NAMES:
                return _CONTROL_NAMES[token]
            case "Genre" if index < len(self.genres):
                return f"Genre_{self.genres[index]}"
            case _:
                return f"{kind}_{index}"

    def with_genres(self, genres: list[str] | tuple[str, ...]) -> "Vocabulary":
        """This vocabulary with the genres it lacks appended in the given order; existing ids stay."""
        return Vocabulary((*self.genres, *(genre for genre in genres if genre not in self.genres)))

    def to_json(self) -> str:
        """Genres and fingerprint; the layout itself is code."""
        return json.dumps({"fingerprint": self.fingerprint, "size": self.size, "genres": self.genres}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """The inverse of :meth:`to_json`. Raises VocabularyMismatch if the layout has changed since."""
        stored = json.loads(text)
        check_fingerprint("The stored vocabulary", stored["fingerprint"])
        return cls(tuple(stored["genres"]))

    def _mark(self, name: str) -> int:
        return RANGES["Special"][MARKS.index(name)]
