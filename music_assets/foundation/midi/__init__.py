"""MIDI bytes to a score."""
