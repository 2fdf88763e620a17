"""Permissions of files that bind also tests which run as root."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_OVERRIDES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_VERSION_3 = 0x20080522


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Let permissions bind this thread; not the processes that it starts."""
    if os.geteuid() != 0:
        yield
        return
    libc, header, data = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    effective = data[0]
    data[0] = effective & ~_OVERRIDES
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = effective
        libc.capset(header, data)


def bound(*command: str) -> list[str]:
    """A command whose process and all that it starts are bound by permissions."""
    if os.geteuid() != 0:
        return [*command]
    if shutil.which("setpriv") is None:
        pytest.skip("root gives up its rights by setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
