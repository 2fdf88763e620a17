"""Scores that are written sound as they are, in one instrument or in forty."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symusic.core import NoteTick, ScoreTick, TrackTick

from music_assets.foundation.midi.reading import load_score
from music_assets.foundation.midi.writing import midi_bytes, write_midi
from music_assets_tests.foundation.midi.mido_reading import heard_by_mido, heard_in

_notes = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 400), st.integers(60, 64)), min_size=1, max_size=4)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.integers(0, 127), _notes), min_size=1, max_size=40))
def test_every_note_keeps_its_program_on_a_synthesiser(parts: list[tuple[int, list[tuple[int, int, int]]]]) -> None:
    score = ScoreTick(480)
    for program, notes in parts:
        track = TrackTick("", program, False)
        place = 0
        for wait, length, pitch in notes:
            track.notes.append(NoteTick(place + wait, length, pitch, 80))
            place += wait + length
        score.tracks.append(track)
    assert heard_by_mido(midi_bytes(score)).notes == heard_in(score).notes


@pytest.mark.parametrize("tracks", [1, 15, 16, 40])
def test_a_written_file_reads_as_the_score(tmp_path: Path, tracks: int) -> None:
    score = ScoreTick(480)
    for program in range(tracks):
        score.tracks.append(TrackTick(f"Track {program}", program, False))
        score.tracks[-1].notes.append(NoteTick(program % 3, 480, 60 + program, 80))
    write_midi(score, tmp_path / "score.mid")
    again = load_score(tmp_path / "score.mid")
    assert heard_in(again) == heard_in(score)
    assert [track.name for track in again.tracks] == [track.name for track in score.tracks]
