"""Program numbers: those of General MIDI, 0 to 127, and one more; and what people call them."""

import difflib
import re

DRUMS = 128
"""The program that stands for the drum channel, which has none of its own."""

# fmt: off
INSTRUMENTS = (
    "Acoustic Grand Piano", "Bright Acoustic Piano", "Electric Grand Piano", "Honky-tonk Piano",
    "Electric Piano 1", "Electric Piano 2", "Harpsichord", "Clavinet",
    "Celesta", "Glockenspiel", "Music Box", "Vibraphone",
    "Marimba", "Xylophone", "Tubular Bells", "Dulcimer",
    "Drawbar Organ", "Percussive Organ", "Rock Organ", "Church Organ",
    "Reed Organ", "Accordion", "Harmonica", "Tango Accordion",
    "Acoustic Guitar (nylon)", "Acoustic Guitar (steel)", "Electric Guitar (jazz)", "Electric Guitar (clean)",
    "Electric Guitar (muted)", "Overdriven Guitar", "Distortion Guitar", "Guitar Harmonics",
    "Acoustic Bass", "Electric Bass (finger)", "Electric Bass (pick)", "Fretless Bass",
    "Slap Bass 1", "Slap Bass 2", "Synth Bass 1", "Synth Bass 2",
    "Violin", "Viola", "Cello", "Contrabass",
    "Tremolo Strings", "Pizzicato Strings", "Orchestral Harp", "Timpani",
    "String Ensemble 1", "String Ensemble 2", "Synth Strings 1", "Synth Strings 2",
    "Choir Aahs", "Voice Oohs", "Synth Choir", "Orchestra Hit",
    "Trumpet", "Trombone", "Tuba", "Muted Trumpet",
    "French Horn", "Brass Section", "Synth Brass 1", "Synth Brass 2",
    "Soprano Sax", "Alto Sax", "Tenor Sax", "Baritone Sax",
    "Oboe", "English Horn", "Bassoon", "Clarinet",
    "Piccolo", "Flute", "Recorder", "Pan Flute",
    "Blown Bottle", "Shakuhachi", "Whistle", "Ocarina",
    "Lead 1 (square)", "Lead 2 (sawtooth)", "Lead 3 (calliope)", "Lead 4 (chiff)",
    "Lead 5 (charang)", "Lead 6 (voice)", "Lead 7 (fifths)", "Lead 8 (bass + lead)",
    "Pad 1 (new age)", "Pad 2 (warm)", "Pad 3 (polysynth)", "Pad 4 (choir)",
    "Pad 5 (bowed)", "Pad 6 (metallic)", "Pad 7 (halo)", "Pad 8 (sweep)",
    "FX 1 (rain)", "FX 2 (soundtrack)", "FX 3 (crystal)", "FX 4 (atmosphere)",
    "FX 5 (brightness)", "FX 6 (goblins)", "FX 7 (echoes)", "FX 8 (sci-fi)",
    "Sitar", "Banjo", "Shamisen", "Koto",
    "Kalimba", "Bagpipe", "Fiddle", "Shanai",
    "Tinkle Bell", "Agogo", "Steel Drums", "Woodblock",
    "Taiko Drum", "Melodic Tom", "Synth Drum", "Reverse Cymbal",
    "Guitar Fret Noise", "Breath Noise", "Seashore", "Bird Tweet",
    "Telephone Ring", "Helicopter", "Applause", "Gunshot",
)
# fmt: on
"""Names of the programs, by General MIDI 1."""
FAMILIES = (
    *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble"),
    *("Brass", "Reed", "Pipe", "Synth Lead", "Synth Pad", "Synth Effects"),
    *("Ethnic", "Percussive", "Sound Effects"),
)
"""Names of eight programs each."""


def instrument_name(program: int) -> str:
    """Of a program, 128 being the drums."""
    return "Drums" if program == DRUMS else INSTRUMENTS[program]


def find_programs(text: str) -> frozenset[int]:
    """The programs that a name stands for.

    It is ``drums``, a number from 0 to 127, a family (``piano``: 0 to 7), an instrument, or words that instruments
    have in their names (``electric guitar``: 26 to 28). Case and signs do not matter.

    Raises:
        ValueError: it is none of these; the sentence names what is nearest.
    """
    wanted = _words(text)
    if wanted in ("drums", "drum", "drum kit"):
        return frozenset({DRUMS})
    if wanted.isdecimal():
        if int(wanted) < DRUMS:
            return frozenset({int(wanted)})
        raise ValueError(f"there is no program {wanted}: choose 0 to {DRUMS - 1}, or drums")
    for family, name in enumerate(FAMILIES):
        if wanted in (_words(name), _words(name) + "s"):
            return frozenset(range(8 * family, 8 * family + 8))
    names = [_words(name) for name in INSTRUMENTS]
    found = [program for program, name in enumerate(names) if name == wanted] or [
        program for program, name in enumerate(names) if wanted and f" {wanted}" in f" {name}"
    ]
    if found:
        return frozenset(found)
    every = {_words(name): name for name in (*FAMILIES, *INSTRUMENTS)}
    near = [every[name] for name in difflib.get_close_matches(wanted, every, 3, 0.5)]
    families = ", ".join(FAMILIES).lower()
    meant = (
        f"did you mean {' or '.join(near)}?" if near else f"name one of General MIDI, a family ({families}) or drums"
    )
    raise ValueError(f"no instrument is called {text!r}: {meant}")


def _words(text: str) -> str:
    """In small letters, signs as spaces."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))
