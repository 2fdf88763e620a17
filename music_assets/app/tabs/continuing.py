"""A file that goes on: from which bar, what comes, and how it joins on."""

from typing import Any

import gradio as gr
from gradio.components import Component

from music_assets.app.context import Model, Studio
from music_assets.app.events import SOUND, on, waiting
from music_assets.app.roll import Roll, Selection, selection_of
from music_assets.app.sources import Source
from music_assets.app.state import part, source_roll
from music_assets.app.tabs.composing import next_seed
from music_assets.app.tabs.files import chosen_take, excerpt, heard, needed, received, upload, with_sound
from music_assets.app.tabs.panel import Panel, kept, play_when_written
from music_assets.app.tabs.wishes import Wishes
from music_assets.app.takes import Batch
from music_assets.generation.request import Request

JOIN = "Hear the join"


def continue_tab(studio: Studio, model: Model, made: gr.Markdown) -> None:
    """A file, the bar to go on from, wishes, and the candidates."""
    tab, source = "continue", gr.State(None)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            file = upload(tab, "MIDI file to go on from")
            first = gr.Number(
                None, precision=0, minimum=2, label="First new bar", elem_id=f"{tab}-first",
                placeholder="Behind the last", info="Or choose it on the roll",
            )  # fmt: skip
        with gr.Column(scale=3, min_width=320):
            roll = Roll(label="Your file", selectable=True, elem_id=f"{tab}-source")
    wishes = Wishes(model, "continue")
    with gr.Row(elem_classes="commands"):
        go = gr.Button("Continue", variant="primary", elem_id=f"{tab}-write")
        another = gr.Button("Another one", elem_id=f"{tab}-another")
        stop = gr.Button("Stop", elem_id=f"{tab}-stop")
        plays = play_when_written(tab)
    panel = Panel(studio, model, tab, made, plays, [JOIN])
    join = heard("Two bars before the join and what follows")
    inputs = wishes.inputs | {source, first}

    def take_in(path: str | None, page: gr.Request) -> dict[Any, Any]:
        found = received(studio, page, path)
        shown = None if found is None else source_roll(found)
        most = None if found is None else found.bars + 1
        return {source: found, roll: shown, first: gr.update(value=None, maximum=most)}

    def ask(values: dict[Component, Any]) -> tuple[Request, Source | None]:
        own = needed(values[source])
        return wishes.request(values, continue_file=own.name, from_bar=values[first]), own

    def choose(event: gr.SelectData) -> Any:
        selection: Selection | None = selection_of(event.value)
        return gr.skip() if selection is None else max(selection.from_bar, 2)

    taken = on(file.change, take_in, file, [source, roll, first], **waiting(SOUND, panel.status))
    on(taken.success, with_sound, source, roll, **waiting(SOUND, panel.status))
    on(roll.select, choose, None, first, queue=False, trigger_mode="always_last")
    panel.stops_on(stop)
    panel.writes_on(go.click, ask, inputs)
    panel.writes_on(next_seed(another, wishes).then, ask, inputs)
    for number, column in enumerate(panel.columns):

        def joined(batch: Batch | None, page: gr.Request, index: int = number) -> Any:
            found, take = chosen_take(batch, index)
            ogg = excerpt(take.candidate.midi, part(found, take.candidate.score, take.written))
            return gr.update(value=kept(studio, page, join, ogg, "join.ogg"), visible=True)

        on(column.actions[JOIN].click, joined, panel.batch, join, **waiting(SOUND, panel.status))
