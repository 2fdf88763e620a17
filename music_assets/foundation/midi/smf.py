"""A Standard MIDI File as a table of events: walked byte by byte, cleaned, and written again for the parser.

The parser is native code that believes what it reads. So it is given well-formed files only: every chunk and event is
bounded here first, and what can be put right is put right and told. What the bytes mean follows the MIDI Manufacturers
Association's Standard MIDI Files 1.0 (RP-001), read leniently where programs in use write otherwise.
"""

import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.events import (
    AFTER_END,
    BAD_KEY_SIGNATURE,
    BAD_TEMPO,
    BAD_TIME_SIGNATURE,
    END_OF_TRACK,
    ENDED,
    EVENT,
    LARGEST_TICK,
    LONG_NUMBER,
    META,
    OVER_127,
    SYSTEM_MESSAGE,
    audible_rows,
    find_missing_changes,
    player_rows,
    walk_tracks,
    write_file,
)

_TRACK = b"MTrk"
LARGEST_LOSS = 0.5
"""Share of a file's bytes that may be missing or unreadable; of one with more, too little is left to be the piece."""

_LAST_EVENT = bytes([META, END_OF_TRACK, 0])
_WRONG_LENGTH = "Lengths of chunks were wrong and were mended."
_TOLD = {
    AFTER_END: "Events behind the end of a track were left out.",
    LONG_NUMBER: "Numbers of more than four bytes were read.",
    OVER_127: "Data bytes over 127 were clamped.",
    SYSTEM_MESSAGE: "System messages that are no system-exclusive ones were skipped.",
    BAD_TEMPO: "Tempos of zero or without a value were left out.",
    BAD_TIME_SIGNATURE: "Time signatures that cannot be were left out.",
    BAD_KEY_SIGNATURE: "Key signatures that cannot be were left out.",
}


@dataclass(frozen=True)
class Smf:
    """The tracks of a file, and what was wrong with it, a sentence each."""

    ticks_per_quarter: int
    events: NDArray[np.void]  # EVENT[n], track after track
    starts: NDArray[np.int64]  # of each track in ``events``, and the end
    data: NDArray[np.uint8]  # the file
    ends: NDArray[np.int64]  # of each track, the tick at which its last note ends; -1 where none does
    remarks: tuple[str, ...]


def clean(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A well-formed file of format 1 with the same music, and what had to be put right, a sentence each.

    Without what cannot be heard: meta events at or behind the end of the last note, tempos and signatures that another
    one at the same tick replaces, and system events. Each note sounds with the program that its channel has then,
    whichever track has set it: the tracks of a file play together. Raises BadMidi.
    """
    smf = read(data)
    changes, foreign = _missing_changes(smf, by_channel=True)
    told = ("Programs that another track sets were applied.",) if foreign else ()
    return _written(smf, changes), smf.remarks + told


def with_own_programs(data: bytes) -> bytes:
    """The file for a synthesiser: each note sounds with the program that its own track has set.

    Where tracks of different programs share a channel, as they must beyond 15, a program change comes before each note
    that needs one. Raises BadMidi.
    """
    smf = read(data)
    changes, needed = _missing_changes(smf, by_channel=False)
    return _written(smf, changes) if needed else data


def read(data: bytes) -> Smf:
    """Walk a file that starts with ``MThd``. Raises BadMidi."""
    if len(data) < 14:
        raise BadMidi("truncated", "The file ends inside its header.")
    size, form, promised, division = struct.unpack_from(">IHHH", data, 4)
    if division == 0 or division & 0x8000:
        raise BadMidi("unreadable", "Time is not counted in ticks per quarter note.")
    chunks, remarks = _track_chunks(data, 8 + size, promised)
    buffer = np.frombuffer(data, np.uint8)
    events = np.empty(len(data) // 2 + 1, EVENT)
    starts, stops, seen, ends = walk_tracks(buffer, chunks, events)
    events = events[: starts[-1]]
    remarks += [told for flag, told in _TOLD.items() if (seen & flag).any()]
    remarks += _losses(len(data), chunks, stops, seen & ENDED > 0, promised)
    if form > 2:
        remarks.append(f"There is no format {form}; the file was read as format 1.")
    smf = Smf(division, events, starts, buffer, ends, tuple(remarks))
    return _audible(_one_pattern(smf) if form == 2 else smf)


def _track_chunks(data: bytes, position: int, promised: int) -> tuple[NDArray[np.int64], list[str]]:
    """Of each track: where its events begin, where they end at most, and where they should end, int64[n, 3].

    And what was wrong with them. A track of a wrong length goes on to the next one, or to the end of the file.
    """
    chunks, told = [], []
    if not _is_chunk(data, position):
        position = _next_track(data, 8)
        told.append(_WRONG_LENGTH)
    while position + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, position)
        begin = position + 8
        end = due = position = begin + size
        if not (_is_chunk(data, due) or due == len(data)):
            position = limit = _next_track(data, begin)
            if due > limit == len(data):  # cut short
                end = limit
            elif data[due - 3 : due] != _LAST_EVENT:
                end = due = limit
                told.append(_WRONG_LENGTH)
            elif len(chunks) + 1 >= promised:
                position = len(data)
                told.append("Bytes behind the last track were left out.")
        if name == _TRACK:
            chunks.append((begin, end, due))
    return np.array(chunks, np.int64).reshape(-1, 3), [*dict.fromkeys(told)]


def _is_chunk(data: bytes, position: int) -> bool:
    """Whether a chunk may begin here: its name is four letters or digits."""
    name = data[position : position + 4]
    return position + 8 <= len(data) and name.isascii() and name.isalnum()


def _next_track(data: bytes, position: int) -> int:
    """Where the next track's chunk begins; the end of the file if there is none."""
    found = data.find(_TRACK, position)
    return len(data) if found < 0 else found


def _losses(
    size: int, chunks: NDArray[np.int64], stops: NDArray[np.int64], ended: NDArray[np.bool_], promised: int
) -> list[str]:
    """What is missing of the file. Raises BadMidi if it is too much."""
    begins, _, dues = chunks.T
    lost = np.where(ended, 0, dues - stops)
    # Of a file that is whole but for its header, none is missing; a missing one counts like those that are there.
    missing = max(promised - len(chunks), 0) if lost.any() or not len(chunks) else 0
    amount = (dues - begins).sum() * (1 + missing / max(len(chunks), 1))
    share = 1 - ((dues - begins - lost).sum() / amount if amount else missing == 0)
    counts = f"The header promises {promised} tracks, and the file has {len(chunks)}."
    remarks = [counts] if promised != len(chunks) else []
    if lost.any():
        track = int(np.flatnonzero(lost)[0])
        remarks.append(f"Track {track + 1} breaks off at byte {stops[track]:,} of {size:,}.")
    if share > LARGEST_LOSS:
        verdict = "truncated" if missing or (dues > size).any() else "unreadable"
        raise BadMidi(verdict, " ".join([*remarks, f"Only {1 - share:.0%} of the music is left."]))
    if lost.any():
        amount = f"About {share:.0%}" if share >= 0.01 else "Less than 1%"
        remarks.append(f"It was read up to there. {amount} of the music is missing.")
    return remarks


def _one_pattern(smf: Smf) -> Smf:
    """Of a file of independent patterns (format 2) the one that holds notes. Raises BadMidi if several do."""
    patterns = np.flatnonzero(smf.ends >= 0)
    if len(patterns) > 1:
        raise BadMidi(
            "independent patterns",
            f"The file is of format 2 and holds {len(patterns)} patterns that do not sound together: save the one that "
            "you want as a file of its own.",
        )
    kept = np.zeros(len(smf.events), bool)
    for pattern in patterns:
        kept[smf.starts[pattern] : smf.starts[pattern + 1]] = True
    told = "The one pattern with notes of a file of format 2 was read."
    return replace(_only(smf, kept), remarks=(*smf.remarks, told))


def _audible(smf: Smf) -> Smf:
    """Without meta events behind the last note, and without tempos and signatures that are replaced at once.

    The parser sorts such events in an order of its own. Raises BadMidi if a note lies too far.
    """
    end = int(smf.ends.max(initial=-1))
    if end > LARGEST_TICK:
        raise BadMidi("too long", f"A note lies behind tick {LARGEST_TICK:,}.")
    kept, signatures = audible_rows(smf.events, end if end >= 0 else LARGEST_TICK)
    tick, kind = smf.events["tick"][signatures], smf.events["kind"][signatures]
    order = np.lexsort((tick, kind))
    tick, kind = tick[order], kind[order]
    kept[signatures[order[:-1][(np.diff(tick) == 0) & (np.diff(kind) == 0)]]] = False
    return smf if kept.all() else _only(smf, kept)


def _only(smf: Smf, kept: NDArray[np.bool_]) -> Smf:
    """Some of the events."""
    return replace(smf, events=smf.events[kept], starts=np.concatenate([[0], np.cumsum(kept)])[smf.starts])


def _missing_changes(smf: Smf, *, by_channel: bool) -> tuple[NDArray[np.int16], bool]:
    """The program to set right before each event, -1 for none, int16[n], and whether there is any.

    ``by_channel``: so that every track alone sounds as all together do, each channel with what any track has set. Else
    so that all together sound as every track alone does. At one tick the events are in the order of the tracks.
    """
    changes = np.full(len(smf.events), -1, np.int16)
    rows = player_rows(smf.data, smf.events)
    track = np.searchsorted(smf.starts, rows, side="right") - 1
    order = np.argsort(smf.events["tick"][rows], kind="stable")
    own = np.zeros((len(smf.starts), 16), np.uint8)
    return changes, find_missing_changes(smf.data, smf.events, rows[order], track[order], own, by_channel, changes)


def _written(smf: Smf, changes: NDArray[np.int16]) -> bytes:
    out = np.empty(80 * len(smf.starts) + 16 * len(smf.events) + len(smf.data), np.uint8)
    return out[: write_file(smf.data, smf.events, smf.starts, changes, smf.ticks_per_quarter, out)].tobytes()
