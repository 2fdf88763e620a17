"""Distances against closed forms and scipy, and the real-against-real floor."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from music_assets.evaluation.distances import (
    Distance,
    feature_distances,
    jensen_shannon,
    overlapped_area,
    wasserstein,
)
from music_assets.evaluation.features import FeatureTable, feature_table
from music_assets.evaluation.resampling import bootstrap_weights, percentile_interval
from music_assets.evaluation.settings import EvaluationSettings
from music_assets_tests.evaluation.note_arrays import notes

CONFIG = EvaluationSettings(bootstrap_rounds=200, floor_rounds=30)
COUNTS = st.lists(st.integers(0, 20), min_size=5, max_size=5).filter(any)
VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=20)


def test_jensen_shannon_of_equal_and_disjoint_histograms():
    assert jensen_shannon([1, 2, 3], [2, 4, 6]) == pytest.approx(0)
    assert jensen_shannon([1, 0, 0], [0, 5, 5]) == pytest.approx(1)
    assert np.isnan(jensen_shannon([0, 0], [1, 1]))
    assert jensen_shannon([[1, 0], [1, 1]], [[0, 1], [1, 1]]).tolist() == pytest.approx([1, 0])


@given(COUNTS, COUNTS)
def test_jensen_shannon_agrees_with_scipy(p: list[int], q: list[int]):
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)


@given(VALUES, VALUES)
def test_wasserstein_agrees_with_scipy(x: list[float], y: list[float]):
    first = np.arange(len(x) + len(y)) < len(x)
    assert wasserstein(x + y, first, ~first) == pytest.approx(wasserstein_distance(x, y), abs=1e-9)


def test_wasserstein_is_the_shift_and_undefined_for_nothing():
    values = np.concatenate([np.arange(5.0), np.arange(5.0) + 3])
    first = np.arange(10) < 5
    assert wasserstein(values, first, ~first) == pytest.approx(3)
    assert np.isnan(wasserstein(values, first, np.zeros(10)))
    assert np.isnan(wasserstein([], [], []))


def test_overlapped_area():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    assert overlapped_area(x, x) == pytest.approx(1, abs=0.01)
    assert overlapped_area(x, x + 1000) == pytest.approx(0, abs=0.01)
    # Two unit normals a distance d apart overlap by 2 Φ(−d / 2).
    assert overlapped_area(x, rng.normal(2, 1, 400)) == pytest.approx(0.317, abs=0.07)
    assert overlapped_area([3, 3], [3]) == 1
    assert overlapped_area([3, 3, 3], [3, 3, math.nan]) == 1
    assert math.isnan(overlapped_area([], [1]))


def test_bootstrap_draws_whole_groups():
    weights = bootstrap_weights(["a", "a", "b", "c"], 100, np.random.default_rng(0))
    assert weights.shape == (100, 4)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_interval_of_undefined_values():
    assert math.isnan(percentile_interval(1.0, np.array([math.nan]), 0.95).low)
    found = percentile_interval(5.0, np.append(np.arange(101.0), math.nan), 0.9)
    assert (found.value, found.low, found.high) == pytest.approx((5, 5, 95))


def table(count: int, seed: int, lowest: int = 60) -> FeatureTable:
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(count):
        steps = rng.choice(64, 24, replace=False) / 4
        pitches = lowest + rng.integers(0, 12, 24)
        pieces.append(notes(list(zip(steps, [0.25] * 24, pitches, strict=True)), bars=4))
    return feature_table(pieces)


def by_feature(distances: list[Distance]) -> dict[str, Distance]:
    return {distance.feature: distance for distance in distances}


def test_music_from_one_source_stays_at_the_floor_and_other_music_does_not():
    real, groups = table(60, seed=1), [str(i) for i in range(60)]
    same = by_feature(feature_distances("reel", real, groups, table(24, seed=2), CONFIG))
    assert sum(distance.is_beyond_floor for distance in same.values()) == 0
    higher = by_feature(feature_distances("reel", real, groups, table(24, seed=3, lowest=65), CONFIG))
    assert higher["mean pitch"].is_beyond_floor
    assert higher["mean pitch"].distance.value == pytest.approx(5, abs=1)
    assert higher["mean pitch"].overlap < 0.2
    assert not higher["notes per beat"].is_beyond_floor
    for distance in (*same.values(), *higher.values()):
        if math.isfinite(distance.distance.value):
            assert distance.distance.low <= distance.distance.value + 1e-9
            assert distance.distance.value <= distance.distance.high + 1e-9


def test_distances_are_deterministic_and_keep_groups_together():
    real, made = table(20, seed=1), table(10, seed=2)
    one_song = feature_distances("reel", real, ["song"] * 20, made, CONFIG)
    assert all(math.isnan(distance.floor.value) for distance in one_song)  # one song has no second half
    groups = [str(i // 2) for i in range(20)]
    first, second = (feature_distances("reel", real, groups, made, CONFIG) for _ in range(2))
    assert repr(first) == repr(second)


def test_samples_without_notes_are_left_out_of_distances_and_counted():
    real, groups = table(20, seed=1), [str(i) for i in range(20)]
    half_empty = feature_table([notes([(0, 1, 60), (1, 1, 64)], bars=4), notes([], bars=4)])
    found = by_feature(feature_distances("reel", real, groups, half_empty, CONFIG))
    assert found["polyphony"].generated == 1
    assert found["polyphony"].real == 20
    nothing = by_feature(feature_distances("reel", real, groups, feature_table([notes([], bars=4)]), CONFIG))
    assert math.isnan(nothing["polyphony"].distance.value)
    assert not nothing["polyphony"].is_beyond_floor
