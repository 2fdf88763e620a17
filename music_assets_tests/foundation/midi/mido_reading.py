"""What mido reads in a MIDI file, in the terms of a score: the slow reference of the reader."""

import io
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

import mido
from symusic.core import ScoreTick

DRUMS = 128


@dataclass(frozen=True)
class Heard:
    """What sounds: (tick, end, pitch, velocity, program) of each note, and from which tick on a value holds."""

    notes: Counter[tuple[int, int, int, int, int]]
    tempos: dict[int, int]
    time_signatures: dict[int, tuple[int, int]]


def heard_by_mido(data: bytes) -> Heard:
    """Notes end in their own track, in the order in which they begin; all tracks of a port play on one set of channels.

    Raises whatever mido raises.
    """
    file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    events = []
    for number, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, number, message))
    events.sort(key=lambda event: event[0])
    ports: dict[int, int] = {}
    programs: dict[tuple[int, int], int] = {}
    sounding: dict[tuple[int, int, int], deque[tuple[int, int, int]]] = defaultdict(deque)
    notes: Counter[tuple[int, int, int, int, int]] = Counter()
    tempos, time_signatures = {}, {}
    for tick, number, message in events:
        match message.type:
            case "midi_port":
                ports[number] = message.port
            case "program_change":
                programs[ports.get(number, 0), message.channel] = message.program
            case "note_on" if message.velocity:
                program = DRUMS if message.channel == 9 else programs.get((ports.get(number, 0), message.channel), 0)
                sounding[number, message.channel, message.note].append((tick, message.velocity, program))
            case "note_on" | "note_off":
                if waiting := sounding[number, message.channel, message.note]:
                    began, velocity, program = waiting.popleft()
                    notes[began, tick, message.note, velocity, program] += 1
            case "set_tempo" if message.tempo:
                tempos[tick] = message.tempo
            case "time_signature" if message.numerator and message.denominator <= 128:
                time_signatures[tick] = (message.numerator, message.denominator)
    end = max((note[1] for note in notes), default=float("inf"))
    return Heard(
        notes,
        {tick: value for tick, value in tempos.items() if tick < end},
        {tick: value for tick, value in time_signatures.items() if tick < end},
    )


def heard_in(score: ScoreTick) -> Heard:
    """The same of a score."""
    notes: Counter[tuple[int, int, int, int, int]] = Counter()
    for track in score.tracks:
        program = DRUMS if track.is_drum else track.program
        notes.update((note.time, note.end, note.pitch, note.velocity, program) for note in track.notes)
    return Heard(
        notes,
        {tempo.time: tempo.mspq for tempo in score.tempos},
        {one.time: (one.numerator, one.denominator) for one in score.time_signatures},
    )
