"""A score to the bytes of a MIDI file."""

from pathlib import Path

from symusic.core import ScoreTick

_CHANNELS = 15  # that are not for drums: what symusic gives tracks before it begins again with the first


def midi_bytes(score: ScoreTick) -> bytes:
    """A MIDI file in which each track sounds with its own program, however many there are."""
    data = score.dumps_midi()
    if len(score.tracks) <= _CHANNELS:
        return data
    from music_assets.foundation.midi.smf import with_own_programs  # compiled, see reading.COMPILED

    return with_own_programs(data)


def write_midi(score: ScoreTick, path: Path) -> None:
    """Write :func:`midi_bytes` to a file."""
    path.write_bytes(midi_bytes(score))
