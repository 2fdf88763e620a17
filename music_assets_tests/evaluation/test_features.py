"""Every metric against its closed form, its edge cases and a slow reference."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from music_assets.evaluation import features
from music_assets.evaluation.features import (
    HISTOGRAMS,
    NOTE_VALUES,
    PROGRAM_FEATURES,
    SCALARS,
    bar_self_similarity,
    duration_histogram,
    empty_beat_rate,
    excerpt,
    feature_table,
    groove_consistency,
    inter_onset_histogram,
    mean_pitch,
    notes_per_beat,
    notes_per_second,
    pitch_class_entropy,
    pitch_class_histogram,
    pitch_range,
    polyphony,
    position_histogram,
    program_histogram,
    programs_used,
    rhythmic_autocorrelation,
    scale_consistency,
    velocity_histogram,
    windows,
)
from music_assets.tokens.remi import NoteArray
from music_assets_tests.evaluation.note_arrays import DRUMS, note_arrays, notes

EMPTY = notes([], bars=2)
NOTHING = notes([], bars=0)
ONE_NOTE = notes([(0, 1, 60)], bars=2)
DRUMS_ONLY = notes([(beat, 0.25, 36, 90, DRUMS) for beat in range(8)], bars=2)
C_MAJOR = (60, 62, 64, 65, 67, 69, 71)
SCALE = notes([(step, 1, pitch) for step, pitch in enumerate(C_MAJOR)], bars=2)


def test_the_edge_cases_of_every_scalar():
    expected = {  # empty, no bars, one note in two bars, drums on every beat
        "pitch-class entropy, 1 bar (bits)": (None, None, 0, None),
        "pitch-class entropy, 4 bars (bits)": (None, None, 0, None),
        "scale consistency": (None, None, None, None),
        "groove consistency": (None, None, 1 - 1 / 16, 1),
        "polyphony": (None, None, 1, None),
        "notes per beat": (0, None, 1 / 8, 1),
        "notes per second": (None, None, 2, 8 / 3.625),
        "pitch range (semitones)": (None, None, 0, None),
        "mean pitch": (None, None, 60, None),
        "empty-beat rate": (1, None, 7 / 8, 0),
        "programs used": (0, 0, 1, 1),
        "rhythmic autocorrelation, 1 beat": (None, None, 0, 1),
        "rhythmic autocorrelation, 1 bar": (None, None, 0, 1),
        "rhythmic autocorrelation, 2 bars": (None, None, None, None),
        "rhythmic autocorrelation, 4 bars": (None, None, None, None),
        "bar similarity, 1 apart": (None, None, 0, 1),
        "bar similarity, 2 apart": (None, None, None, None),
        "bar similarity, 4 apart": (None, None, None, None),
    }
    assert set(expected) == set(SCALARS)
    for name, values in expected.items():
        for case, value in zip((EMPTY, NOTHING, ONE_NOTE, DRUMS_ONLY), values, strict=True):
            wanted = math.nan if value is None else value
            assert SCALARS[name](case) == pytest.approx(wanted, nan_ok=True), (name, value)


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histograms_have_their_bins_and_sum_to_one_or_to_nothing(name: str):
    histogram = HISTOGRAMS[name]
    for case in (EMPTY, NOTHING, ONE_NOTE, DRUMS_ONLY, SCALE):
        shares = histogram.compute(case)
        assert shares.shape == (len(histogram.bins),)
        assert shares.sum() == pytest.approx(1) or not shares.any()
    assert not histogram.compute(EMPTY).any()
    assert histogram.compute(SCALE).sum() == pytest.approx(1)


def test_pitch_class_histogram_counts_octaves_together_and_no_drums():
    found = pitch_class_histogram(notes([(0, 1, 60), (1, 1, 72), (2, 1, 61), (3, 1, 38, 90, DRUMS)]))
    assert found.tolist() == pytest.approx([2 / 3, 1 / 3, *[0] * 10])


def test_pitch_class_entropy():
    assert pitch_class_entropy(notes([(0, 1, 60 + step) for step in range(12)]), 1) == pytest.approx(math.log2(12))
    assert pitch_class_entropy(notes([(0, 1, 60), (1, 1, 72)]), 1) == 0
    # One pitch class a bar, two over both bars: short windows do not take the change for richness.
    modulating = notes([(0, 1, 60), (4, 1, 67)], bars=2)
    assert pitch_class_entropy(modulating, 1) == 0
    assert pitch_class_entropy(modulating, 4) == pytest.approx(1)
    # A silent bar and a bar of drums are no windows.
    assert pitch_class_entropy(notes([(0, 1, 60), (1, 1, 61), (8, 1, 36, 90, DRUMS)], bars=4), 1) == pytest.approx(1)


def test_scale_consistency():
    assert scale_consistency(SCALE) == 1
    assert scale_consistency(notes([(step, 1, 60 + step) for step in range(12)], bars=3)) == pytest.approx(7 / 12)
    minor = notes([(step, 1, 57 + interval) for step, interval in enumerate((0, 2, 3, 5, 7, 8, 10))], bars=2)
    assert scale_consistency(minor) == 1
    assert math.isnan(scale_consistency(notes([(step, 1, 60) for step in range(6)], bars=2)))


@given(note_arrays(), st.integers(-12, 12))
def test_scale_consistency_and_entropy_know_no_key(found: NoteArray, semitones: int):
    moved = dataclasses.replace(found, pitch=(found.pitch + semitones).astype(np.int16))
    assert scale_consistency(moved) == pytest.approx(scale_consistency(found), nan_ok=True)
    assert pitch_class_entropy(moved, 1) == pytest.approx(pitch_class_entropy(found, 1), nan_ok=True)


@given(note_arrays(), st.floats(0.25, 4))
def test_only_notes_per_second_knows_the_tempo(found: NoteArray, factor: float):
    faster = dataclasses.replace(found, seconds=found.seconds / factor, tempo=found.tempo * factor)
    for name, compute in SCALARS.items():
        expected = compute(found) * (factor if name == "notes per second" else 1)
        assert compute(faster) == pytest.approx(expected, nan_ok=True)


def test_groove_consistency():
    kick = [(beat, 0.25, 36, 90, DRUMS) for beat in range(4)]
    assert groove_consistency(notes([*kick, *[(4 + on, *rest) for on, *rest in kick]], bars=2)) == 1
    # Four kicks against silence differ on 4 of 16 steps.
    assert groove_consistency(notes(kick, bars=2)) == pytest.approx(1 - 4 / 16)
    # The two silent bars after it say nothing about groove.
    assert groove_consistency(notes(kick, bars=4)) == pytest.approx(1 - 4 / 16)
    # A jig's bar has twelve steps.
    assert groove_consistency(notes([(0, 1, 60)], bars=2, bar_length=3)) == pytest.approx(1 - 1 / 12)
    assert math.isnan(groove_consistency(notes(kick)))
    assert math.isnan(groove_consistency(EMPTY))


def test_groove_consistency_leaves_out_a_change_of_metre():
    found = notes([(0, 1, 60), (4, 1, 60), (7, 1, 60)], bars=3)
    changing = dataclasses.replace(
        found,
        bar=np.array([0, 1, 2], np.int32),
        bar_starts=np.array([0.0, 4.0, 7.0]),
        bar_lengths=np.array([4.0, 3.0, 3.0]),
    )
    assert groove_consistency(changing) == 1


def test_polyphony():
    assert polyphony(SCALE) == pytest.approx(1)
    triad = [(0, 2, 60), (0, 2, 64), (0, 2, 67)]
    assert polyphony(notes(triad)) == pytest.approx(3)
    # Two beats of three pitches and two of one; silence does not count.
    assert polyphony(notes([*triad, (2, 2, 60)], bars=2)) == pytest.approx((3 * 2 + 2) / 4)
    # The same pitch from two instruments is one pitch, drums are none.
    assert polyphony(notes([(0, 1, 60, 64, 0), (0, 1, 60, 64, 40), (0, 1, 40, 64, DRUMS)])) == pytest.approx(1)


@given(note_arrays())
def test_polyphony_and_empty_beats_agree_with_sampling_in_time(found: NoteArray):
    times = np.arange(0, 16, 0.25) + 0.125
    sounding = (found.onset <= times[:, None]) & (times[:, None] < found.onset + found.duration)
    pitched = found.program != DRUMS
    counts = np.array([len(set(found.pitch[row & pitched].tolist())) for row in sounding])
    expected = counts[counts > 0].mean() if counts.any() else math.nan
    assert polyphony(found) == pytest.approx(expected, nan_ok=True)
    silent = ~sounding.any(axis=1).reshape(16, 4).any(axis=1)
    assert empty_beat_rate(found) == pytest.approx(silent.mean())


def test_density_range_and_programs():
    band = notes([(0, 1, 50, 64, 0), (1, 1, 62, 64, 40), (2, 1, 36, 64, DRUMS), (3, 1, 38, 64, DRUMS)], tempo=60)
    assert notes_per_beat(band) == 1
    assert notes_per_second(band) == 1
    assert pitch_range(band) == 12
    assert mean_pitch(band) == 56
    assert programs_used(band) == 3
    families = program_histogram(band)
    assert {features.PROGRAM_FAMILIES[i]: families[i] for i in np.flatnonzero(families)} == {
        "piano": 0.25,
        "strings": 0.25,
        "drums": 0.5,
    }


def test_rhythmic_autocorrelation():
    dotted = notes([(bar * 4 + step, 0.25, 60) for bar in range(4) for step in (0, 0.75, 1.5, 3)], bars=4)
    assert rhythmic_autocorrelation(dotted, 16) == pytest.approx(1)
    assert rhythmic_autocorrelation(dotted, 32) == pytest.approx(1)
    assert rhythmic_autocorrelation(dotted, 4) < 0.5
    # A stream of sixteenths repeats at every lag; off-beats against beats are opposites.
    assert rhythmic_autocorrelation(notes([(step / 4, 0.25, 60) for step in range(16)]), 4) == 1
    alternating = notes([(step / 2, 0.25, 60) for step in range(8)])
    assert rhythmic_autocorrelation(alternating, 1) == pytest.approx(-1)
    assert math.isnan(rhythmic_autocorrelation(dotted, 64))
    assert math.isnan(rhythmic_autocorrelation(EMPTY, 4))


@given(note_arrays(), st.integers(1, 40))
def test_rhythmic_autocorrelation_is_pearsons_r(found: NoteArray, lag: int):
    if not len(found):
        return
    onsets = np.isin(np.arange(64), np.rint(found.onset * 4)).astype(float)
    early, late = onsets[:-lag], onsets[lag:]
    if early.std() and late.std():
        assert rhythmic_autocorrelation(found, lag) == pytest.approx(np.corrcoef(early, late)[0, 1])


@given(note_arrays())
def test_bar_self_similarity_agrees_with_sets(found: NoteArray):
    bars = [set() for _ in range(4)]
    for onset, pitch, program, bar in zip(found.onset, found.pitch, found.program, found.bar, strict=True):
        bars[bar].add((round(onset * 4) % 16, pitch, program))
    similarity = bar_self_similarity(found, 5)
    for distance in range(1, 6):
        pairs = [(a, b) for a, b in zip(bars, bars[distance:], strict=False) if a | b]
        expected = np.mean([len(a & b) / len(a | b) for a, b in pairs]) if pairs else math.nan
        assert similarity[distance - 1] == pytest.approx(expected, nan_ok=True)


def test_note_value_histograms():
    assert NOTE_VALUES[duration_histogram(notes([(0, 0.5, 60)])).argmax()] == "1/2"
    assert NOTE_VALUES[duration_histogram(notes([(0, 40, 60)])).argmax()] == "8"
    assert NOTE_VALUES[duration_histogram(notes([(0, 0.01, 60)])).argmax()] == "1/8"
    assert not duration_histogram(DRUMS_ONLY).any()
    # A chord is one onset: two gaps of one beat, none of zero.
    chord = notes([(0, 1, 60), (0, 1, 64), (1, 1, 60), (2, 1, 60)])
    assert inter_onset_histogram(chord)[NOTE_VALUES.index("1")] == 1
    assert not inter_onset_histogram(ONE_NOTE).any()


def test_velocity_and_position_histograms():
    assert velocity_histogram(notes([(0, 1, 60, 1), (1, 1, 60, 127)])).tolist() == [0.5, *[0] * 14, 0.5]
    assert position_histogram(notes([(0, 1, 60), (4.25, 1, 60)], bars=2))[:2].tolist() == [0.5, 0.5]
    assert position_histogram(notes([(5.75, 1, 60)], bar_length=6))[15] == 1


def test_an_excerpt_starts_at_zero_and_ends_at_its_bar_line():
    whole = notes([(0, 1, 60), (4, 6, 62), (9, 1, 64), (12, 1, 65)], bars=4)
    middle = excerpt(whole, bars=2, first=1)
    assert middle.onset.tolist() == [0, 5]
    assert middle.duration.tolist() == [6, 1]
    assert middle.bar.tolist() == [0, 1]
    assert middle.bar_starts.tolist() == [0, 4]
    assert middle.seconds == pytest.approx(4)
    assert excerpt(whole, 4, 3).bar_starts.tolist() == [0]
    assert excerpt(notes([(3, 4, 60)], bars=2), 1).duration.tolist() == [1]
    beyond = excerpt(whole, 4, 9)
    assert len(beyond) == 0
    assert len(beyond.bar_starts) == 0


@pytest.mark.slow
@given(note_arrays())
def test_the_excerpt_of_all_bars_is_the_piece(found: NoteArray):
    same = excerpt(found, 4)
    for name in ("onset", "duration", "pitch", "bar", "bar_starts"):
        assert np.array_equal(getattr(same, name), getattr(found, name))


def test_windows_are_complete_and_hold_notes():
    found = windows(notes([(0, 1, 60), (17, 1, 62), (24, 1, 64)], bars=7), 2)
    assert [part.onset.tolist() for part in found] == [[0], [1]]  # bars 2-3 are silent, bar 6 has no partner
    assert len(windows(SCALE, 1, most=1)) == 1
    assert windows(SCALE, 3) == []


def test_feature_table():
    table = feature_table([SCALE, EMPTY, DRUMS_ONLY])
    assert table.notes.tolist() == [7, 0, 8]
    assert table.scalars["polyphony"][0] == pytest.approx(1)
    assert np.isnan(table.scalars["polyphony"][1:]).all()
    assert len(table.rows(np.array([True, False, True]))) == 2
    columns = len(SCALARS) + sum(len(histogram.bins) for histogram in HISTOGRAMS.values())
    assert table.matrix().shape == (3, columns)
    assert table.matrix(PROGRAM_FEATURES).shape == (3, columns - 1 - len(features.PROGRAM_FAMILIES))
    assert table.frame().height == 3
    assert feature_table([]).matrix().shape == (0, columns)
