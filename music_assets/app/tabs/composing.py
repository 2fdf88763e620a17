"""Music from nothing: by the model, or by the network that knows a piano only."""

from typing import Any

import gradio as gr
from gradio.components import Component

from music_assets.app.context import Model, Studio
from music_assets.app.events import on
from music_assets.app.presets import preset
from music_assets.app.sources import Source
from music_assets.app.tabs.files import chosen_take
from music_assets.app.tabs.panel import Panel, play_when_written
from music_assets.app.tabs.wishes import Wishes
from music_assets.app.takes import Batch, like
from music_assets.generation.request import Request
from music_assets.generation.task import BadRequest

LIKE = "Like this one"


def compose_tab(studio: Studio, model: Model, tab: str, made: gr.Markdown) -> None:
    """Wishes, and the candidates that they come to."""
    wishes = Wishes(model, "compose")
    with gr.Row(elem_classes="commands"):
        write = gr.Button("Compose", variant="primary", elem_id=f"{tab}-write")
        another = gr.Button("Another one", elem_id=f"{tab}-another")
        usual = gr.Button("Genre preset", elem_id=f"{tab}-usual")
        stop = gr.Button("Stop", elem_id=f"{tab}-stop")
        plays = play_when_written(tab)
    panel = Panel(studio, model, tab, made, plays, [LIKE])

    def ask(values: dict[Component, Any]) -> tuple[Request, Source | None]:
        return wishes.request(values), None

    def as_usual(genre: str | None) -> dict[Component, Any]:
        return wishes.filled(preset(studio.paths, model, genre))

    on(usual.click, as_usual, wishes.fields["genre"], wishes.inputs)
    panel.stops_on(stop)
    panel.writes_on(write.click, ask, wishes.inputs)
    panel.writes_on(next_seed(another, wishes).then, ask, wishes.inputs)
    for number, column in enumerate(panel.columns):

        def alike(batch: Batch | None, index: int = number) -> dict[Component, Any]:
            found, take = chosen_take(batch, index)
            if not take.candidate.note_count:
                raise BadRequest("It has no notes to be like: choose another candidate.")
            return wishes.filled(like(take, found.facts, model.can))

        filled = on(column.actions[LIKE].click, alike, panel.batch, wishes.inputs)
        panel.writes_on(next_seed(filled.success, wishes).then, ask, wishes.inputs)


def next_seed(trigger: Any, wishes: Wishes) -> Any:
    """After a button, or what is behind it, the seed is the next one; what to have follow that."""
    seed = wishes.fields["seed"]
    return on(trigger.click if isinstance(trigger, gr.Button) else trigger, lambda now: int(now or 0) + 1, seed, seed)
