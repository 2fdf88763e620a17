"""The fields in which a person says what is wished for; only those that the checkpoint can do."""

from collections.abc import Mapping
from typing import Any, Literal

import gradio as gr
from gradio.components import Component

from music_assets.app.context import Model
from music_assets.app.state import MOST_BARS, MOST_CANDIDATES, page_request
from music_assets.app.takes import knows_density
from music_assets.generation.request import Request

Kind = Literal["compose", "continue", "fill"]
BARS, CANDIDATES = 8, 2
"""What a page begins with."""
_NOTES = ("C", "C#", "Db", "D", "Eb", "E", "F", "F#", "G", "G#", "Ab", "A", "Bb", "B")
_ANY = "Up to the network"


class Wishes:
    """Fields by the name of what they ask for; ``tonic`` and ``scale`` make a key."""

    def __init__(self, model: Model, kind: Kind) -> None:
        self.model, self.kind = model, kind
        self.fields: dict[str, Component] = {}
        self._main()
        with gr.Accordion("More", open=False):
            self._more()

    @property
    def inputs(self) -> set[Component]:
        """What an event reads; with sets Gradio gives values by component."""
        return {*self.fields.values()}

    def request(self, values: Mapping[Component, Any], **fixed: Any) -> Request:
        """The request of the fields, and of what else is known."""
        return page_request({name: values[field] for name, field in self.fields.items()} | fixed)

    def filled(self, wishes: Mapping[str, Any]) -> dict[Component, Any]:
        """Updates that write wishes into the fields, and empty the other ones that music can be like."""
        tonic, _, scale = wishes.get("key", "").partition(" ")
        told = {"instruments": [], "tempo": None, "density": None, "tonic": tonic, "scale": scale} | {
            name: round(wish, 2) if isinstance(wish, float) else wish for name, wish in wishes.items()
        }
        return {field: gr.update(value=told[name]) for name, field in self.fields.items() if name in told}

    def _main(self) -> None:
        can, fields = self.model.can, self.fields
        with gr.Row():
            genres = [("Any", ""), *can.genres]
            fields["genre"] = gr.Dropdown(genres, value=can.genres[0] if can.genres else "", label="Genre")
            if can.instruments and self.kind != "fill":
                fields["instruments"] = gr.Dropdown(
                    [*can.instruments], value=[], multiselect=True,
                    label=f"Instruments (none: {'up to the network' if self.kind == 'compose' else 'as in the file'})",
                )  # fmt: skip
            if self.kind != "fill":
                fields["bars"] = gr.Slider(1, MOST_BARS, BARS, step=1, label="Bars", min_width=200)
            fields["count"] = gr.Slider(1, MOST_CANDIDATES, CANDIDATES, step=1, label="Candidates", min_width=200)

    def _more(self) -> None:
        can, fields = self.model.can, self.fields
        with gr.Row():
            fields["tonic"] = gr.Dropdown([(_ANY, ""), *_NOTES], value="", label="Key")
            fields["scale"] = gr.Dropdown([("–", ""), *can.scales], value="", label="Scale")
            if self.kind != "fill":
                slowest, fastest = can.tempos
                fields["tempo"] = gr.Number(
                    None, minimum=slowest, maximum=fastest, label="Tempo (beats a minute)", placeholder=_ANY
                )
                signatures = [(_ANY, ""), *can.time_signatures]
                if can.time_signatures:
                    fields["time_signature"] = gr.Dropdown(signatures, value="", label="Time signature")
            if self.model.reads_tokens and knows_density(self.model.facts):
                fields["density"] = gr.Number(
                    None, minimum=0.01, maximum=64, step=0.1, label="Density (notes a beat)", placeholder=_ANY
                )
        with gr.Row():
            default = {name: field.default for name, field in Request.model_fields.items()}
            fields["temperature"] = gr.Slider(
                0.1, 2, default["temperature"], step=0.05, label="Temperature", info="Below 1 safer, above 1 wilder"
            )
            fields["top_p"] = gr.Slider(
                0.05, 1, default["top_p"], step=0.01, label="Top-p", info="Share of likeliest choices that are kept"
            )
            fields["guidance"] = gr.Slider(
                0, 5, default["guidance"], step=0.1, label="Guidance", info="How strongly genre and wishes steer"
            )
            if self.model.remembers:
                fields["forgetting"] = gr.Slider(
                    0, 1, default["forgetting"], step=0.01, label="Forgetting", info="The more, the less it repeats"
                )
            if not self.model.reads_tokens:
                fields["repetition_penalty"] = gr.Slider(
                    1, 5, default["repetition_penalty"], step=0.1, label="Repetition penalty",
                    info="How much rarer what was just played becomes",
                )  # fmt: skip
            fields["seed"] = gr.Number(
                0, precision=0, minimum=0, maximum=2**53, label="Seed", info="The same seed makes the same again"
            )
