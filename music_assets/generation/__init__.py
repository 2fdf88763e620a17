"""Asking a checkpoint for music.

from music_assets.generation import champion, generate
pieces = generate(champion("gpt"), genre="reel", bars=16)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from music_assets.generation.generate import champion, generate, stream
    from music_assets.generation.request import Request, make_request

__all__ = ["Request", "champion", "generate", "make_request", "stream"]

_HOMES = {"Request": "request", "make_request": "request"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'generate')}"), name)
