"""Bars of a file written anew: chosen on the roll, heard before and after, accepted, undone."""

from typing import Any

import gradio as gr
from gradio.components import Component

from music_assets.app.context import Model, Studio
from music_assets.app.events import SOUND, on, waiting
from music_assets.app.roll import Roll, selection_of
from music_assets.app.sources import Source
from music_assets.app.state import History, part, source_roll
from music_assets.app.tabs.composing import next_seed
from music_assets.app.tabs.files import chosen_take, excerpt, heard, needed, received, upload, with_sound
from music_assets.app.tabs.panel import Panel, kept, play_when_written
from music_assets.app.tabs.wishes import Wishes
from music_assets.app.takes import Batch
from music_assets.foundation.midi.programs import instrument_name
from music_assets.generation.request import Request
from music_assets.generation.task import BadRequest

BEFORE, AFTER, ACCEPT = "Before", "After", "Accept"
_ALL = "All instruments"


def fill_tab(studio: Studio, model: Model, made: gr.Markdown) -> None:
    """A file, the bars to fill, the candidates, and the versions that were accepted."""
    tab, history = "fill", gr.State(History())
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            file = upload(tab, "MIDI file to fill")
            with gr.Row():
                first = gr.Number(
                    None,
                    precision=0,
                    minimum=1,
                    label="First bar",
                    placeholder="–",
                    min_width=90,
                    elem_id=f"{tab}-first",
                )
                last = gr.Number(
                    None, precision=0, minimum=1, label="Last bar", placeholder="–", min_width=90, elem_id=f"{tab}-last"
                )
            instrument = gr.Dropdown(
                [_ALL], value=_ALL, label="What is filled", info="Or drag over bars of the roll",
                elem_id=f"{tab}-instrument",
            )  # fmt: skip
        with gr.Column(scale=3, min_width=320):
            roll = Roll(label="Your file", selectable=True, elem_id=f"{tab}-source")
            with gr.Row(elem_classes="files"):
                undo = gr.Button("Undo", size="sm", interactive=False, elem_id=f"{tab}-undo")
                redo = gr.Button("Redo", size="sm", interactive=False, elem_id=f"{tab}-redo")
                download = gr.DownloadButton("Download .mid", size="sm", interactive=False, elem_id=f"{tab}-download")
    wishes = Wishes(model, "fill")
    with gr.Row(elem_classes="commands"):
        go = gr.Button("Fill", variant="primary", elem_id=f"{tab}-write")
        another = gr.Button("Another one", elem_id=f"{tab}-another")
        stop = gr.Button("Stop", elem_id=f"{tab}-stop")
        plays = play_when_written(tab)
    panel = Panel(studio, model, tab, made, plays, [BEFORE, AFTER, ACCEPT])
    sound = heard("These bars, and two around them")
    inputs = wishes.inputs | {history, first, last, instrument}
    shown = [history, roll, undo, redo, download, instrument, first, last]

    def show(now: History, page: gr.Request, fresh: bool = False) -> dict[Any, Any]:
        current = now.current
        updates: dict[Any, Any] = {
            history: now,
            roll: None if current is None else source_roll(current),
            undo: gr.update(interactive=now.can_undo),
            redo: gr.update(interactive=now.can_redo),
            download: gr.update(
                value=None if current is None else kept(studio, page, download, current.data, current.name),
                interactive=current is not None,
            ),
        }
        if fresh:
            names = [] if current is None else [instrument_name(program) for program in sorted(current.programs)]
            updates |= {instrument: gr.update(choices=[_ALL, *names], value=_ALL), first: None, last: None}
        return updates

    def take_in(path: str | None, page: gr.Request) -> dict[Any, Any]:
        found = received(studio, page, path)
        return show(History() if found is None else History().accepted(found), page, fresh=True)

    def ask(values: dict[Component, Any]) -> tuple[Request, Source | None]:
        own = needed(values[history].current)
        one = None if values[instrument] == _ALL else values[instrument]
        request = wishes.request(
            values, fill_file=own.name, from_bar=values[first], to_bar=values[last], instrument=one
        )
        return request, own

    def choose(event: gr.SelectData) -> dict[Any, Any]:
        selection = selection_of(event.value)
        if selection is None:
            return {first: None, last: None}
        name = _ALL if selection.instrument is None else instrument_name(selection.instrument)
        return {first: selection.from_bar, last: selection.to_bar, instrument: name}

    def sounding(now: History) -> Any:
        return with_sound(now.current)

    taken = on(file.change, take_in, file, shown, **waiting(SOUND, panel.status))
    on(taken.success, sounding, history, roll, **waiting(SOUND, panel.status))
    on(roll.select, choose, None, [first, last, instrument], queue=False, trigger_mode="multiple")
    panel.stops_on(stop)
    panel.writes_on(go.click, ask, inputs)
    panel.writes_on(next_seed(another, wishes).then, ask, inputs)
    for button, steps in ((undo, -1), (redo, 1)):

        def move(now: History, page: gr.Request, by: int = steps) -> dict[Any, Any]:
            return show(now.moved(by), page)

        moved = on(button.click, move, history, shown)
        on(moved.success, sounding, history, roll, **waiting(SOUND, panel.status))
    for number, column in enumerate(panel.columns):

        def before(batch: Batch | None, page: gr.Request, index: int = number) -> Any:
            found, take = chosen_take(batch, index)
            own = needed(found.source)
            ogg = excerpt(own.data, part(found, own.score, take.written))
            return gr.update(value=kept(studio, page, sound, ogg, "before.ogg"), visible=True)

        def after(batch: Batch | None, page: gr.Request, index: int = number) -> Any:
            found, take = chosen_take(batch, index)
            ogg = excerpt(take.candidate.midi, part(found, take.candidate.score, take.written))
            return gr.update(value=kept(studio, page, sound, ogg, "after.ogg"), visible=True)

        def accept(batch: Batch | None, now: History, page: gr.Request, index: int = number) -> dict[Any, Any]:
            found, take = chosen_take(batch, index)
            own = needed(found.source)
            if now.current is None or now.current.data != own.data:
                raise BadRequest("This candidate was written for another version of the file: undo, or fill again.")
            return show(now.accepted(own.changed(take.candidate.midi)), page)

        on(column.actions[BEFORE].click, before, panel.batch, sound, **waiting(SOUND, panel.status))
        on(column.actions[AFTER].click, after, panel.batch, sound, **waiting(SOUND, panel.status))
        accepted = on(column.actions[ACCEPT].click, accept, [panel.batch, history], shown)
        on(accepted.success, sounding, history, roll, **waiting(SOUND, panel.status))
