"""Musical memory in plain Python, with dictionaries: slow, and what the compiled one has to agree with."""

from collections import defaultdict

import numpy as np

from music_assets.foundation.keys import estimate_key
from music_assets.tokens.memory import AUDIBLE, COLUMNS, FADING, INTERVAL, KEY, KEY_LEAD, LEVELS, NO_CANDIDATE, RUNS
from music_assets.tokens.vocabulary import CONTROL_RANGES, DRUMS, MARKS, RANGES, SIZE, TOKEN_TYPE, TOKEN_TYPES

NO_NOTE: tuple[int, int] = (0, 0)  # pitch and position


def plain_candidates(ids: list[int]) -> list[list[int]]:
    """The candidates of every token, by the definition."""
    music, known, times, found = Music(), {}, {}, []
    before: list[tuple] = []
    for token in ids:
        for context in before:
            came = token
            if context[0] == INTERVAL and music.origin:
                came = token - music.origin if name(token) == "Pitch" else "no interval"
            right = known.get(context) == came
            times[context] = times[context] + 1 if right else 0
            known[context] = came
        music.hear(token)
        contexts = music.contexts()
        row = [NO_CANDIDATE] * COLUMNS
        for context in contexts:
            foretold = known.get(context, "nothing")
            if context[0] == INTERVAL and music.origin and isinstance(foretold, int):
                foretold += music.origin
                foretold = foretold if name(foretold) == "Pitch" else "nothing"
            if isinstance(foretold, int):
                row[context[0]] = foretold + SIZE * min(times[context].bit_length(), LEVELS - 1)
        if name(token) == "Program" and token - RANGES["Program"].start != DRUMS:
            row[KEY] = music.key()
        found.append(row)
        before = contexts
    return found


class Music:
    """What has been heard so far; things that have an order are tuples."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.bar = self.gap = self.origin = 0
        self.position = self.position_before = self.pitch = self.velocity = 0
        self.program = RANGES["Program"].start
        self.onsets = self.onsets_before = self.notes = self.notes_here = self.programs_here = ()
        self.voices = defaultdict(lambda: [NO_NOTE] * 8)
        self.sounded: list[tuple[int, int]] = []  # each pitch, and the bar lines before it
        self.velocities, self.durations = defaultdict(int), defaultdict(int)

    def hear(self, token: int) -> None:
        before = self.ids[-1] if self.ids else 0
        self.ids.append(token)
        match name(token):
            case "Bar":
                self.bar += 1
                self.onsets_before, self.onsets = self.onsets, ()
                self.notes = self.notes_here = self.programs_here = ()
                self.position = self.position_before = 0
            case "Position":
                self.position_before, self.position = self.position, token
                self.onsets += (token,)
                self.notes += (token,)
                self.notes_here = self.programs_here = ()
            case "Program":
                if name(before) == "MASK":
                    self.bar -= 1
                elif token != self.program or not self.programs_here:
                    self.programs_here += (token,)
                self.program = token
            case "Pitch" | "PitchDrum":
                self.pitch = token
                if name(token) == "Pitch":
                    self.sounded.append((token - RANGES["Pitch"].start, self.bar_lines()))
                self.notes_here += ((self.program, token),)
                self.notes += ((self.program, token),)
            case "Velocity":
                self.velocity = token
            case "Duration":
                self.voices[self.program] = [(self.pitch, self.position), *self.voices[self.program][:-1]]
                self.velocities[self.program], self.durations[self.program] = self.velocity, token
            case "MASK":
                self.bar += 1
                if name(before) != "MASK" and self.gap == 0:
                    self.gap = self.bar
            case "FILL":
                self.bar, self.onsets = self.gap - 1, ()

    def contexts(self) -> list[tuple]:
        """Each with its column first."""
        self.origin = 0
        last_ids = [(column, *self.ids[-run:]) for column, run in enumerate(RUNS) if len(self.ids) >= run]
        token = self.ids[-1]
        kind = name(token)
        own = [
            (len(RUNS) + column, "drum" if kind == "PitchDrum" else kind, *context)
            for column, context in enumerate(self.of_music(token, kind))
        ]
        return last_ids + [context for context in own if context[-1] != ()]

    def bar_lines(self) -> int:
        return self.ids.count(RANGES["Bar"].start)

    def key(self) -> int:
        """Of the notes so far: the id that says it, and how far it leads."""
        heard = np.zeros(12)
        for pitch, bar_line in self.sounded:
            heard[pitch % 12] += FADING ** (self.bar_lines() - bar_line)
        found = estimate_key(heard) if np.linalg.norm(heard - heard.mean()) >= AUDIBLE else None
        if found is None or found[1] == 0:
            return NO_CANDIDATE
        key, lead = found
        return CONTROL_RANGES["key"][key] + SIZE * min(int(lead / KEY_LEAD), LEVELS - 1)

    def of_music(self, token: int, kind: str) -> list[tuple]:
        position, program, pitch = self.position, self.program, self.pitch
        last = self.voices[program]
        match kind:
            case "Program":
                return [
                    (token, position),
                    *((token, position, *last[:many]) for many in (1, 2, 4, 8)),
                    (token, self.notes_here[-1:], "last"),
                    (token, position, self.notes_here, "here"),
                    (token, last[0][0], last[1][0]),
                    (token, position, self.bar % 4, "bar"),
                    (token, self.notes_here[:1], last[0][0], "first"),
                    self.interval(token, *(pitch for pitch, _ in last[:2])),
                    (token, position, self.notes_here, self.bar % 8),
                ]
            case "Pitch" | "PitchDrum":
                velocity = self.velocities[program]
                return [
                    (program, token),
                    (program, position),
                    (program, token, position),
                    *((program, token, position, *last[:many]) for many in (2, 4)),
                    (program, velocity),
                    (program, position, velocity),
                    (program, token, last[0]),
                    (program, token, position, self.bar % 4),
                    (program, position, velocity, self.bar % 4),
                    (program, token, position, self.bar % 8),
                    (program, token, position, self.notes_here[:1], "first"),
                ]
            case "Velocity":
                duration = self.durations[program]
                return [
                    (program, pitch),
                    (program, position),
                    (program, pitch, position),
                    *((program, pitch, position, *last[:many]) for many in (2, 4)),
                    (program, position, token),
                    (program, position, last[0], duration),
                    (program, pitch, duration),
                    (program, pitch, position, self.bar % 4),
                    (program, position, duration),
                    (program, pitch, position, self.bar % 8),
                    (program, pitch, position, duration),
                ]
            case "Duration":
                return [
                    (position, program),
                    (position, program, pitch),
                    *((position, program, pitch, *last[1 : 1 + many]) for many in (1, 4)),
                    (position, self.programs_here, "programs"),
                    (self.onsets, self.programs_here, "onsets"),
                    (position, self.notes_here, "notes"),
                    (self.notes,),
                    (position, self.programs_here, self.bar % 4),
                    (position, self.notes_here, self.bar % 4),
                    (program, *(at for _, at in last[:3])),
                    (self.onsets, self.programs_here, self.bar % 4),
                ]
            case "Position" | "Tempo":
                return [
                    (position, 0),
                    (position, self.position_before),
                    (position, self.bar % 2),
                    (position, self.bar % 4),
                    (self.onsets,),
                    (self.onsets, self.onsets_before, "before"),
                    (self.onsets, self.bar % 4),
                    (self.notes,),
                    *(
                        context
                        for many in (8, 16)
                        for context in ((position, self.bar % many), (self.onsets, self.bar % many))
                    ),
                ]
            case "Bar" | "TimeSig":
                return [
                    (token,),
                    *((token, self.bar % many) for many in (2, 4, 8)),
                    (token, self.onsets_before, "before"),
                    (token, self.bar % 16),
                    (token, self.onsets_before, self.bar % 4),
                ]
        return []

    def interval(self, token: int, latest: int, before: int) -> tuple:
        """What an interval is foretold by: the one before it."""
        if not name(latest) == name(before) == "Pitch":
            return ((),)
        self.origin = latest
        return (token, self.position, latest - before)


def name(token: int) -> str:
    """The type of a token, or which mark it is."""
    kind = TOKEN_TYPES[TOKEN_TYPE[token]]
    return MARKS[token - RANGES["Special"].start] if kind == "Special" else kind
