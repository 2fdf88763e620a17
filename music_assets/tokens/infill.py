"""Infilling as a sequence: some bars are cut out of a document and follow it.

All tracks of some bars: each bar is replaced by a mark.

    before  MASK MASK  after  FILL  Bar TimeSig ... Bar TimeSig ...

One program in some bars: each bar is preceded by a mark and the program, the program's notes are taken out of it, and
positions that only they used.

    before  MASK Program Bar TimeSig ...  MASK Program Bar TimeSig ...  after  FILL  Bar TimeSig ... Bar TimeSig ...

What follows FILL is written as in any document, bar by bar, and states no tempo where one program is asked for. So the
marks say how many bars to write, and the two parts together give the document again.
"""

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.errors import MusicAssetsError
from music_assets.tokens.vocabulary import RANGES, Vocabulary

_MASK, _FILL = Vocabulary().mask, Vocabulary().fill
_BAR = RANGES["Bar"].start
_PROGRAM, _POSITION, _TIME_SIGNATURE, _TEMPO = (RANGES[name] for name in ("Program", "Position", "TimeSig", "Tempo"))
_NOTE = np.arange(4)  # Program, pitch, Velocity, Duration


class BadInfill(MusicAssetsError):
    """Ids that do not have the form of an infill."""


def cut(document: NDArray[np.integer], first: int, bars: int, program: int | None = None) -> NDArray[np.uint16]:
    """The infill, uint16[m], that asks for ``bars`` bars from bar ``first`` on, or for the notes of a program in them.

    ``document``: canonical ids from one bar line to another or to the end, uint16[n]. Up to FILL the result is what a
    model is given.

    Raises:
        BadInfill: the document has no such bars.
    """
    ends = np.append(np.flatnonzero(document == _BAR), len(document))
    if first < 0 or bars < 1 or first + bars >= len(ends):
        raise BadInfill(f"The document has bars 0 to {len(ends) - 2}, not {first} to {first + bars - 1}.")
    start, end = ends[first], ends[first + bars]
    gap, fill = np.full(bars, _MASK), document[start:end]
    if program is not None:
        gap, fill = _taken_out(fill, _PROGRAM[program])
    return np.concatenate([document[:start], gap, document[end:], [_FILL], fill]).astype(np.uint16)


def join(ids: NDArray[np.integer]) -> NDArray[np.uint16]:
    """The document of an infill, without prompt and EOS; the inverse of :func:`cut`, uint16[m] to uint16[n].

    Raises:
        BadInfill: there is no mark, or not as many bars after FILL as marks.
    """
    ids = np.asarray(ids)
    places, marks = np.flatnonzero(ids == _FILL), np.flatnonzero(ids == _MASK)
    if len(places) != 1 or not len(marks) or marks[-1] > places[0]:
        raise BadInfill("An infill has a MASK for every bar that is missing and then one FILL.")
    rest, fill = ids[: places[0]], ids[places[0] + 1 :]
    if np.count_nonzero(fill == _BAR) != len(marks) or fill[0] != _BAR:
        found = np.count_nonzero(fill == _BAR)
        raise BadInfill(f"{len(marks)} bars are missing, but what follows FILL has {found}, or begins before a bar.")
    start, end = marks[0], marks[-1] + 1
    if end < len(rest) and int(rest[start + 1]) in _PROGRAM:
        unmarked = np.ones(len(rest), dtype=bool)
        unmarked[marks] = unmarked[marks + 1] = False
        lines = np.flatnonzero(rest[end:] == _BAR)  # after the last mark: its bar, then perhaps another
        end = end + lines[1] if len(lines) > 1 else len(rest)
        fill = _put_back(rest[start:end][unmarked[start:end]], fill)
    return np.concatenate([rest[:start], fill, rest[end:]]).astype(np.uint16)


def draw(part: NDArray[np.integer], room: int, random: np.random.Generator) -> NDArray[np.uint16] | None:
    """A random infill of at most ``room`` ids from the beginning of ``part``; None if not even two bars fit.

    As many whole bars as fit; up to half of them or so are asked for, anywhere among them; as often all tracks as one
    program of several.
    """
    lines = np.flatnonzero(part[: max(room, 0)] == _BAR)
    ends = np.append(lines[1:], len(part)) if len(part) <= room else lines[1:]
    if len(ends) < 2:
        return None
    bars = int(random.integers(1, len(ends) // 2 + 1))
    ends = ends[ends + bars + 1 <= room]
    if len(ends) <= bars:
        return None
    first = int(random.integers(0, len(ends) - bars + 1))
    program = None
    if random.random() < 0.5:
        span = part[lines[first] : ends[first + bars - 1]]
        programs = np.unique(span[(span >= _PROGRAM.start) & (span < _PROGRAM.stop)])
        if len(programs) > 1:
            program = int(programs[random.integers(len(programs))]) - _PROGRAM.start
    infill = cut(part[: ends[-1]], first, bars, program)
    if len(infill) > room:  # a program needs more marks, and its positions twice
        kept = ends[ends <= ends[-1] - (len(infill) - room)]
        fits = len(kept) >= max(first + bars, bars + 1)
        infill = cut(part[: kept[-1]], first, bars, program) if fits else cut(part[: ends[-1]], first, bars)
    return infill


def _taken_out(span: NDArray[np.integer], program: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Bars without the notes of a program (an id), each after its mark; and the bars of these notes alone."""
    bar, position = span == _BAR, _within(span, _POSITION)
    own = np.zeros(len(span), dtype=bool)
    own[np.flatnonzero(span == program)[:, None] + _NOTE] = True
    frame = bar | _within(span, _TIME_SIGNATURE)
    moment = np.cumsum(position)  # 0 before the first position
    of_own, of_others = np.zeros((2, moment[-1] + 1), dtype=bool)
    of_own[moment[own]] = True
    of_others[moment[~(own | position | frame)]] = True
    rest = span[frame | (~own & ~position) | (position & of_others[moment])]
    fill = span[frame | own | (position & of_own[moment])]
    places = np.flatnonzero(rest == _BAR)
    return np.insert(rest, np.repeat(places, 2), np.tile([_MASK, program], len(places))), fill


def _put_back(rest: NDArray[np.integer], fill: NDArray[np.integer]) -> NDArray[np.integer]:
    """Bars with the notes of another version of them added, in the order of a canonical document."""
    rest_order, fill_order = _order(rest), _order(fill)
    both = np.isin(fill_order, rest_order[_within(rest, _POSITION)])
    new = ~(fill == _BAR) & ~_within(fill, _TIME_SIGNATURE) & ~(_within(fill, _POSITION) & both)
    ids = np.concatenate([rest, fill[new]])
    return ids[np.argsort(np.concatenate([rest_order, fill_order[new]]), kind="stable")]


def _order(ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """An integer for every id that rises by bar, position and program: 0 for what is before the first of them."""
    place = np.arange(len(ids))
    bar, position, program = ids == _BAR, _within(ids, _POSITION), _within(ids, _PROGRAM)
    clock = np.maximum.accumulate(np.where(bar | position, place, 0))
    voice = np.maximum.accumulate(np.where(bar | position | program | _within(ids, _TEMPO), place, 0))
    moment = np.where(position[clock], ids[clock].astype(np.int64) - _POSITION.start + 1, 0)
    player = np.where(program[voice], ids[voice].astype(np.int64) - _PROGRAM.start + 1, 0)
    return (np.cumsum(bar) << 20) + (moment << 8) + player


def _within(ids: NDArray[np.integer], values: range) -> NDArray[np.bool_]:
    return (ids >= values.start) & (ids < values.stop)
