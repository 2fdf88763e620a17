"""A Standard MIDI File as a table of events: walked byte by byte, cleaned, and written again for the parser.

The parser is native code that believes what it reads. So it is given well-formed files only: every chunk and event is
bounded here first, and what can be put right is put right and told. What the bytes mean follows the MIDI Manufacturers
Association's Standard MIDI Files 1.0 (RP-001), read leniently where programs in use write otherwise.
"""

import struct
from dataclasses import dataclass, replace

import numpy as np
from numba import from_dtype, njit, types
from numpy.typing import NDArray

from music_assets.foundation.midi.errors import BadMidi

_TRACK = b"MTrk"
LARGEST_TICK = 2**31 - 1
"""The parser counts in 32 bits; no note may lie later."""
LARGEST_LOSS = 0.5
"""Share of a file's bytes that may be missing or unreadable; of one with more, too little is left to be the piece."""

EVENT = np.dtype(
    [
        ("tick", np.int64),  # from the start of the track
        ("begin", np.int32),  # where its data lies in the file: of a meta event what follows its length
        ("size", np.int32),  # of the data
        ("status", np.uint8),  # 0x80..0xEF, or 0xFF for a meta event
        ("kind", np.uint8),  # of a meta event
        ("port", np.uint8),  # each port has 16 channels of its own
    ]
)
"""One row a channel or meta event. System-exclusive and other system events, ends of tracks and events that cannot be
what they say are no rows."""

# Types of the compiled functions: they are compiled, or taken from the cache, when this module is imported.
_DATA = types.Array(types.uint8, 1, "C", readonly=True)
_EVENTS = from_dtype(EVENT)[::1]
_BYTES, _INTS, _TABLE = types.uint8[::1], types.int64[::1], types.int64[:, ::1]

_META = 0xFF
_END_OF_TRACK, _PORT, _TEMPO, _TIME_SIGNATURE, _KEY_SIGNATURE = 0x2F, 0x21, 0x51, 0x58, 0x59
_LARGEST_NUMBER = 2**28 - 1  # of four bytes
_MANY_TICKS = 2**40  # no sum of them leaves 64 bits
_FINEST_DENOMINATOR = 7  # 2 ** 7 is the finest note that has a name

_LAST_EVENT = bytes([_META, _END_OF_TRACK, 0])
_WRONG_LENGTH = "Lengths of chunks were wrong and were mended."
# What a walk has seen.
_ENDED, _AFTER_END, _LONG_NUMBER, _OVER_127, _NO_SYSEX, _NO_TEMPO, _NO_METRE, _NO_KEY = (1 << bit for bit in range(8))
_TOLD = {
    _AFTER_END: "Events behind the end of a track were left out.",
    _LONG_NUMBER: "Numbers of more than four bytes were read.",
    _OVER_127: "Data bytes over 127 were clamped.",
    _NO_SYSEX: "System messages that are no system-exclusive ones were skipped.",
    _NO_TEMPO: "Tempos of zero or without a value were left out.",
    _NO_METRE: "Time signatures that cannot be were left out.",
    _NO_KEY: "Key signatures that cannot be were left out.",
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
    starts, stops, seen, ends = _walk_tracks(buffer, chunks, events)
    events = events[: starts[-1]]
    remarks += [told for flag, told in _TOLD.items() if (seen & flag).any()]
    remarks += _losses(len(data), chunks, stops, seen & _ENDED > 0, promised)
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
    kept, signatures = _sort_out(smf.events, end if end >= 0 else LARGEST_TICK)
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
    rows = _players(smf.data, smf.events)
    track = np.searchsorted(smf.starts, rows, side="right") - 1
    order = np.argsort(smf.events["tick"][rows], kind="stable")
    own = np.zeros((len(smf.starts), 16), np.uint8)
    return changes, _find_changes(smf.data, smf.events, rows[order], track[order], own, by_channel, changes)


def _written(smf: Smf, changes: NDArray[np.int16]) -> bytes:
    out = np.empty(80 * len(smf.starts) + 16 * len(smf.events) + len(smf.data), np.uint8)
    return out[: _write(smf.data, smf.events, smf.starts, changes, smf.ticks_per_quarter, out)].tobytes()


@njit(types.Tuple((types.boolean[::1], _INTS))(_EVENTS, types.int64), cache=True)
def _sort_out(events, end):
    """Whether each event is of use if the last note ends at tick ``end``, and the rows of the useful tempos and
    signatures."""
    kept = np.full(len(events), True)
    signatures = np.empty(len(events), np.int64)
    count = 0
    for row in range(len(events)):
        event = events[row]
        meta = event.status == _META
        if event.tick > LARGEST_TICK or (meta and event.tick >= end):
            kept[row] = False
        elif meta and (event.kind == _TEMPO or event.kind == _TIME_SIGNATURE or event.kind == _KEY_SIGNATURE):
            signatures[count] = row
            count += 1
    return kept, signatures[:count].copy()


@njit(_INTS(_DATA, _EVENTS), cache=True)
def _players(data, events):
    """Rows of the program changes and of the notes' beginnings."""
    rows = np.empty(len(events), np.int64)
    count = 0
    for row in range(len(events)):
        event = events[row]
        group = event.status & 0xF0
        if group == 0xC0 or (group == 0x90 and data[event.begin + 1] > 0):
            rows[count] = row
            count += 1
    return rows[:count].copy()


@njit(types.boolean(_DATA, _EVENTS, _INTS, _INTS, types.uint8[:, ::1], types.boolean, types.int16[::1]), cache=True)
def _find_changes(data, events, rows, tracks, own, by_channel, changes):
    """Fill in ``changes``; whether there is any."""
    shared = np.zeros(256 * 16, np.uint8)
    found = False
    for index in range(len(rows)):
        row, track = rows[index], tracks[index]
        event = events[row]
        channel = event.status & 15
        player = event.port * 16 + channel
        if event.status & 0xF0 == 0xC0:
            shared[player] = own[track, channel] = min(data[event.begin], 127)
        elif shared[player] != own[track, channel]:
            found = True
            changes[row] = shared[player] if by_channel else own[track, channel]
            shared[player] = own[track, channel] = changes[row]
    return found


@njit(cache=True)
def _number(data, position, end):
    """A variable-length number and the byte behind it; a byte behind ``end`` if the track ends inside it."""
    value = 0
    while position < end:
        byte = data[position]
        position += 1
        value = min(value << 7 | byte & 127, _MANY_TICKS)
        if byte < 128:
            return value, position
    return 0, end + 1


@njit(cache=True)
def _wrong_meta(data, kind, begin, size):
    """What is wrong with a meta event, or 0."""
    if kind == _TEMPO and (size < 3 or (data[begin] == 0 and data[begin + 1] == 0 and data[begin + 2] == 0)):
        return _NO_TEMPO
    if kind == _TIME_SIGNATURE and (size < 2 or data[begin] == 0 or data[begin + 1] > _FINEST_DENOMINATOR):
        return _NO_METRE
    if kind == _KEY_SIGNATURE and (size < 2 or (data[begin] > 7 and data[begin] < 249) or data[begin + 1] > 1):
        return _NO_KEY
    return 0


@njit(cache=True)
def _walk(data, begin, end, events, row):
    """One track: the row behind its last one, the byte behind the last whole event, what was seen, and the tick at
    which the last note ends, -1 if none does."""
    tick, status, port, seen, position, last = 0, 0, 0, 0, begin, -1
    sounding = np.zeros(16 * 128, np.int64)
    while position < end:
        stop = position
        delta, position = _number(data, position, end)
        if position + 1 > end:
            return row, stop, seen, last
        if position - stop > 4:
            seen |= _LONG_NUMBER
        tick += delta
        first = data[position]
        if first == _META:
            kind = data[position + 1] if position + 1 < end else 0
            size, position = _number(data, position + 2, end)
            if kind == _END_OF_TRACK:
                return row, position, seen | _ENDED | (_AFTER_END if position < end else 0), last
            if position + size > end:
                return row, stop, seen, last
            wrong = _wrong_meta(data, kind, position, size)
            if kind == _PORT and size > 0:
                port = data[position]
            elif wrong:
                seen |= wrong
            else:
                event = events[row]
                event.tick, event.begin, event.size, event.status = tick, position, size, first
                event.kind, event.port = kind, port
                row += 1
            position += size
        elif first == 0xF0 or first == 0xF7:
            size, position = _number(data, position + 1, end)
            position += size
            if position > end:
                return row, stop, seen, last
        elif first > 0xF0:
            seen |= _NO_SYSEX
            position += 3 if first == 0xF2 else 2 if first == 0xF1 or first == 0xF3 else 1
            if position > end:
                return row, stop, seen, last
        else:
            if first >= 0x80:
                status = first
                position += 1
            size = 1 if 0xC0 <= status < 0xE0 else 2
            if status == 0 or position + size > end:
                return row, stop, seen, last
            for place in range(position, position + size):
                if data[place] > 127:
                    seen |= _OVER_127
            event = events[row]
            event.tick, event.begin, event.size, event.status = tick, position, size, status
            event.kind, event.port = 0, port
            row += 1
            if status < 0xA0:
                key = (status & 15) * 128 + min(data[position], 127)
                if status >= 0x90 and data[position + 1] > 0:
                    sounding[key] += 1
                elif sounding[key] > 0:
                    sounding[key] -= 1
                    last = tick
            position += size
    return row, position, seen, last


@njit(types.Tuple((_INTS, _INTS, _INTS, _INTS))(_DATA, _TABLE, _EVENTS), cache=True)
def _walk_tracks(data, chunks, events):
    """Rows of every track into ``events``; where its rows start, where each walk stopped, what it saw, and the tick
    at which its last note ends."""
    starts = np.zeros(len(chunks) + 1, np.int64)
    stops, seen, ends = np.zeros_like(starts[1:]), np.zeros_like(starts[1:]), np.zeros_like(starts[1:])
    for track in range(len(chunks)):
        begin, end = chunks[track, 0], chunks[track, 1]
        starts[track + 1], stops[track], seen[track], ends[track] = _walk(data, begin, end, events, starts[track])
    return starts, stops, seen, ends


@njit(cache=True)
def _write_number(out, at, value):
    """A variable-length number; the place behind it."""
    for shift in (21, 14, 7):
        if value >> shift:
            out[at] = value >> shift & 127 | 128
            at += 1
    out[at] = value & 127
    return at + 1


@njit(types.int64(_DATA, _EVENTS, _INTS, types.int16[::1], types.int64, _BYTES), cache=True)
def _write(data, events, starts, changes, ticks_per_quarter, out):
    """Write the file into ``out`` and return its size. Channel events get a status each, data bytes 7 bits, and notes
    a program change where their channel has another program."""
    tracks = len(starts) - 1
    at = 0
    for byte in (0x4D, 0x54, 0x68, 0x64, 0, 0, 0, 6, 0, 1, tracks >> 8, tracks & 255):
        out[at] = byte
        at += 1
    out[at], out[at + 1] = ticks_per_quarter >> 8, ticks_per_quarter & 255
    at += 2
    for track in range(tracks):
        for byte in (0x4D, 0x54, 0x72, 0x6B):
            out[at] = byte
            at += 1
        length_at = at
        at += 4
        now = 0
        for row in range(starts[track], starts[track + 1]):
            event = events[row]
            while event.tick - now > _LARGEST_NUMBER:  # an empty text on the way
                at = _write_number(out, at, _LARGEST_NUMBER)
                out[at], out[at + 1], out[at + 2] = _META, 1, 0
                at += 3
                now += _LARGEST_NUMBER
            at = _write_number(out, at, event.tick - now)
            now = event.tick
            if changes[row] >= 0:
                out[at], out[at + 1], out[at + 2] = 0xC0 | event.status & 15, changes[row], 0
                at += 3
            out[at] = event.status
            at += 1
            if event.status == _META:
                out[at] = event.kind
                at = _write_number(out, at + 1, event.size)
                out[at : at + event.size] = data[event.begin : event.begin + event.size]
                at += event.size
            else:
                for place in range(event.begin, event.begin + event.size):
                    out[at] = min(data[place], 127)
                    at += 1
        out[at], out[at + 1], out[at + 2], out[at + 3] = 0, _META, _END_OF_TRACK, 0
        at += 4
        size = at - length_at - 4
        for place in range(4):
            out[length_at + place] = size >> (24 - 8 * place) & 255
    return at
