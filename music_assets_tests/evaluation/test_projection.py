"""The plane of principal components."""

import numpy as np
import pytest

from music_assets.evaluation.features import FeatureTable, feature_table
from music_assets.evaluation.projection import project
from music_assets_tests.evaluation.note_arrays import notes


def table(lowest: int, count: int) -> FeatureTable:
    rng = np.random.default_rng(lowest)
    return feature_table(
        [notes([(beat, 1, lowest + int(rng.integers(12))) for beat in range(8)], bars=2) for _ in range(count)]
    )


def test_generated_music_lies_in_the_plane_of_the_real():
    real = table(60, 30)
    found = project(real, real)
    assert np.allclose(found.real, found.generated)
    assert 0 < found.variance[1] <= found.variance[0] < 1
    far = project(real, table(20, 10))
    assert np.linalg.norm(far.generated.mean(axis=0)) > 2 * np.linalg.norm(far.real.mean(axis=0))


def test_samples_without_notes_have_no_place():
    found = project(table(60, 10), feature_table([notes([], bars=2)]))
    assert np.isnan(found.generated).all()
    assert project(table(60, 10), feature_table([])).generated.shape == (0, 2)
    with pytest.raises(ValueError, match="3 real excerpts"):
        project(table(60, 2), table(60, 2))
