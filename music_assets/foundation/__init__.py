"""What everything else stands on: errors, files, locks, workers, MIDI bytes."""
