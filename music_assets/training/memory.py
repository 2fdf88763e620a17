"""Keeping the memory that every training step takes and gives back again."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's mallopt(3) with its default values.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 128 << 10, _MMAP_MAX: 65536}
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 256 << 20, _MMAP_MAX: 0}


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Let the C library keep freed memory while the block runs; without glibc, change nothing.

    By default it gives every large block back to the system and gets it again, page by page and filled with
    zeros, in the next operation; on a virtual machine that can cost more than the computation.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    for option, value in _KEEPING.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _DEFAULTS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
