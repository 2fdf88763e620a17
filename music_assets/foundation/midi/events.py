"""Events of MIDI files in tables: compiled, since every byte of every file passes through here."""

import numpy as np
from numba import from_dtype, types

from music_assets.foundation.compiling import njit

LARGEST_TICK = 2**31 - 1
"""The parser counts in 32 bits; no note may lie later."""

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

META = 0xFF
END_OF_TRACK, PORT, TEMPO, TIME_SIGNATURE, KEY_SIGNATURE = 0x2F, 0x21, 0x51, 0x58, 0x59
_LARGEST_NUMBER = 2**28 - 1  # of four bytes
_MANY_TICKS = 2**40  # no sum of them leaves 64 bits
_FINEST_DENOMINATOR = 7  # 2 ** 7 is the finest note that has a name

# What a walk has seen.
ENDED, AFTER_END, LONG_NUMBER, OVER_127, SYSTEM_MESSAGE, BAD_TEMPO, BAD_TIME_SIGNATURE, BAD_KEY_SIGNATURE = (
    1 << bit for bit in range(8)
)


@njit(types.Tuple((types.boolean[::1], _INTS))(_EVENTS, types.int64))
def audible_rows(events, end):
    """Whether each event is of use if the last note ends at tick ``end``, and the rows of the useful tempos and
    signatures."""
    kept = np.full(len(events), True)
    signatures = np.empty(len(events), np.int64)
    count = 0
    for row in range(len(events)):
        event = events[row]
        meta = event.status == META
        if event.tick > LARGEST_TICK or (meta and event.tick >= end):
            kept[row] = False
        elif meta and (event.kind == TEMPO or event.kind == TIME_SIGNATURE or event.kind == KEY_SIGNATURE):
            signatures[count] = row
            count += 1
    return kept, signatures[:count].copy()


@njit(_INTS(_DATA, _EVENTS))
def player_rows(data, events):
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


@njit(types.boolean(_DATA, _EVENTS, _INTS, _INTS, types.uint8[:, ::1], types.boolean, types.int16[::1]))
def find_missing_changes(data, events, rows, tracks, own, by_channel, changes):
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


@njit()
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


@njit()
def _wrong_meta(data, kind, begin, size):
    """What is wrong with a meta event, or 0."""
    if kind == TEMPO and (size < 3 or (data[begin] == 0 and data[begin + 1] == 0 and data[begin + 2] == 0)):
        return BAD_TEMPO
    if kind == TIME_SIGNATURE and (size < 2 or data[begin] == 0 or data[begin + 1] > _FINEST_DENOMINATOR):
        return BAD_TIME_SIGNATURE
    if kind == KEY_SIGNATURE and (size < 2 or (data[begin] > 7 and data[begin] < 249) or data[begin + 1] > 1):
        return BAD_KEY_SIGNATURE
    return 0


@njit()
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
            seen |= LONG_NUMBER
        tick += delta
        first = data[position]
        if first == META:
            kind = data[position + 1] if position + 1 < end else 0
            size, position = _number(data, position + 2, end)
            if kind == END_OF_TRACK:
                return row, position, seen | ENDED | (AFTER_END if position < end else 0), last
            if position + size > end:
                return row, stop, seen, last
            wrong = _wrong_meta(data, kind, position, size)
            if kind == PORT and size > 0:
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
            seen |= SYSTEM_MESSAGE
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
                    seen |= OVER_127
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


@njit(types.Tuple((_INTS, _INTS, _INTS, _INTS))(_DATA, _TABLE, _EVENTS))
def walk_tracks(data, chunks, events):
    """Rows of every track into ``events``; where its rows start, where each walk stopped, what it saw, and the tick
    at which its last note ends."""
    starts = np.zeros(len(chunks) + 1, np.int64)
    stops, seen, ends = np.zeros_like(starts[1:]), np.zeros_like(starts[1:]), np.zeros_like(starts[1:])
    for track in range(len(chunks)):
        begin, end = chunks[track, 0], chunks[track, 1]
        starts[track + 1], stops[track], seen[track], ends[track] = _walk(data, begin, end, events, starts[track])
    return starts, stops, seen, ends


@njit()
def _write_number(out, at, value):
    """A variable-length number; the place behind it."""
    for shift in (21, 14, 7):
        if value >> shift:
            out[at] = value >> shift & 127 | 128
            at += 1
    out[at] = value & 127
    return at + 1


@njit(types.int64(_DATA, _EVENTS, _INTS, types.int16[::1], types.int64, _BYTES))
def write_file(data, events, starts, changes, ticks_per_quarter, out):
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
                out[at], out[at + 1], out[at + 2] = META, 1, 0
                at += 3
                now += _LARGEST_NUMBER
            at = _write_number(out, at, event.tick - now)
            now = event.tick
            if changes[row] >= 0:
                out[at], out[at + 1], out[at + 2] = 0xC0 | event.status & 15, changes[row], 0
                at += 3
            out[at] = event.status
            at += 1
            if event.status == META:
                out[at] = event.kind
                at = _write_number(out, at + 1, event.size)
                out[at : at + event.size] = data[event.begin : event.begin + event.size]
                at += event.size
            else:
                for place in range(event.begin, event.begin + event.size):
                    out[at] = min(data[place], 127)
                    at += 1
        out[at], out[at + 1], out[at + 2], out[at + 3] = 0, META, END_OF_TRACK, 0
        at += 4
        size = at - length_at - 4
        for place in range(4):
            out[length_at + place] = size >> (24 - 8 * place) & 255
    return at
