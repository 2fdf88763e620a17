"""Results as JSON files: what a measure found of a checkpoint, and the settings that it found it with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import polars as pl
from pydantic import TypeAdapter

from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.publishing import publish

T = TypeVar("T")


class BadResult(MusicAssetsError):
    """There is no such result, or the file does not hold it."""


class NotMeasurable(MusicAssetsError):
    """The pieces or samples do not allow a measure; the message says what they lack."""


@dataclass(frozen=True)
class StoredResult(Generic[T]):
    """What was found of the checkpoint ``run``, and the settings that it was found with."""

    run: str
    settings: EvaluationSettings
    found: T


def save_result(path: Path, run: str, settings: EvaluationSettings, found: object) -> None:
    """Write what was found of the checkpoint ``run``.

    Args:
        found: a dataclass of what pydantic knows and of the arrays in :mod:`music_assets.evaluation.arrays`.
    """
    _write(path, run, settings, {"result": TypeAdapter(type(found)).dump_python(found)})


def save_why_not(path: Path, run: str, settings: EvaluationSettings, why_not: str) -> None:
    """Write, in the place of a result, why there is none of the checkpoint ``run``: one sentence."""
    _write(path, run, settings, {"why_not": why_not})


def save_tables(path: Path, tables: Mapping[str, pl.DataFrame | Sequence[Mapping[str, Any]]]) -> None:
    """Write the tables of the result at ``path`` beside it, ``<result>.<table>.csv``, in place of those of before.

    Floats of whole columns stay floats; a missing value is an empty cell.
    """
    files = {path.with_suffix(f".{name}.csv"): table for name, table in tables.items()}
    for file, table in files.items():
        with publish(file) as fresh:
            pl.DataFrame(table, infer_schema_length=None).write_csv(fresh)
    for old in {*path.parent.glob(f"{path.stem}.*.csv")} - {*files}:
        old.unlink()


def _write(path: Path, run: str, settings: EvaluationSettings, outcome: Mapping[str, Any]) -> None:
    known = {name: getattr(settings, name) for name in EvaluationSettings.model_fields}
    with publish(path) as fresh:
        fresh.write_text(json.dumps({"run": run, "settings": known, **outcome}, indent=1), encoding="utf-8")


def load_result(path: Path, run: str, kind: type[T]) -> StoredResult[T]:
    """Read what :func:`save_result` wrote from a ``kind``; arrays come back with the dtype that the field declares.

    Raises:
        NotMeasurable: it is what :func:`save_why_not` wrote.
        BadResult: it was not written yet, or the file is damaged, of another version, or of another checkpoint.
    """
    if not path.exists():
        raise BadResult(f"There is no {path.stem} result at {path}: materialise {path.stem} first.")
    try:
        stored = json.loads(path.read_text("utf-8"))
        found_run, settings = stored["run"], EvaluationSettings.model_validate(stored["settings"])
        why_not = stored.get("why_not")
        found = None if why_not else TypeAdapter(kind).validate_python(stored["result"])
    except (ValueError, TypeError, KeyError) as error:
        raise BadResult(f"{path} is damaged or of another version: materialise {path.stem} again ({error}).") from None
    if found_run != run:
        raise BadResult(f"{path} is of the checkpoint {found_run} and not of {run}: materialise {path.stem} again.")
    if found is None:
        raise NotMeasurable(why_not)
    return StoredResult(run, settings, found)
