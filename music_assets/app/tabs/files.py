"""A person's own file on a tab: sent, shown, and a place in it chosen on the roll."""

from pathlib import Path
from typing import Any

import gradio as gr

from music_assets.app.context import Studio
from music_assets.app.sound import Heard, sounds
from music_assets.app.sources import Source, receive
from music_assets.app.state import source_roll
from music_assets.app.takes import Batch, Take
from music_assets.generation.task import BadRequest

TYPES = [".mid", ".midi", ".kar", ".rmi"]
CHOOSE = "Choose a MIDI file first."
_TELL = "() => { document.dispatchEvent(new Event('play')); }"


def upload(tab: str, label: str) -> gr.File:
    """Where a file is sent."""
    return gr.File(label=label, file_types=TYPES, type="filepath", height=140, elem_id=f"{tab}-file")


def heard(label: str) -> gr.Audio:
    """What plays a part of a candidate as soon as it is set; a roll that plays ends."""
    return ends_rolls(gr.Audio(label=label, visible=False, interactive=False, autoplay=True, buttons=[]))


def ends_rolls(audio: gr.Audio) -> gr.Audio:
    """Have rolls end when this plays: they hear all that begins on the page but what Gradio plays in a shadow."""
    audio.play(None, js=_TELL, api_visibility="private")
    return audio


def received(studio: Studio, page: gr.Request, path: str | None) -> Source | None:
    """The file that was sent, kept until the page is closed; None when it was taken away again."""
    if path is None:
        return None
    studio.pages.take(str(page.session_hash), Path(path))
    return receive(Path(path))


def with_sound(source: Source | None) -> Any:
    """The roll of a file with its sound."""
    return None if source is None else source_roll(source, sounds([Heard(source.data)])[0])


def needed(source: Source | None) -> Source:
    """The file. Raises BadRequest if there is none."""
    if source is None:
        raise BadRequest(CHOOSE)
    return source


def excerpt(midi: bytes, seconds: tuple[float, float]) -> bytes:
    """The sound of a part of a file. Raises BadRequest if there is none."""
    (ogg,) = sounds([Heard(midi, *seconds)])
    if ogg is None:
        raise BadRequest("There is nothing to hear in these bars.")
    return ogg


def chosen_take(batch: Batch | None, index: int) -> tuple[Batch, Take]:
    """A candidate on screen. Raises BadRequest if it is gone."""
    if batch is None or index >= len(batch.takes):
        raise BadRequest("This candidate is gone: have it written again.")
    return batch, batch.takes[index]
