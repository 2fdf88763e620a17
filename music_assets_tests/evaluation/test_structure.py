"""Structure against closed forms, its edge cases, and music whose structure is known."""

import numpy as np
import pytest

from music_assets.evaluation.features import bar_self_similarity
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.evaluation.structure import (
    STRUCTURE,
    density_drift,
    density_steps,
    notes_in_first_scale,
    phrase_end_lengthening,
    phrases_in_first_key,
    similarity_name,
    structure_report,
    structure_table,
)
from music_assets_tests.evaluation.note_arrays import DRUMS, notes, piece

C_MAJOR, F_SHARP_MAJOR = (60, 62, 64, 65, 67, 69, 71, 72), (66, 68, 70, 71, 73, 75, 77, 78)
EMPTY, NOTHING = notes([], bars=16), notes([], bars=0)


def scale(pitches: tuple[int, ...], first_bar: int, bars: int) -> list[tuple[float, float, int]]:
    """Eighths up a scale, in every bar."""
    return [
        (4 * bar + step / 2, 0.5, pitch)
        for bar in range(first_bar, first_bar + bars)
        for step, pitch in enumerate(pitches)
    ]


def test_nothing_is_undefined_and_no_error():
    for found in (EMPTY, NOTHING):
        assert all(np.isnan(compute(found)) for compute in STRUCTURE.values())


def test_the_last_bar_of_each_phrase_rests():
    rows = [(4 * bar + beat, 1, 60) for bar in range(8) for beat in range(4) if bar % 4 != 3 or beat == 0]
    assert phrase_end_lengthening(notes(rows, bars=8)) == 4 - 1
    drums = [(4 * bar + 3, 1, 36, 90, DRUMS) for bar in range(8)]
    assert phrase_end_lengthening(notes([*rows, *drums], bars=8)) == 4 - 1
    even = [(4 * bar + beat, 1, 60) for bar in range(8) for beat in range(4)]
    assert phrase_end_lengthening(notes(even, bars=8)) == 0
    assert np.isnan(phrase_end_lengthening(notes(even[:12], bars=8)))  # no onset at a phrase's end
    assert np.isnan(phrase_end_lengthening(notes(even[12:16], bars=8)))  # nowhere else


def test_density_of_the_later_half():
    rows = [(4 * bar + beat, 1, 60) for bar in range(4) for beat in ((0, 2) if bar < 2 else (0, 1, 2, 3))]
    assert density_drift(notes(rows, bars=4)) == 1
    assert density_drift(notes([*rows, (16, 1, 60)], bars=5)) == pytest.approx(np.log2(5 / 4))  # bar 3 is of neither
    assert np.isnan(density_drift(notes(rows[:4], bars=4)))


def test_density_from_phrase_to_phrase():
    rows = [(16 * phrase + beat, 1, 60) for phrase, count in enumerate((2, 4, 1)) for beat in range(count)]
    assert density_steps(notes(rows, bars=12)) == pytest.approx((1 + 2) / 2)
    assert density_steps(notes(rows, bars=11)) == 1  # the last phrase is not whole
    assert np.isnan(density_steps(notes(rows[:2], bars=8)))


def test_a_key_that_stays_and_one_that_leaves():
    stays, leaves = (
        notes(scale(C_MAJOR, 0, 4) + scale(then, 4, 4) + scale(then, 8, 4), bars=12)
        for then in (C_MAJOR, F_SHARP_MAJOR)
    )
    assert phrases_in_first_key(stays) == notes_in_first_scale(stays) == 1
    assert phrases_in_first_key(leaves) == 0
    assert notes_in_first_scale(leaves) == pytest.approx(2 / 8)  # B and E sharp, of the eight
    back = notes(scale(C_MAJOR, 0, 4) + scale(F_SHARP_MAJOR, 4, 4) + scale(C_MAJOR, 8, 4), bars=12)
    assert phrases_in_first_key(back) == 1 / 2
    assert np.isnan(phrases_in_first_key(notes(scale(C_MAJOR, 0, 4), bars=4)))
    assert np.isnan(notes_in_first_scale(notes(scale(C_MAJOR, 4, 4), bars=8)))


def test_repetition_is_that_of_the_features():
    found = notes(scale(C_MAJOR, 0, 3) + scale(F_SHARP_MAJOR, 3, 3), bars=10)
    table = structure_table([found])
    expected = bar_self_similarity(found, 8)
    assert [table.scalars[similarity_name(bars)][0] for bars in range(1, 9)] == pytest.approx(
        expected.tolist(), nan_ok=True
    )


def test_samples_like_real_pieces_lie_at_the_floor_and_drifting_ones_beyond_it():
    settings = EvaluationSettings(structure_bars=8, bootstrap_rounds=100, floor_rounds=20)
    steady = [piece(notes(scale(C_MAJOR, 0, 8), bars=8), name=f"{n}") for n in range(12)]
    drifting = [
        piece(notes(scale(C_MAJOR, 0, 4) + scale(F_SHARP_MAJOR, 4, 4), bars=8), name=f"sample {n}") for n in range(12)
    ]
    same = structure_report(steady[:6], steady[6:], settings)
    assert not any(distance.is_beyond_floor for distance in same.distances)
    other = {one.feature: one for one in structure_report(steady, drifting, settings).distances}
    assert other["notes in the first phrase's scale"].is_beyond_floor
    assert other[similarity_name(4)].is_beyond_floor
    assert not other["density, later half over earlier (octaves)"].is_beyond_floor
