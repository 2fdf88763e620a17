"""The piano roll of the studio: it draws music while it is written, plays it, and lets bars be chosen."""

from abc import ABCMeta
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import gradio as gr
import numpy as np
from gradio.component_meta import ComponentMeta, updateable
from numpy.typing import NDArray

from music_assets.foundation.midi.programs import DRUMS, instrument_name
from music_assets.rendering.pictures import COLOURS, DRUM_COLOUR
from music_assets.tokens.remi import NoteArray

NEW, REPLACED = 1, 2
"""Layers of notes: newly written over an original, and what of the original they replace; all else is 0."""

_HERE = Path(__file__).parent
_COLUMNS = 6
_TEMPLATE = """
<div class="roll">
  <div class="roll-head">
    <button type="button" class="roll-play" aria-label="Play">
      <svg class="roll-triangle" viewBox="0 0 16 16" aria-hidden="true"><path d="M3 1l11 7-11 7z"/></svg>
      <svg class="roll-bars-sign" viewBox="0 0 16 16" aria-hidden="true"><path d="M3 1h4v14H3zM9 1h4v14H9z"/></svg>
    </button>
    <span class="roll-title" dir="auto"></span>
    <span class="roll-time"></span>
    <span class="roll-tools">
      <button type="button" class="roll-loop" aria-pressed="false" aria-label="Loop" title="Loop">
        <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M11 0l4 3.5L11 7V4.5H3V8H1V2.5h10z"/>
          <path d="M5 16l-4-3.5L5 9v2.5h8V8h2v5.5H5z"/></svg>
      </button>
      <button type="button" class="roll-narrower" aria-label="Zoom out" title="Zoom out">
        <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M2 7h12v2H2z"/></svg>
      </button>
      <button type="button" class="roll-wider" aria-label="Zoom in" title="Zoom in">
        <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M7 2h2v5h5v2H9v5H7V9H2V7h5z"/></svg>
      </button>
    </span>
  </div>
  <div class="roll-scroller" tabindex="0" role="application" aria-roledescription="piano roll">
    <div class="roll-extent">
      <div class="roll-frame">
        <canvas class="roll-ruler" aria-hidden="true"></canvas>
        <canvas class="roll-notes" aria-hidden="true"></canvas>
        <div class="roll-chosen"></div>
        <div class="roll-head-line"></div>
        <div class="roll-empty"></div>
      </div>
    </div>
  </div>
  <div class="roll-legend" role="group" aria-label="Instruments"></div>
  <div class="roll-foot">
    <span class="roll-range" aria-live="polite"></span>
    <button type="button" class="roll-clear" hidden>Clear</button>
    <span class="roll-hint"></span>
  </div>
  <span class="roll-unseen roll-live" aria-live="polite"></span>
  <span class="roll-unseen roll-help"></span>
  <audio preload="auto"></audio>
</div>
"""


class RollValue(TypedDict):
    """What a roll shows; times in seconds."""

    title: str
    notes: Sequence[Sequence[float]]  # start, duration, pitch, velocity, program (128 for drums), layer
    bars: Sequence[float]  # the start of each bar that is written, and the end of the last
    audio: str | None  # a data URI, or an address on the page's own server
    seconds: float
    done: bool
    expected_bars: int | None
    plays_from: NotRequired[float | None]  # where it begins to play as soon as there is audio, if nothing else plays


class Selection(NamedTuple):
    """Bars that were chosen, counted from 1, the last included; one instrument or, with None, all."""

    from_bar: int
    to_bar: int
    instrument: int | None


class _WithoutStub(ComponentMeta):
    """Gradio writes a stub beside the file of every new component; type checkers would read it instead of this file."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> "_WithoutStub":
        attrs["__init__"] = updateable(attrs["__init__"])
        return ABCMeta.__new__(cls, name, bases, attrs)


class Roll(gr.HTML, metaclass=_WithoutStub):
    """A piano roll with playback.

    Its value is a :class:`RollValue` or None. While music is written, set it again and again with ``done`` false:
    zoom, scroll position, colours, playhead and selection stay as long as the bars that both have stand where
    they stood. A listener that does so should say ``show_progress="hidden"``, for Gradio fades what it waits for.

    With ``selectable``, bars are chosen by dragging (shift+click extends), by shift+arrows, and one instrument by
    its chip in the legend; an instrument without bars is the instrument in all bars that are written. Escape
    clears. Whenever the selection changes, also when new music ends it, ``select`` is triggered; the event's value
    is ``{"from_bar": 1, "to_bar": 2, "instrument": 40}`` or None::

        import gradio as gr
        from music_assets.app.roll import Roll, Selection, selection_of

        def chosen(event: gr.SelectData) -> Selection | None:
            return selection_of(event.value)

        def say(selection: Selection | None) -> str:
            return "nothing" if selection is None else f"bars {selection[0]} to {selection[1]}"

        value = {"title": "Scale", "notes": [[i / 2, 0.5, 60 + i, 90, 0, 0] for i in range(8)], "bars": [0, 2, 4],
                 "audio": None, "seconds": 4, "done": True, "expected_bars": None}
        with gr.Blocks() as demo:
            roll, selection, said = Roll(value, label="Music", selectable=True), gr.State(), gr.Textbox()
            roll.select(chosen, outputs=selection, queue=False, trigger_mode="multiple").then(
                say, selection, said
            )
        demo.launch()

    ``multiple`` matters: by default Gradio drops a selection that comes while an earlier one is still handled, and
    with ``always_last`` it comes without its bars.
    ``selectable`` can be changed by ``gr.update(selectable=...)``. CSS may set ``--roll-height``.
    """

    def __init__(
        self,
        value: RollValue | Callable[..., RollValue | None] | None = None,
        *,
        label: str | None = None,
        selectable: bool = False,
        **options: Any,
    ) -> None:
        self.selectable = selectable
        super().__init__(
            value,
            label=label,
            html_template=_TEMPLATE,
            css_template=(_HERE / "roll.css").read_text(encoding="utf-8"),
            js_on_load=(_HERE / "roll.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            selectable=selectable,
            palette=list(COLOURS),
            drum_colour=DRUM_COLOUR,
            names=[instrument_name(program) for program in range(DRUMS + 1)],
            **options,
        )

    def postprocess(self, value: RollValue | None) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As the browser reads it: Gradio would watch every list of notes, a text it compares at once."""
        if value is None:
            return None
        rows = (
            f"{round(float(start), 4)},{round(float(duration), 4)},{','.join(str(int(fact)) for fact in facts)}"
            for start, duration, *facts in value["notes"]
        )
        return {
            "title": str(value["title"]),
            "notes": ",".join(rows),
            "bars": [round(float(bar), 4) for bar in value["bars"]],
            "audio": value.get("audio"),
            "seconds": float(value["seconds"]),
            "done": bool(value["done"]),
            "expected_bars": value.get("expected_bars"),
            "plays_from": value.get("plays_from"),
        }

    def preprocess(self, payload: dict[str, Any] | None) -> RollValue | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The value, as it was set."""
        if payload is None:
            return None
        numbers = [float(number) for number in payload["notes"].split(",") if number]
        notes = [
            [*numbers[at : at + 2], *map(int, numbers[at + 2 : at + _COLUMNS])]
            for at in range(0, len(numbers), _COLUMNS)
        ]
        return RollValue(**{**payload, "notes": notes})

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}

    def example_payload(self) -> None:
        return None

    def example_value(self) -> None:
        return None


def selection_of(payload: Any) -> Selection | None:
    """The selection that an event carries; None also for what no roll sends, for it comes from a browser."""
    match payload:
        case {"from_bar": int(first), "to_bar": int(last), "instrument": int() | None as instrument}:
            known = instrument is None or 0 <= instrument <= DRUMS
            return Selection(first, last, instrument) if 1 <= first <= last and known else None
    return None


def notes_of(
    notes: NoteArray, layer: int = 0, seconds_at: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
) -> list[list[float]]:
    """Rows for a roll; ``seconds_at`` maps beats to seconds, without it the first tempo holds throughout."""
    at = seconds_at or (lambda beats: beats * 60 / notes.tempo)
    starts = at(notes.onset)
    durations = at(notes.onset + notes.duration) - starts
    columns = (starts, durations, notes.pitch, notes.velocity, notes.program)
    return [[*row, layer] for row in zip(*(column.tolist() for column in columns), strict=True)]


def bars_of(
    notes: NoteArray, seconds_at: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
) -> list[float]:
    """The start of each bar and the end of the last, in seconds as in :func:`notes_of`."""
    at = seconds_at or (lambda beats: beats * 60 / notes.tempo)
    lines = np.append(notes.bar_starts, (notes.bar_starts + notes.bar_lengths)[-1:])
    return at(lines).tolist()
