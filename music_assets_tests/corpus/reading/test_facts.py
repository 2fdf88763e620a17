"""Musical facts against pretty_midi, music21, closed forms, and what the two hashes do not see."""

import os
import statistics
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic.core import (
    NoteTick,
    NoteTickList,
    ScoreTick,
    TempoTick,
    TempoTickList,
    TextMetaTick,
    TimeSignatureTick,
    TimeSignatureTickList,
    TrackTick,
    TrackTickList,
)

from music_assets.corpus.reading.facts import ScoreFacts, facts
from music_assets.corpus.reading.scan import FILES_SCHEMA
from music_assets.foundation.keys import KEYS
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import load_score
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
    score.tracks[0].shift_time(1920, inplace=True)
    for time in range(0, end, 480):
        score.tracks[-1].lyrics.append(TextMetaTick(time, "la"))
    score.markers.append(TextMetaTick(480, "Verse"))
    path = tmp_path / "tune.mid"
    score.dump_midi(str(path))
    found = facts(ScoreTick.from_midi(path.read_bytes()))
    oracle = pretty_midi.PrettyMIDI(str(path))
    notes = [note for instrument in oracle.instruments for note in instrument.notes]
    melody = [note for instrument in oracle.instruments if not instrument.is_drum for note in instrument.notes]
    first, last = min(note.start for note in notes), max(note.end for note in notes)
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
    assert found.notes_per_second == pytest.approx(len(notes) / (last - first), rel=1e-3)
    beats = (oracle.time_to_tick(last) - oracle.time_to_tick(first)) / oracle.resolution
    assert found.notes_per_beat == pytest.approx(len(notes) / beats)
    assert found.velocity_levels == len({note.velocity for note in notes})
    assert found.velocity_std == pytest.approx(statistics.pstdev(note.velocity for note in notes))
    assert (found.lyrics, found.markers) == (len(oracle.lyrics), 1)
    assert found.ticks_per_quarter == oracle.resolution


def test_polyphony_counts_only_where_something_sounds() -> None:
    # a chord of two for a beat, a rest of nine beats, one note for a beat
    score = score_of([(0, 480, 60), (0, 480, 64), (4800, 480, 67)])
    assert facts(score).polyphony == 1.5


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 127)), min_size=1, max_size=30))
def test_polyphony_is_the_time_that_notes_sound_by_the_time_that_any_does(notes: list[tuple[int, int, int]]) -> None:
    sounding = {tick for onset, duration, _ in notes for tick in range(onset, onset + duration)}
    total = sum(duration for _, duration, _ in notes)
    assert facts(score_of(notes)).polyphony == (pytest.approx(total / len(sounding)) if sounding else None)


def reference_key(weights: list[float]) -> tuple[str, float]:
    """Key and confidence of the duration of every pitch class, by the book."""
    major = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88]
    minor = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]
    found = {
        KEYS[12 * mode + tonic]: statistics.correlation(weights, profile[12 - tonic :] + profile[: 12 - tonic])
        for mode, profile in enumerate((major, minor))
        for tonic in range(12)
    }
    best, second = sorted(found, key=found.__getitem__, reverse=True)[:2]
    return best, found[best] - found[second]


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(1, 960)), min_size=1, max_size=40))
def test_the_key_is_the_best_of_24_correlations(notes: list[tuple[int, int]]) -> None:
    weights = [0.0] * 12
    for pitch, duration in notes:
        weights[pitch % 12] += duration
    found = facts(score_of([(480 * i, duration, pitch) for i, (pitch, duration) in enumerate(notes)]))
    if len(set(weights)) == 1:
        assert (found.key, found.key_confidence) == (None, None)
        return
    key, confidence = reference_key(weights)
    assert found.key_confidence == pytest.approx(confidence, abs=1e-6)
    assert found.key == key or confidence < 1e-6


@pytest.mark.parametrize(
    ("chords", "key"),
    [
        (["CEG", "FAC", "GBD", "CEG"], "C major"),
        (["ACE", "DFA", "EgB", "ACE"], "A minor"),
    ],
)
@pytest.mark.parametrize("shift", range(12))
def test_a_cadence_is_in_its_key(chords: list[str], key: str, shift: int) -> None:
    pitches = {"C": 60, "D": 62, "E": 64, "F": 65, "G": 67, "g": 68, "A": 69, "B": 71}
    notes = [(480 * i, 480, pitches[name] + shift) for i, chord in enumerate(chords) for name in chord]
    found = facts(score_of(notes))
    assert found.key == KEYS[(KEYS.index(key) + shift) % 12 + 12 * ("minor" in key)]
    assert found.key_confidence == pytest.approx(
        facts(score_of([(t, d, p - shift) for t, d, p in notes])).key_confidence
    )
    assert found.key_confidence
    assert found.key_confidence > 0.1


@pytest.mark.slow
def test_the_key_is_the_one_that_music21_finds() -> None:
    analysis = pytest.importorskip("music21.analysis.discrete")
    note, stream = pytest.importorskip("music21.note"), pytest.importorskip("music21.stream")
    chance = np.random.default_rng(0)
    for _ in range(20):
        durations = chance.integers(1, 2000, 12)
        music = stream.Stream()
        for pitch, duration in enumerate(durations):
            music.append(note.Note(60 + pitch, quarterLength=duration / 480))
        expected = analysis.KrumhanslKessler().getSolution(music)
        found = facts(score_of([(0, int(duration), 60 + pitch) for pitch, duration in enumerate(durations)]))
        assert found.key == KEYS[expected.tonic.pitchClass + 12 * (expected.mode == "minor")]
        assert found.key_confidence == pytest.approx(
            expected.correlationCoefficient - expected.alternateInterpretations[0].correlationCoefficient
        )


def test_drums_have_no_key_and_all_pitch_classes_alike_have_none_either() -> None:
    drums = score_of([(480 * i, 480, 36 + i % 3) for i in range(16)])
    drums.tracks[0].is_drum = True
    chromatic = score_of([(480 * i, 480, 60 + i) for i in range(12)])
    for score in (drums, chromatic):
        assert (facts(score).key, facts(score).key_confidence) == (None, None)
    assert facts(drums).pitch_min is None


def test_density_runs_from_the_first_onset_to_the_last_end() -> None:
    # two bars of rest, eight eighths at 60 quarters a minute, then eight at 120
    notes = [(3840 + 240 * i, 240, 60) for i in range(16)]
    found = facts(score_of(notes, tempos=[(0, 60.0), (3840 + 8 * 240, 120.0)]))
    assert found.notes_per_beat == pytest.approx(2.0)
    assert found.notes_per_second == pytest.approx(16 / 6)
    assert facts(score_of([(480, 0, 60)])).notes_per_beat is None


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
    assert (found.notes, found.bars, found.seconds, found.velocity_levels) == (0, 0, 0.0, 0)
    nothing = {name for name, value in vars(found).items() if value is None}
    assert nothing == {
        *("pitch_min", "pitch_max", "polyphony", "key", "key_confidence", "notes_per_beat", "notes_per_second"),
        *("velocity_std", "piece_id", "content_hash"),
    }


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


def test_the_order_of_equal_onsets_changes_no_hash() -> None:
    # the same pitch twice at once, with other durations and velocities
    notes = [NoteTick(480 * (i // 6), 100 + 10 * (i % 3), 60 + i % 2, 50 + i % 5) for i in range(120)]
    scores = []
    for order in (range(120), reversed(range(120)), np.random.default_rng(0).permutation(120).tolist()):
        score = ScoreTick(480)
        track = TrackTick("", 0, False)
        track.notes = NoteTickList([notes[i] for i in order])
        score.tracks.append(track)
        scores.append(facts(score))
    assert len({found.piece_id for found in scores}) == 1
    assert len({found.content_hash for found in scores}) == 1


def test_every_fact_is_described_and_has_a_column() -> None:
    assert all(text.endswith(".") for text in ScoreFacts.descriptions().values())
    assert set(ScoreFacts.descriptions()) <= set(FILES_SCHEMA)


@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_facts_of_the_real_corpus_agree_with_pretty_midi(tmp_path: Path) -> None:
    """File by file, but for what pretty_midi is known to read otherwise.

    It drops notes that end where they begin; at a note-off it ends all notes of the pitch and not only the oldest
    one, so that a note may end earlier; it gives a note the program in force at its end; it reads tempos of the first
    track only, and says so; it keeps lyrics without text. Of two tempos at one tick the parser may swap the order.
    """
    with tarfile.open(Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "midi.tar.xz") as archive:
        members = [member for member in archive if member.isfile() and not member.name.startswith("./broken/")]
        archive.extractall(tmp_path, members[::70], filter="data")
    compared, same = 0, dict.fromkeys(("notes", "programs", "velocity_std", "seconds", "lyrics", "tempo", "density"), 0)
    for path in sorted(tmp_path.rglob("*.mid")):
        try:
            score = load_score(path)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                oracle = pretty_midi.PrettyMIDI(str(path))
        except (BadMidi, OSError, ValueError, EOFError, KeyError, IndexError):
            continue
        ticks = [tempo.time for tempo in score.tempos]
        if any("non-zero tracks" in str(warning.message) for warning in told) or len(set(ticks)) < len(ticks):
            continue
        found = facts(score)
        notes = [note for instrument in oracle.instruments for note in instrument.notes]
        empty = sum(int((track.notes.numpy()["duration"] == 0).sum()) for track in score.tracks)
        first, last = min(note.start for note in notes), max(note.end for note in notes)
        times, tempos = oracle.get_tempo_changes()
        tempo = tempos[np.searchsorted(times, first + 1e-6) - 1]
        programs = sorted({instrument.program for instrument in oracle.instruments if not instrument.is_drum})
        compared += 1
        assert found.seconds >= last - 1e-3
        assert found.notes_per_second
        assert found.velocity_std is not None
        same["notes"] += found.notes == len(notes) + empty
        same["programs"] += found.programs == programs
        same["velocity_std"] += bool(abs(found.velocity_std - np.std([note.velocity for note in notes])) < 1e-6)
        same["seconds"] += bool(abs(found.seconds - last) < 1e-2)
        same["lyrics"] += found.lyrics == sum(bool(lyric.text) for lyric in oracle.lyrics)
        same["tempo"] += (found.tempo, found.tempo_changes) == (pytest.approx(tempo), int((np.diff(tempos) != 0).sum()))
        same["density"] += bool(abs(found.notes_per_second * (last - first) - len(notes) - empty) < 1)
    assert compared >= 30
    assert all(count >= 0.9 * compared for count in same.values()), (same, compared)
