import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from music_assets.evaluation.arrays import Floats, Integers, Strings
from music_assets.evaluation.results import (
    BadResult,
    NotMeasurable,
    load_result,
    save_result,
    save_tables,
    save_why_not,
)
from music_assets.evaluation.settings import EvaluationSettings


@dataclass(frozen=True)
class Inner:
    value: float
    name: str | None


@dataclass(frozen=True)
class Outer:
    matrix: Integers
    names: Strings
    span: tuple[float, float]
    parts: tuple[Inner, ...]
    rows: Sequence[Inner]
    by_name: Mapping[str, Floats]
    maybe: Inner | None


SETTINGS = EvaluationSettings(seed=3, confidence=0.9)
RESULT = Outer(
    matrix=np.array([[1, 2], [3, 4]]),
    names=np.array(["a", "bc"]),
    span=(0.5, 1.0),
    parts=(Inner(1.0, "x"), Inner(float("nan"), None)),
    rows=[Inner(2.0, "y")],
    by_name={"z": np.array([0.25, np.nan])},
    maybe=None,
)


def test_what_is_saved_is_loaded_with_its_types(tmp_path: Path):
    save_result(tmp_path / "r.json", "run 1", SETTINGS, RESULT)
    loaded = load_result(tmp_path / "r.json", "run 1", Outer).found
    assert loaded.matrix.dtype == np.int64
    np.testing.assert_array_equal(loaded.matrix, RESULT.matrix)
    assert loaded.names.tolist() == ["a", "bc"]
    assert loaded.span == (0.5, 1.0)
    assert loaded.parts[0] == Inner(1.0, "x")
    assert np.isnan(loaded.parts[1].value)
    assert loaded.rows == RESULT.rows
    np.testing.assert_array_equal(loaded.by_name["z"], RESULT.by_name["z"])
    assert loaded.maybe is None


def test_a_result_says_with_which_settings_it_was_found(tmp_path: Path):
    save_result(tmp_path / "r.json", "run 1", SETTINGS, RESULT)
    assert load_result(tmp_path / "r.json", "run 1", Outer).settings == SETTINGS
    stored = json.loads((tmp_path / "r.json").read_text())
    assert (stored["settings"]["seed"], stored["settings"]["confidence"]) == (3, 0.9)


def test_a_missing_and_a_damaged_result(tmp_path: Path):
    with pytest.raises(BadResult, match="materialise likelihood first"):
        load_result(tmp_path / "likelihood.json", "run 1", Outer)
    (tmp_path / "likelihood.json").write_text('{"matrix": [[1')
    with pytest.raises(BadResult, match="materialise likelihood again"):
        load_result(tmp_path / "likelihood.json", "run 1", Outer)
    (tmp_path / "likelihood.json").write_text("{}")
    with pytest.raises(BadResult, match="materialise likelihood again"):
        load_result(tmp_path / "likelihood.json", "run 1", Outer)


def test_a_result_of_another_checkpoint_is_refused(tmp_path: Path):
    save_result(tmp_path / "likelihood.json", "run 1", SETTINGS, RESULT)
    with pytest.raises(BadResult, match="is of the checkpoint run 1 and not of run 2: materialise likelihood again"):
        load_result(tmp_path / "likelihood.json", "run 2", Outer)


def test_in_the_place_of_a_result_stands_why_there_is_none(tmp_path: Path):
    path = tmp_path / "copy_report.json"
    save_why_not(path, "run 1", SETTINGS, "There are no test pieces.")
    with pytest.raises(NotMeasurable, match="There are no test pieces"):
        load_result(path, "run 1", Outer)
    with pytest.raises(BadResult, match="of the checkpoint run 1 and not of run 2"):
        load_result(path, "run 2", Outer)


def test_tables_lie_beside_the_result_and_old_ones_go(tmp_path: Path):
    path = tmp_path / "copy_report.json"
    other = tmp_path / "likelihood.by_genre.csv"
    other.write_text("kept")
    save_tables(
        path, {"runs": [{"genre": "jig, slip", "run": 1}, {"genre": "reel", "run": 2.5}], "cases": [{"a": None}]}
    )
    read = pl.read_csv(tmp_path / "copy_report.runs.csv")
    assert read.to_dicts() == [{"genre": "jig, slip", "run": 1.0}, {"genre": "reel", "run": 2.5}]
    save_tables(path, {"cases": []})
    assert {file.name for file in tmp_path.glob("*.csv")} == {"copy_report.cases.csv", "likelihood.by_genre.csv"}
