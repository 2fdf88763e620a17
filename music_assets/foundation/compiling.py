# numba has no types
# pyright: standard
"""Functions that numba compiles and keeps."""

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba.core import caching
from numba.core import config as numba_config
from numba.core.dispatcher import Dispatcher

from music_assets.foundation.hashing import hexdigest

_config: Any = numba_config
_CONSTANTS = (int, float, str, bytes, tuple, range, np.generic)


def njit(*signature: Any, **options: Any) -> Callable[[FunctionType], Any]:
    """:func:`numba.njit`, kept on disk until the function, or a constant that it reads, is another one.

    numba itself looks at the file that a function is in: one that has been compiled with a constant of another file
    would keep its old value.
    """

    def compiled(function: FunctionType) -> Any:
        usual = _config.CACHE_LOCATOR_CLASSES
        _config.CACHE_LOCATOR_CLASSES = ",".join(f"{__name__}.{cls.__name__}" for cls in (Asked, InTree, UserWide))
        try:
            return numba.njit(*signature, cache=True, **options)(function)
        finally:
            _config.CACHE_LOCATOR_CLASSES = usual

    return compiled


def constants_read(function: FunctionType) -> str:
    """A hash of the module's constants that a function reads, and of the compiled ones that it calls with theirs.

    Names of the module alone are looked at, not attributes of others, nor what a function within the function reads.
    """
    found: dict[str, Any] = {}
    for name in sorted(function.__code__.co_names):
        value = function.__globals__.get(name)
        if isinstance(value, np.ndarray):
            found[name] = (str(value.dtype), value.shape, value.tobytes())
        elif isinstance(value, _CONSTANTS):
            found[name] = value
        elif isinstance(value, Dispatcher) and value.py_func is not function:
            found[name] = (inspect.getsource(value.py_func), constants_read(value.py_func))
    return hexdigest(repr(found))


class _Locator:
    """Where a function is kept, and what it must be like to be taken from there."""

    def __init__(self, function: FunctionType, file: str) -> None:
        super().__init__(function, file)  # pyright: ignore[reportCallIssue], of numba's class beside this one
        self._constants = constants_read(function)

    def get_source_stamp(self) -> Any:
        return super().get_source_stamp(), self._constants  # pyright: ignore[reportAttributeAccessIssue]


class Asked(_Locator, caching.UserProvidedCacheLocator):
    """In the folder that NUMBA_CACHE_DIR names."""


class InTree(_Locator, caching.InTreeCacheLocator):
    """Beside the function's file."""


class UserWide(_Locator, caching.UserWideCacheLocator):
    """In the user's cache, where the file's folder cannot be written to."""
