"""Program numbers: those of General MIDI, 0 to 127, and one more."""

DRUMS = 128
"""The program that stands for the drum channel, which has none of its own."""
