"""Notes put into a MIDI file, and taken out of it, while all else stays as it is, byte for byte.

A track that nothing happens to keeps its bytes; in another one every event that is not taken out keeps its tick and its
bytes, but for running status, which is written out.
"""

import struct
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.programs import DRUMS
from music_assets.foundation.midi.reading import unwrapped
from music_assets.foundation.midi.smf import clean

_DRUM_CHANNEL = 9
_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM, _BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0
_META, _END_OF_TRACK, _TEMPO, _TIME_SIGNATURE, _PORT = 0xFF, 0x2F, 0x51, 0x58, 0x21
_SUSTAIN, _CENTRE = 64, 0x2000


_Place = tuple[int, int, int]
"""Tick, track and event: the order in which a file is played."""


class Note(NamedTuple):
    """A note, in ticks of its file."""

    onset: int
    end: int
    pitch: int
    velocity: int  # 1..127
    program: int  # 128 for drums


class _Event(NamedTuple):
    tick: int
    data: bytes  # with its status


@dataclass
class _Track:
    chunk: bytes  # as it was, without name and size
    events: list[_Event]  # without the end of the track
    end: int  # tick of the end
    changed: bool = False
    port: int = 0


@dataclass
class _Sounding:
    """A note of the file: which events of which track it is."""

    onset: int
    end: int
    track: int
    channel: tuple[int, int]  # port and channel
    pitch: int
    program: int
    events: list[int] = field(default_factory=list)


class MidiEditor:
    """A MIDI file that notes are taken out of and put into."""

    def __init__(self, data: bytes) -> None:
        """Raises BadMidi as reading does; what reading mends is mended first."""
        data, _ = unwrapped(data)
        mended, _ = clean(data)  # which refuses what is no music
        parsed = _parse(data) or _parse(mended)
        if parsed is None:
            raise BadMidi("unreadable", "The file cannot be edited: its tracks break off.")
        self._header, self._format, self.ticks_per_quarter, self._tracks = parsed
        self._notes = self._sounding()
        self._removed: set[int] = set()

    def remove(self, start: int, end: int, program: int | None = None) -> None:
        """Take out the notes that begin in [start, end) ticks, all or those of a program, 128 being the drums."""
        for number, note in enumerate(self._notes):
            if start <= note.onset < end and program in (None, note.program):
                self._removed.add(number)

    def cut(self, at: int) -> None:
        """Take out all that begins at ``at`` ticks or later; pedals and bends that are held there are let go.

        Notes that began before keep their length; those that nothing ends, end there.
        """
        self._drop_removed()
        kept = {(note.track, event) for note in self._notes if note.onset < at for event in note.events}
        missing = self._missing_ends(at)
        for number, track in enumerate(self._tracks):
            held = [_Event(at, data) for data in _held(track, at)] + missing[number]
            staying = [event for index, event in enumerate(track.events) if event.tick < at or (number, index) in kept]
            if held or len(staying) < len(track.events):
                track.events = _merged(staying, held)
                track.end = min(track.end, max(at, track.events[-1].tick if track.events else 0))
                track.changed = True
        self._notes = self._sounding()

    def add(self, notes: Iterable[Note]) -> None:
        """Put notes in: into the track and channel that plays their program, or into a new one.

        A note ends where the next one on the same key of its channel begins, and of two that begin there together one
        is put in. One that would begin while one of the file sounds there goes to another channel, and is left out if
        none is free.
        """
        self._drop_removed()
        by_program: dict[int, list[Note]] = defaultdict(list)
        for note in notes:
            by_program[note.program].append(note)
        for program, own in sorted(by_program.items()):
            rest = own
            if (host := self._host(program, min(note.onset for note in own))) is not None:
                rest = self._place(own, *host)
            if rest and (host := self._new_host(program)) is not None:
                self._place(rest, *host)
        self._notes = self._sounding()

    def set_tempo(self, tick: int, quarters_a_minute: float) -> None:
        """Set the tempo from a tick on."""
        self._drop_removed()
        self._insert_meta(tick, _TEMPO, round(60_000_000 / quarters_a_minute).to_bytes(3, "big"))

    def set_time_signature(self, tick: int, numerator: int, denominator: int) -> None:
        """Set the time signature from a tick on; the denominator is a power of two."""
        self._drop_removed()
        self._insert_meta(tick, _TIME_SIGNATURE, bytes([numerator, denominator.bit_length() - 1, 24, 8]))

    def to_bytes(self) -> bytes:
        """The file."""
        self._drop_removed()
        many = self._format == 0 and len(self._tracks) > 1
        header = struct.pack(">HHH", 1 if many else self._format, len(self._tracks), self.ticks_per_quarter)
        chunks = [b"MThd" + struct.pack(">I", 6 + len(self._header)) + header + self._header]
        for track in self._tracks:
            chunk = _written(track) if track.changed else track.chunk
            chunks.append(b"MTrk" + struct.pack(">I", len(chunk)) + chunk)
        return b"".join(chunks)

    def _missing_ends(self, at: int) -> dict[int, list[_Event]]:
        """By track, ends of notes that began before ``at`` and have none: else those of notes that are added end them.

        An end goes to the note that has sounded longest on its key, so these come behind the ends that are there.
        """
        keys: dict[tuple[int, int, int], list[_Sounding]] = defaultdict(list)
        for note in self._notes:
            if note.onset < at:
                keys[note.track, note.channel[1], note.pitch].append(note)
        missing: dict[int, list[_Event]] = defaultdict(list)
        for (track, channel, pitch), own in keys.items():
            ends = [note.end for note in own if len(note.events) == 2]
            end = _Event(max([at, *ends]), bytes([_NOTE_OFF | channel, pitch, 64]))
            missing[track] += [end] * (len(own) - len(ends))
        return missing

    def _drop_removed(self) -> None:
        if not self._removed:
            return
        dropped: dict[int, set[int]] = defaultdict(set)
        for number in self._removed:
            dropped[self._notes[number].track].update(self._notes[number].events)
        for number, events in dropped.items():
            track = self._tracks[number]
            track.events = [event for index, event in enumerate(track.events) if index not in events]
            track.changed = True
        self._removed.clear()
        self._notes = self._sounding()

    def _sounding(self) -> list[_Sounding]:
        """The notes of the file; the program of a channel is what any track has set last."""
        changes = self._program_changes()
        notes = []
        for number, track in enumerate(self._tracks):
            open_notes: dict[tuple[int, int], list[_Sounding]] = defaultdict(list)
            for index, event in enumerate(track.events):
                kind, channel = event.data[0] & 0xF0, event.data[0] & 0x0F
                if kind not in (_NOTE_ON, _NOTE_OFF):
                    continue
                key = channel, event.data[1]
                if kind == _NOTE_ON and event.data[2]:
                    own = track.port, channel
                    program = DRUMS if channel == _DRUM_CHANNEL else _at(changes[own], (event.tick, number, index))
                    note = _Sounding(event.tick, track.end, number, own, event.data[1], program, [index])
                    open_notes[key].append(note)
                    notes.append(note)
                elif open_notes[key]:
                    note = open_notes[key].pop(0)
                    note.end = event.tick
                    note.events.append(index)
        return notes

    def _program_changes(self) -> dict[tuple[int, int], list[tuple[_Place, int]]]:
        """Of each port and channel where programs are set, rising, and to what."""
        changes: dict[tuple[int, int], list[tuple[_Place, int]]] = defaultdict(list)
        for number, track in enumerate(self._tracks):
            for index, event in enumerate(track.events):
                if event.data[0] & 0xF0 == _PROGRAM:
                    changes[track.port, event.data[0] & 0x0F].append(((event.tick, number, index), event.data[1]))
        for own in changes.values():
            own.sort()
        return changes

    def _host(self, program: int, first: int) -> tuple[int, tuple[int, int]] | None:
        """The track and channel that play a program most, if the channel does from tick ``first`` on and ever after."""
        changes = self._program_changes()
        playing = Counter((note.track, note.channel) for note in self._notes if note.program == program)
        for (track, channel), _ in playing.most_common():
            own = changes[channel]
            if program == DRUMS or not own or ({to for _, to in own} == {program} and own[0][0][:2] <= (first, track)):
                return track, channel
        return None

    def _new_host(self, program: int) -> tuple[int, tuple[int, int]] | None:
        """A free channel and a new track, or the only one of a file of format 0; None if no channel is free."""
        port = self._tracks[-1].port if self._format == 0 else 0
        used = {
            event.data[0] & 0x0F
            for track in self._tracks
            for event in track.events
            if event.data[0] < 0xF0 and track.port == port
        }
        free = [channel for channel in range(16) if channel != _DRUM_CHANNEL and channel not in used]
        channel = _DRUM_CHANNEL if program == DRUMS else free[0] if free else None
        if channel is None:
            return None
        if self._format != 0:
            self._tracks.append(_Track(b"", [], 0))
        track = self._tracks[-1]
        if program != DRUMS:
            track.events = _merged(track.events, [_Event(0, bytes([_PROGRAM | channel, program]))])
        track.changed = True
        return len(self._tracks) - 1, (track.port, channel)

    def _place(self, notes: Sequence[Note], track: int, channel: tuple[int, int]) -> list[Note]:
        """Put notes into a channel, and give back those that begin where a note of the file sounds on their key."""
        sounding: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for note in self._notes:
            if note.channel == channel:
                sounding[note.pitch].append((note.onset, note.end))
        left, placed = [], []
        latest: dict[int, int] = {}  # of each key the last one that is placed
        for note in sorted(notes):
            others = sounding[note.pitch]
            if any(onset <= note.onset < end for onset, end in others):
                left.append(note)
                continue
            if (before := latest.get(note.pitch)) is not None and placed[before].onset == note.onset:
                continue
            if before is not None:
                placed[before] = placed[before]._replace(end=min(placed[before].end, note.onset))
            latest[note.pitch] = len(placed)
            placed.append(note._replace(end=min([note.end, *(onset for onset, _ in others if onset > note.onset)])))
        events = []
        for note in placed:
            events.append(_Event(note.onset, bytes([_NOTE_ON | channel[1], note.pitch, note.velocity])))
            events.append(_Event(note.end, bytes([_NOTE_OFF | channel[1], note.pitch, 64])))
        host = self._tracks[track]
        if events:
            host.events = _merged(host.events, sorted(events, key=lambda event: event.tick))
            host.changed = True
        return left

    def _insert_meta(self, tick: int, kind: int, data: bytes) -> None:
        track = self._tracks[0]
        track.events = _merged(track.events, [_Event(tick, bytes([_META, kind, len(data)]) + data)])
        track.changed = True
        self._notes = self._sounding()


def _held(track: _Track, at: int) -> list[bytes]:
    """What lets go of pedals and bends that a track holds at a tick."""
    pedals, bends = {}, {}
    for event in track.events:
        kind, channel = event.data[0] & 0xF0, event.data[0] & 0x0F
        if event.tick < at and kind == _CONTROL and event.data[1] == _SUSTAIN:
            pedals[channel] = event.data[2] >= 64
        elif event.tick < at and kind == _BEND:
            bends[channel] = event.data[1] | event.data[2] << 7
    return [bytes([_CONTROL | channel, _SUSTAIN, 0]) for channel, down in pedals.items() if down] + [
        bytes([_BEND | channel, _CENTRE & 0x7F, _CENTRE >> 7]) for channel, bend in bends.items() if bend != _CENTRE
    ]


def _at(changes: list[tuple[_Place, int]], place: _Place) -> int:
    """The program that was set last before a place; 0 where none was."""
    before = bisect_left(changes, (place, -1))
    return changes[before - 1][1] if before else 0


def _merged(events: list[_Event], added: list[_Event]) -> list[_Event]:
    """Both by tick; at one tick the ends of added notes, the events that were there, and what else is added."""
    early = [event for event in added if event.data[0] & 0xF0 == _NOTE_OFF]
    late = [event for event in added if event.data[0] & 0xF0 != _NOTE_OFF]
    return sorted([*early, *events, *late], key=lambda event: event.tick)


def _parse(data: bytes) -> tuple[bytes, int, int, list[_Track]] | None:
    """What follows the six bytes of the header, the format, the ticks a quarter, and the tracks.

    None if the file is not well formed.
    """
    size, form, _, division = struct.unpack_from(">IHHH", data, 4)
    position, tracks = 8 + size, []
    while position + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, position)
        chunk = data[position + 8 : position + 8 + size]
        position += 8 + size
        if len(chunk) < size:
            return None
        if name == b"MTrk":
            track = _parse_track(chunk)
            if track is None:
                return None
            tracks.append(track)
    return (data[14 : 8 + struct.unpack_from(">I", data, 4)[0]], min(form, 1), division, tracks) if tracks else None


def _parse_track(chunk: bytes) -> _Track | None:
    """The events of a track; None if it is not well formed."""
    events: list[_Event] = []
    position = tick = running = port = 0
    try:
        while position < len(chunk):
            delta, position = _number(chunk, position)
            tick += delta
            status = running
            if chunk[position] & 0x80:
                status = chunk[position]
                position += 1
            if status < 0xF0:
                running = status  # meta and system events leave it, as programs in use write
            if status == _META:
                kind, begin = chunk[position], position
                size, position = _number(chunk, position + 1)
                data = bytes([_META]) + chunk[begin : position + size]
                position += size
                if kind == _END_OF_TRACK:
                    return _Track(chunk, events, tick, port=port)
                if kind == _PORT and size:
                    port = data[-1]
            elif status >= 0xF0:
                if status not in (0xF0, 0xF7):
                    return None
                begin = position
                size, position = _number(chunk, position)
                data = bytes([status]) + chunk[begin : position + size]
                position += size
            elif status & 0x80:
                size = 1 if status & 0xF0 in (0xC0, 0xD0) else 2
                data = bytes([status]) + chunk[position : position + size]
                position += size
                if len(data) <= size or max(data[1:]) > 127:
                    return None
            else:
                return None
            if position > len(chunk):
                return None
            events.append(_Event(tick, data))
    except IndexError:
        return None
    return None


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A number of variable length, and where what follows it begins."""
    value = 0
    while True:
        byte = data[position]
        position += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position


def _written(track: _Track) -> bytes:
    """The chunk of a track, its events in full."""
    out, last = bytearray(), 0
    for event in track.events:
        out += _written_number(event.tick - last) + event.data
        last = event.tick
    return bytes(out + _written_number(max(track.end - last, 0)) + bytes([_META, _END_OF_TRACK, 0]))


def _written_number(value: int) -> bytes:
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))
