"""Standard MIDI Files written byte by byte, as people's programs write them and as none should."""

import struct
from collections.abc import Sequence
from random import Random

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


_TEXTS = (1, 2, 3, 4, 6, 7, 0x7F)
_EVENTS = ("on", "on", "off", "off", "program", "control", "text", "tempo", "time signature", "sysex", "escape")


def random_file(random: Random, tracks: int, events: int) -> bytes:
    """Events of all kinds that mido reads, in running status or not, few channels and pitches, so that they meet."""
    return smf([_random_track(random, events) for _ in range(tracks)], division=random.choice([24, 96, 480, 960]))


def _random_track(random: Random, events: int) -> bytes:
    out, status = b"", -1
    for _ in range(events):
        out += number(random.choice([0, 0, 1, 3, 240, random.randrange(2**21)]), random.choice([0, 0, 0, 0, 1, 5]))
        kind = random.choice(_EVENTS)
        if kind in ("sysex", "escape"):
            data = random.randbytes(random.choice([0, 1, 5, 200]))
            out += bytes([0xF0 if kind == "sysex" else 0xF7]) + number(len(data)) + data
            status = -1  # what it is behind such an event, programs do not agree on
        elif kind in ("text", "tempo", "time signature"):
            out += _random_meta(random, kind)
        else:
            head, data = _random_channel_event(random, kind)
            if head != status or random.random() < 0.5:
                out += bytes([head])
            status = head
            out += data
    return out + random.choice([END_OF_TRACK, b""])


def _random_meta(random: Random, kind: str) -> bytes:
    if kind == "tempo":
        return tempo(0, random.choice([0, 1, 500_000, random.randrange(2**24)]))[1:]
    if kind == "time signature":
        return meta(0, 0x58, bytes([random.randrange(13), random.randrange(10), 24, 8]))[1:]
    return meta(0, random.choice(_TEXTS), random.randbytes(random.choice([0, 3, 130])))[1:]


def _random_channel_event(random: Random, kind: str) -> tuple[int, bytes]:
    channel = random.choice([0, 0, 1, 9])
    if kind in ("on", "off"):
        velocity = random.choice([1, 64, 127]) if kind == "on" else 0
        return (0x90 if kind == "on" else random.choice([0x80, 0x90])) | channel, bytes(
            [random.randrange(60, 63), velocity]
        )
    head = 0xC0 if kind == "program" else random.choice([0xA0, 0xB0, 0xD0, 0xE0])
    return head | channel, bytes(random.randrange(128) for _ in range(1 if head in (0xC0, 0xD0) else 2))
