"""What the page shows of music, and what its fields ask for: pure functions."""

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from symusic.core import ScoreSecond, ScoreTick, TextMetaTick, TextMetaTickList

from music_assets.app.roll import NEW, REPLACED, RollValue
from music_assets.app.sources import Source
from music_assets.app.takes import Batch, Take
from music_assets.foundation.midi.programs import DRUMS
from music_assets.generation.request import OPTION_NAMES, Request, make_request
from music_assets.generation.task import BadRequest
from music_assets.tokens.grid import bar_lines

MOST_BARS, MOST_NOTES, MOST_CANDIDATES = 64, 1024, 4
"""That can be asked for at a time: others wait."""
STEPS_BACK = 20
"""Versions of a file that are kept to go back to."""

_OWN = 0  # layer of a roll
_Note = tuple[int, int, int, int, int]
"""Start and duration in ticks, pitch, velocity, program."""


class _Timed(NamedTuple):
    notes: Counter[_Note]
    seconds: dict[_Note, tuple[float, float]]
    bars: list[float]


def roll_value(
    score: ScoreTick,
    bars: int,
    title: str,
    *,
    before: ScoreTick | None = None,
    show_replaced: bool = False,
    done: bool = True,
    expected_bars: int | None = None,
    ogg: bytes | None = None,
    plays_from: float | None = None,
) -> RollValue:
    """A score of so many bars as the roll draws it.

    Args:
        before: the file that the score has come from: notes that it does not have are new.
        show_replaced: whether those of its notes are shown that the score has no more.
        plays_from: where it plays by itself from.
    """
    now = _timed(score, bars)
    layers = {_OWN: (now.notes, now)}
    if before is not None:
        then = _timed(before, bars)
        layers = {_OWN: (now.notes & then.notes, now), NEW: (now.notes - then.notes, now)}
        if show_replaced:
            layers[REPLACED] = (then.notes - now.notes, then)
    notes = [
        (*(round(time, 4) for time in timed.seconds[note]), *note[2:], layer)
        for layer, (chosen, timed) in layers.items()
        for note in sorted(chosen.elements())
    ]
    end = max((start + duration for start, duration, *_ in notes), default=0.0)
    return RollValue(
        title=title,
        notes=notes,
        bars=now.bars,
        audio=None if ogg is None else f"data:audio/ogg;base64,{base64.b64encode(ogg).decode()}",
        seconds=max(end, now.bars[-1]),
        done=done,
        expected_bars=expected_bars,
        plays_from=plays_from,
    )


def bar_seconds(score: ScoreTick, bars: int) -> list[float]:
    """Where the first bars of a score begin, and where the last of them ends."""
    return _timed(score, bars).bars


def _timed(score: ScoreTick, bars: int) -> _Timed:
    marked = score.copy()
    marked.markers = TextMetaTickList([TextMetaTick(line, "") for line in bar_lines(score, max(bars, 0)).tolist()])
    timed = cast("ScoreSecond", marked.to("second"))
    notes, seconds = Counter[_Note](), dict[_Note, tuple[float, float]]()
    for track, in_seconds in zip(score.tracks, timed.tracks, strict=True):
        program = DRUMS if track.is_drum else track.program
        columns, times = track.notes.numpy(), in_seconds.notes.numpy()
        keys = zip(*(columns[name].tolist() for name in ("time", "duration", "pitch", "velocity")), strict=True)
        for key, start, length in zip(keys, times["time"].tolist(), times["duration"].tolist(), strict=True):
            notes[*key, program] += 1
            seconds[*key, program] = (start, length)
    return _Timed(notes, seconds, [round(float(marker.time), 4) for marker in timed.markers])


def source_roll(source: Source, ogg: bytes | None = None) -> RollValue:
    """The roll of a person's file."""
    return roll_value(source.score, source.bars, source.name, ogg=ogg)


def take_roll(batch: Batch, take: Take, ogg: bytes | None = None, plays: bool = False) -> RollValue:
    """The roll of a take, perhaps with its sound, which may begin by itself a little before what is new."""
    asked = batch.asked_bars
    return roll_value(
        take.candidate.score,
        batch.bars(take),
        f"Candidate {take.candidate.index + 1}",
        before=None if batch.source is None else batch.source.score,
        show_replaced=batch.filling,
        done=batch.done,
        expected_bars=batch.first_bar - 1 + asked if asked and not batch.filling else None,
        ogg=ogg,
        plays_from=_news(batch, take) if plays else None,
    )


def _news(batch: Batch, take: Take) -> float:
    return 0.0 if batch.source is None else part(batch, take.candidate.score, take.written)[0]


def part(batch: Batch, score: ScoreTick, written: int, around: int = 2) -> tuple[float, float]:
    """The seconds from some bars before what is written to as many behind it; behind a join, to the end of four."""
    last = batch.first_bar - 1 + (written if batch.filling else min(written, 2 * around))
    lines = bar_seconds(score, last + (around if batch.filling else 0))
    return lines[max(batch.first_bar - 1 - around, 0)], lines[-1]


def page_request(fields: Mapping[str, Any]) -> Request:
    """The request of a page's fields: what is empty is left out, ``tonic`` and ``scale`` are a key.

    Raises:
        InvalidSettings: a wish that cannot be, or wishes that exclude each other.
        BadRequest: more is asked for than there is room for.
    """
    asked = {name: wish for name, wish in fields.items() if wish not in (None, "", [])}
    tonic, scale = asked.pop("tonic", None), asked.pop("scale", None)
    if tonic is not None:
        asked["key"] = f"{tonic} {scale or 'major'}"
    elif scale is not None:
        raise BadRequest("A scale needs a key note: choose one, or leave out the scale.")
    return within_limits(make_request(**asked))


def within_limits(request: Request) -> Request:
    """The request, if one person may ask for so much. Raises BadRequest."""
    limits = {"bars": MOST_BARS, "max_bars": MOST_BARS, "length": MOST_NOTES, "count": MOST_CANDIDATES}
    for name, most in limits.items():
        if (getattr(request, name) or 0) > most:
            raise BadRequest(f"The studio writes at most {most} {_SPOKEN[name]} at a time: ask for fewer.")
    if request.to_bar is not None and request.from_bar is not None and request.to_bar - request.from_bar >= MOST_BARS:
        raise BadRequest(f"The studio fills at most {MOST_BARS} bars at a time: choose fewer.")
    return request


_SPOKEN = {"bars": "bars", "max_bars": "bars", "length": "notes", "count": "candidates"}
_FILES = ("continue_file", "fill_file", *OPTION_NAMES.values())


def program_request(wishes: Any, **fixed: Any) -> Request:
    """The request of a program's wishes and of what its endpoint adds to them.

    Raises:
        InvalidSettings, BadRequest: as :func:`page_request`; also if the wishes name a file, for it would be one of
            this computer.
    """
    if not isinstance(wishes, Mapping):
        raise BadRequest('Wishes are an object of names and values, such as {"bars": 8}.')
    if named := sorted(name for name in wishes if name in _FILES):
        raise BadRequest(f"Wishes name no file: leave out {', '.join(named)} and send the file itself.")
    return within_limits(make_request(**{**wishes, **fixed}))


@dataclass(frozen=True)
class History:
    """Versions of a file, the one on screen, and those that were undone."""

    versions: tuple[Source, ...] = ()
    at: int = -1

    @property
    def current(self) -> Source | None:
        """The version on screen."""
        return self.versions[self.at] if self.versions else None

    def accepted(self, version: Source) -> "History":
        """With a new version in the place of those that were undone."""
        versions = (*self.versions[: self.at + 1], version)[-STEPS_BACK:]
        return History(versions, len(versions) - 1)

    def moved(self, steps: int) -> "History":
        """As many versions forth, or back; no further than to the last or the first."""
        return History(self.versions, min(max(self.at + steps, 0), len(self.versions) - 1))

    @property
    def can_undo(self) -> bool:
        return self.at > 0

    @property
    def can_redo(self) -> bool:
        return self.at + 1 < len(self.versions)
