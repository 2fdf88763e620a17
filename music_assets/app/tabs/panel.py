"""Candidates side by side: their rolls while they are written, their files, and how they were made."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from music_assets.app.context import Model, Studio
from music_assets.app.events import NETWORK, SOUND, on, waiting
from music_assets.app.roll import Roll
from music_assets.app.sound import Heard, sounds
from music_assets.app.sources import Source
from music_assets.app.state import MOST_CANDIDATES, take_roll
from music_assets.app.takes import Batch, write
from music_assets.generation.request import Request
from music_assets.rendering.pictures import pianoroll_png


@dataclass(frozen=True)
class _Column:
    box: gr.Column
    roll: Roll
    downloads: tuple[gr.DownloadButton, ...]  # .mid, .ogg, .png
    actions: dict[str, gr.Button]


class Panel:
    """The candidates of one tab.

    Args:
        actions: what can be done with a candidate: buttons under each.
        made: where the About tab says how what is on screen was made.
        plays: whether the first candidate plays as soon as it can.
    """

    def __init__(
        self,
        studio: Studio,
        model: Model,
        tab: str,
        made: gr.Markdown,
        plays: gr.Checkbox,
        actions: Sequence[str] = (),
    ) -> None:
        self.studio, self.model, self.tab, self.made, self.plays = studio, model, tab, made, plays
        self.batch = gr.State(None)
        self.status = gr.Markdown("", elem_classes="status", elem_id=f"{tab}-status")
        with gr.Row(elem_classes="candidates"):
            self.columns = [self._column(number, actions) for number in range(1, MOST_CANDIDATES + 1)]
        self.command = gr.Code(
            None, label="The command that asks for the same", language="shell", visible=False, lines=1,
            wrap_lines=True, buttons=["copy"],
        )  # fmt: skip

    def _column(self, number: int, actions: Sequence[str]) -> _Column:
        with gr.Column(visible=False, min_width=320, elem_id=f"{self.tab}-{number}") as box:
            roll = Roll(label=f"Candidate {number}")
            with gr.Row(elem_classes="files"):
                downloads = tuple(
                    gr.DownloadButton(suffix, size="sm", min_width=60, interactive=False)
                    for suffix in (".mid", ".ogg", ".png")
                )
                buttons = {name: gr.Button(name, size="sm", min_width=80, interactive=False) for name in actions}
        return _Column(box, roll, downloads, buttons)

    @property
    def outputs(self) -> set[Component | gr.Column]:
        """All that writing changes."""
        changed: set[Component | gr.Column] = {self.batch, self.status, self.command, self.made}
        for column in self.columns:
            changed |= {column.box, column.roll, *column.downloads, *column.actions.values()}
        return changed

    def stops_on(self, stop: gr.Button) -> None:
        """Have a button stop the writing; what is written is kept."""

        def halt(page: gr.Request) -> None:
            self.studio.stops.stop(str(page.session_hash), self.tab)

        on(stop.click, halt, queue=False)

    def writes_on(
        self,
        trigger: Callable[..., Any],
        ask: Callable[[dict[Component, Any]], tuple[Request, Source | None]],
        inputs: set[Component],
    ) -> None:
        """Have an event write what ``ask`` finds wished for in the inputs."""

        def run(values: dict[Component, Any], page: gr.Request) -> Generator[dict[Any, Any]]:
            request, source = ask(values)
            yield from self._write(request, source, page)

        def begin(page: gr.Request) -> None:
            self.studio.stops.begin(str(page.session_hash), self.tab)

        on(trigger, begin, queue=False)
        written = on(trigger, run, inputs, self.outputs, **waiting(NETWORK, self.status))
        on(written.success, self._sound, [self.batch, self.plays], self.outputs, **waiting(SOUND, self.status))

    def _write(self, request: Request, source: Source | None, page: gr.Request) -> Generator[dict[Any, Any]]:
        flag = self.studio.stops.take(str(page.session_hash), self.tab)
        try:
            yield {self.status: "Reading the wishes.", **self._emptied(request.count)}
            before: Batch | None = None
            for batch in write(self.model.checkpoint, request, flag, source):
                yield self._grown(page, batch, before)
                before = batch
        finally:
            self.studio.stops.end(str(page.session_hash), self.tab, flag)

    def _emptied(self, count: int) -> dict[Any, Any]:
        updates: dict[Any, Any] = {self.batch: None, self.command: gr.update(visible=False)}
        for number, column in enumerate(self.columns):
            updates[column.box] = gr.update(visible=number < count)
            updates[column.roll] = None
            updates |= {each: gr.update(value=None, interactive=False) for each in column.downloads}
            updates |= {each: gr.update(interactive=False) for each in column.actions.values()}
        return updates

    def _grown(self, page: gr.Request, batch: Batch, before: Batch | None) -> dict[Any, Any]:
        updates: dict[Any, Any] = {self.batch: batch, self.status: batch.progress}
        for number, (column, take) in enumerate(zip(self.columns, batch.takes, strict=False)):
            if before is None or batch.done or take.written != before.takes[number].written:
                updates[column.roll] = take_roll(batch, take)
            if batch.done:
                midi = kept(self.studio, page, column.downloads[0], take.candidate.midi, f"{batch.name(take)}.mid")
                updates[column.downloads[0]] = gr.update(value=midi, interactive=True)
                updates |= {each: gr.update(interactive=True) for each in column.actions.values()}
        if batch.done:
            updates[self.command] = gr.update(value=batch.command, visible=True)
            updates[self.made] = how_made(batch)
        return updates

    def _sound(self, batch: Batch | None, plays: bool, page: gr.Request) -> dict[Any, Any]:
        if batch is None:
            return {self.status: gr.skip()}
        oggs = sounds([Heard(take.candidate.midi) for take in batch.takes])
        updates: dict[Any, Any] = {self.status: batch.progress}
        for number, (column, take, ogg) in enumerate(zip(self.columns, batch.takes, oggs, strict=False)):
            name, (_, sound, picture) = batch.name(take), column.downloads
            updates[column.roll] = take_roll(batch, take, ogg, plays=plays and number == 0)
            png = pianoroll_png(take.candidate.score, f"{name} ({batch.facts.architecture})")
            updates[picture] = gr.update(value=kept(self.studio, page, picture, png, f"{name}.png"), interactive=True)
            if ogg is not None:
                updates[sound] = gr.update(value=kept(self.studio, page, sound, ogg, f"{name}.ogg"), interactive=True)
        return updates


def play_when_written(tab: str) -> gr.Checkbox:
    """Whether the first candidate plays as soon as it can."""
    return gr.Checkbox(True, label="Play when written", container=False, min_width=160, elem_id=f"{tab}-plays")


def kept(studio: Studio, page: gr.Request, component: Component, data: bytes, name: str) -> str:
    """Bytes as a file that the page may download until it is closed."""
    return studio.pages.keep(str(page.session_hash), data, name, component.GRADIO_CACHE)


def how_made(batch: Batch) -> str:
    """What the About tab says of music."""
    ends = ", ".join(f"{take.candidate.index + 1}: {_ENDINGS[take.candidate.ended]}" for take in batch.takes)
    file = "" if batch.source is None else f"\n\nIt needs the file `{batch.source.name}` in the folder it is run in."
    return f"```shell\n{batch.command}\n```{file}\n\nHow the candidates came to their end: {ends}."


_ENDINGS = {
    "network": "the network ended it",
    "length": "as long as asked for",
    "limit": "as long as may be",
    "stopped": "stopped",
}
