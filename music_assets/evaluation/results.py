"""Results as JSON files: what one step of the evaluation found, for the next one and for people."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.publishing import publish

T = TypeVar("T")


class BadResult(MusicAssetsError):
    """A result that is missing, or a file that does not hold the one it should."""


class NotMeasurable(MusicAssetsError):
    """The pieces or samples do not allow a measure; the message says what they lack."""


def save_result(path: Path, run: str, result: object) -> None:
    """Write what was found of the checkpoint ``run``: a dataclass of numbers, strings, arrays, sequences, mappings and
    other such dataclasses.
    """
    with publish(path) as fresh:
        fresh.write_text(json.dumps({"run": run, "result": _plain(result)}, indent=1), encoding="utf-8")


def save_why_not(path: Path, run: str, why_not: str) -> None:
    """In the place of a result: why there is none of the checkpoint ``run``, one sentence."""
    with publish(path) as fresh:
        fresh.write_text(json.dumps({"run": run, "why_not": why_not}, indent=1), encoding="utf-8")


def load_result(path: Path, run: str, kind: type[T]) -> T:
    """Read what :func:`save_result` wrote from a ``kind``; arrays come back with the dtype that the field declares.

    Raises:
        NotMeasurable: what :func:`save_why_not` wrote.
        BadResult: it was not written yet, is damaged, of another version, or of another checkpoint than ``run``.
    """
    if not path.exists():
        raise BadResult(f"There is no {path.stem} result at {path}: materialise {path.stem} first.")
    try:
        stored = json.loads(path.read_text("utf-8"))
        found, why_not = stored["run"], stored.get("why_not")
        result = [] if why_not else [_typed(stored["result"], kind)]
    except (ValueError, TypeError, KeyError) as error:
        raise BadResult(f"{path} is damaged or of another version: materialise {path.stem} again ({error}).") from None
    if found != run:
        raise BadResult(f"{path} is of the checkpoint {found} and not of {run}: materialise {path.stem} again.")
    if why_not:
        raise NotMeasurable(why_not)
    return result[0]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _typed(value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: _typed(value[field.name], hints[field.name]) for field in dataclasses.fields(kind)})  # type: ignore[operator]
    if origin is np.ndarray:
        return np.array(value, dtype=typing.get_args(arguments[1])[0])
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _typed(value, next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple and len(arguments) == 2 and arguments[1] is not Ellipsis:
        return tuple(_typed(item, part) for item, part in zip(value, arguments, strict=True))
    if isinstance(origin, type) and issubclass(origin, tuple):
        return tuple(_typed(item, arguments[0]) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _typed(item, arguments[1]) for key, item in value.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [_typed(item, arguments[0]) for item in value]
    return value
