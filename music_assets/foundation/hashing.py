"""Hashes that tell contents apart."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def hexdigest(*parts: str | bytes | memoryview, size: int = 16) -> str:
    """``size`` bytes of BLAKE2b over all parts as one text, in hexadecimal; strings count in UTF-8."""
    digest = hashlib.blake2b(digest_size=size)
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def file_sha256(file: Path) -> str:
    """The sha256 of a file's bytes in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def scatter(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The 64-bit finaliser of MurmurHash3: a bijection that changes half of the bits for every bit changed."""
    shift = np.uint64(33)
    numbers = (numbers ^ (numbers >> shift)) * np.uint64(0xFF51AFD7ED558CCD)
    numbers = (numbers ^ (numbers >> shift)) * np.uint64(0xC4CEB9FE1A85EC53)
    return numbers ^ (numbers >> shift)
