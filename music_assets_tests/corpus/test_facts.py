"""Musical facts against pretty_midi, closed forms, and what the two hashes do not see."""

from pathlib import Path

import pretty_midi
import pytest
from symusic.core import (
    NoteTick,
    NoteTickList,
    ScoreTick,
    TempoTick,
    TempoTickList,
    TimeSignatureTick,
    TimeSignatureTickList,
    TrackTick,
    TrackTickList,
)

from music_assets.corpus.facts import Facts, facts
from music_assets.corpus.scan import FILES_SCHEMA
from music_assets_tests.midi_files import STYLES, make_tune


def score_of(
    notes: list[tuple[int, int, int]],
    *,
    ticks: int = 480,
    program: int = 0,
    velocity: int = 80,
    tempos: list[tuple[int, float]] | None = None,
    signatures: list[tuple[int, int, int]] | None = None,
) -> ScoreTick:
    """A score of one track with notes (onset, duration, pitch) in ticks."""
    score = ScoreTick(ticks)
    track = TrackTick("", program, False)
    track.notes = NoteTickList([NoteTick(onset, duration, pitch, velocity) for onset, duration, pitch in notes])
    score.tracks.append(track)
    score.tempos = TempoTickList([TempoTick(time, qpm) for time, qpm in tempos or []])
    score.time_signatures = TimeSignatureTickList([TimeSignatureTick(*one) for one in signatures or []])
    return score


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", [0, 1])
def test_facts_agree_with_pretty_midi(style: str, seed: int, tmp_path: Path) -> None:
    score = make_tune(style=style, seed=seed, bars=8)
    end = score.end()
    score.tempos.append(TempoTick(end // 3, 91.0))
    score.tempos.append(TempoTick(end // 2, 144.0))
    path = tmp_path / "tune.mid"
    score.dump_midi(str(path))
    found = facts(ScoreTick.from_midi(path.read_bytes()))
    oracle = pretty_midi.PrettyMIDI(str(path))
    notes = [note for instrument in oracle.instruments for note in instrument.notes]
    melody = [note for instrument in oracle.instruments if not instrument.is_drum for note in instrument.notes]
    last = max(note.end for note in notes)
    assert found.notes == len(notes)
    assert found.drum_notes == len(notes) - len(melody)
    assert (found.pitch_min, found.pitch_max) == (
        min(note.pitch for note in melody),
        max(note.pitch for note in melody),
    )
    assert found.programs == sorted({i.program for i in oracle.instruments if not i.is_drum})
    assert found.seconds == pytest.approx(last, abs=1e-3)
    assert found.bars == int((oracle.get_downbeats() < last - 1e-6).sum())
    assert found.tempo == pytest.approx(oracle.get_tempo_changes()[1][0])
    assert found.tempo_changes == 2
    assert found.velocity_levels == len({note.velocity for note in notes})


def test_polyphony_counts_only_where_something_sounds() -> None:
    # a chord of two for a beat, a rest of nine beats, one note for a beat
    score = score_of([(0, 480, 60), (0, 480, 64), (4800, 480, 67)])
    assert facts(score).polyphony == 1.5


def test_a_change_of_time_signature_begins_a_bar_and_repetitions_do_not_count() -> None:
    signatures = [(0, 4, 4), (1920, 4, 4), (2400, 3, 4), (2400, 6, 8), (3840, 6, 8)]
    found = facts(score_of([(0, 480, 60), (4800, 480, 60)], signatures=signatures))
    assert found.bars == 2 + 2  # 4/4 to tick 2400 (a bar and a beat), then 2880 ticks of 6/8
    assert found.time_signature_changes == 1
    assert found.time_signature == "4/4"
    assert found.seconds == pytest.approx(5.5)


def test_a_silly_tempo_or_time_signature_is_ignored() -> None:
    score = score_of([(0, 480, 60)], tempos=[(0, 60.0)], signatures=[(0, 0, 4)])
    score.tempos.append(TempoTick(0, mspq=0))
    found = facts(score)
    assert (found.seconds, found.tempo, found.time_signature) == (1.0, 60.0, "4/4")


def test_a_score_without_notes_has_facts() -> None:
    found = facts(ScoreTick(480))
    assert (found.notes, found.bars, found.seconds, found.polyphony) == (0, 0, 0.0, None)
    assert found.piece_id is None
    assert found.content_hash is None


def test_the_piece_id_sees_the_music_and_not_the_file() -> None:
    score = make_tune(style="band", bars=4)
    finer = ScoreTick(score)
    finer = finer.resample(960)
    shuffled = ScoreTick(score)
    shuffled.tracks = TrackTickList(list(shuffled.tracks)[::-1])
    named = ScoreTick(score)
    named.tracks[0].name = "another name"
    assert {facts(other).piece_id for other in (score, finer, shuffled, named)} == {facts(score).piece_id}
    louder, slower, later = ScoreTick(score), ScoreTick(score), ScoreTick(score)
    louder.tracks[0].notes[0].velocity += 1
    slower.tempos[0].qpm = 50.0
    later.tracks[0].notes[-1].time += 240
    assert len({facts(other).piece_id for other in (score, louder, slower, later)}) == 4


def test_the_content_hash_sees_notes_only() -> None:
    notes = [(480 * i, 400, 60 + i % 7) for i in range(16)]
    same = [
        score_of(notes),
        score_of([(onset + 960, duration, pitch) for onset, duration, pitch in notes]),
        score_of(notes, program=40, velocity=11, tempos=[(0, 77.0)]),
        score_of([(onset * 2, duration * 2, pitch) for onset, duration, pitch in notes], ticks=960),
        score_of([(onset + i % 3, duration, pitch) for i, (onset, duration, pitch) in enumerate(notes)]),
    ]
    assert len({facts(score).content_hash for score in same}) == 1
    assert facts(score_of([*notes, (0, 480, 90)])).content_hash != facts(same[0]).content_hash


def test_every_fact_is_described_and_has_a_column() -> None:
    assert all(text.endswith(".") for text in Facts.descriptions().values())
    assert set(Facts.descriptions()) <= set(FILES_SCHEMA)
