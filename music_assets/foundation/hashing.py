"""Hashes that tell contents apart."""

import hashlib
from pathlib import Path


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
