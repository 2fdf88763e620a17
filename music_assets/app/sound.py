"""Sound for the page, rendered in processes of its own because the renderer holds the GIL."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from music_assets.foundation.isolation import WorkerFailure, run_isolated
from music_assets.rendering.audio import OGG_RATE, WORKER_SECONDS, RenderError, encode_ogg, render_signal

MOST_SECONDS = 300.0
"""Of sound that is rendered: about 1.5 MB."""


class Heard(NamedTuple):
    """A part of a MIDI file."""

    midi: bytes
    begin: float = 0.0
    end: float = MOST_SECONDS


def sounds(parts: Sequence[Heard]) -> list[bytes | None]:
    """OGG Vorbis of each part; None where there is nothing to hear."""
    found: list[bytes | None] = [None] * len(parts)
    workers = min(os.cpu_count() or 1, len(parts))
    for (index, _), ogg in run_isolated(_sound, [*enumerate(parts)], workers=workers, chunk=1, seconds=WORKER_SECONDS):
        found[index] = None if isinstance(ogg, WorkerFailure) else ogg
    return found


def _sound(numbered: tuple[int, Heard]) -> bytes | None:
    midi, begin, end = numbered[1]
    try:
        signal = render_signal(midi, end)[round(begin * OGG_RATE) :]
    except RenderError:
        return None
    return encode_ogg(signal) if len(signal) else None
