"""Standard MIDI Files written byte by byte, as people's programs write them and as none should."""

import struct
from collections.abc import Sequence

from hypothesis import strategies as st

END_OF_TRACK = b"\x00\xff\x2f\x00"


def number(value: int, padding: int = 0) -> bytes:
    """A variable-length number, with bytes before it that change nothing."""
    out = [value & 127]
    while value := value >> 7:
        out.append(128 | value & 127)
    return b"\x80" * padding + bytes(reversed(out))


def event(delta: int, *data: int) -> bytes:
    return number(delta) + bytes(data)


def meta(delta: int, kind: int, data: bytes = b"") -> bytes:
    return number(delta) + bytes([0xFF, kind]) + number(len(data)) + data


def tempo(delta: int, microseconds: int) -> bytes:
    return meta(delta, 0x51, microseconds.to_bytes(3, "big"))


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack(">I", len(data)) + data


def header(tracks: int, form: int = 1, division: int = 480, extra: bytes = b"") -> bytes:
    return chunk(b"MThd", struct.pack(">HHH", form, tracks, division) + extra)


def smf(tracks: Sequence[bytes], form: int = 1, division: int = 480) -> bytes:
    return header(len(tracks), form, division) + b"".join(chunk(b"MTrk", track) for track in tracks)


def scale(notes: int, channel: int = 0, length: int = 240, velocity: int = 80) -> bytes:
    """Notes one after the other."""
    pitches = [60 + step % 12 for step in range(notes)]
    return b"".join(
        event(0, 0x90 | channel, pitch, velocity) + event(length, 0x80 | channel, pitch, 0) for pitch in pitches
    )


_data = st.integers(0, 127)
_deltas = st.one_of(st.integers(0, 3), st.integers(0, 500), st.integers(0, 2**21))
_few_channels = st.sampled_from([0, 0, 1, 9])  # so that tracks meet
_pitches = st.integers(58, 62)  # so that notes overlap


@st.composite
def tracks(draw: st.DrawFn, maximum_events: int = 60) -> bytes:
    """Events of all kinds that mido reads, in running status or not."""
    out, status = b"", -1
    for _ in range(draw(st.integers(0, maximum_events))):
        out += number(draw(_deltas), draw(st.sampled_from([0, 0, 0, 1, 5])))
        kind = draw(st.sampled_from(["note", "note", "note", "program", "control", "meta", "tempo", "metre", "sysex"]))
        channel = draw(_few_channels)
        if kind in ("meta", "tempo", "metre", "sysex"):
            out += draw(_OTHERS[kind])
            # where mido and others differ on what a status means behind such an event, the next one says its own
            status = -1 if kind == "sysex" else status
            continue
        if kind == "note":
            head, data = draw(st.sampled_from([0x80, 0x90, 0x90])), [draw(_pitches), draw(st.sampled_from([0, 64, 99]))]
        elif kind == "program":
            head, data = 0xC0, [draw(_data)]
        else:
            head = draw(st.sampled_from([0xA0, 0xB0, 0xD0, 0xE0]))
            data = [draw(_data)] if head == 0xD0 else [draw(_data), draw(_data)]
        running = head | channel == status and draw(st.booleans())
        status = head | channel
        out += bytes(data) if running else bytes([status, *data])
    return out + draw(st.sampled_from([END_OF_TRACK, b""]))


def _meta(kind: int, data: bytes) -> bytes:
    return meta(0, kind, data)[1:]


_texts = st.binary(max_size=200)
_OTHERS = {
    "meta": st.builds(_meta, st.sampled_from([1, 2, 3, 4, 6, 7, 0x7F]), _texts),
    "tempo": st.integers(0, 2**24 - 1).map(lambda value: _meta(0x51, value.to_bytes(3, "big"))),
    "metre": st.builds(
        lambda numerator, power: _meta(0x58, bytes([numerator, power, 24, 8])), st.integers(0, 20), st.integers(0, 9)
    ),
    "sysex": st.builds(
        lambda status, data: bytes([status]) + number(len(data)) + data, st.sampled_from([0xF0, 0xF7]), _texts
    ),
}
files = st.builds(smf, st.lists(tracks(), min_size=1, max_size=4), st.just(1), st.sampled_from([24, 96, 480, 960]))
