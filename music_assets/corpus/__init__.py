"""MIDI files to a labelled, split index."""
