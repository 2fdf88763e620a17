"""A score as a picture: pitch over bars, coloured by program, drums in a strip of their own."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from symusic.core import ScoreTick

from music_assets.foundation.midi.programs import DRUMS
from music_assets.foundation.publishing import publish

# Ordered so that neighbours differ in hue and in lightness.
COLOURS = ("#3b6ea8", "#d9812e", "#4c9a62", "#a2559b", "#c0463e", "#5fb3c4", "#8a7a3a", "#e08fb0")
DRUM_COLOUR = "#55585f"
FONT, NO_GLYPH = "DejaVu Sans", "\N{WHITE SQUARE}"
MAX_BARS = 32
MIN_NOTE_SHARE = 0.002  # of the picture's width: shorter notes would vanish
PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def draw_pianoroll(
    score: ScoreTick, png: Path, title: str = "", width: int = 800, height: int = 300, dpi: int = 100
) -> None:
    """Write :func:`pianoroll_png` to a file."""
    with publish(png) as fresh:
        fresh.write_bytes(pianoroll_png(score, title, width, height, dpi))


def pianoroll_png(score: ScoreTick, title: str = "", width: int = 800, height: int = 300, dpi: int = 100) -> bytes:
    """Draw the first 32 bars of ``score`` as a PNG of ``width`` x ``height`` pixels.

    One colour a program (the legend names those with most notes), stronger notes darker; every bar has its
    line. A score without notes gives an empty roll that says so.
    """
    bars = _bar_lines(score)
    pitched, drums = _notes(score, bars[-1])
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    drum_share = 0.2 if len(drums["time"]) else 0.0
    left, right, bottom, top = 44 / width, 1 - 10 / width, 30 / height, 1 - 42 / height
    split = bottom + (top - bottom) * drum_share
    roll = figure.add_axes((left, split, right - left, top - split))
    _draw_notes(roll, pitched, _colours(pitched["program"]), bars[-1])
    _style(roll, bars)
    _label_pitches(roll, pitched["pitch"])
    lowest = roll
    if drum_share:
        lowest = figure.add_axes((left, bottom, right - left, split - bottom - 4 / height), sharex=roll)
        _draw_drums(lowest, drums)
        _style(lowest, bars)
        roll.tick_params(labelbottom=False)
    _label_bars(lowest, bars)
    if not len(pitched["time"]) and not drum_share:
        roll.text(0.5, 0.5, "no notes", transform=roll.transAxes, ha="center", va="center", color="#777777")
    shown, fonts = _drawable(title)
    figure.text(
        left,
        1 - 17 / height,
        shown,
        family=fonts,
        parse_math=False,
        fontsize=9.5,
        weight="bold",
        va="center",
        color="#222222",
    )
    _legend(figure, pitched["program"], left, 1 - 32 / height)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _drawable(text: str) -> tuple[str, list[str]]:
    """A line of text with ``NO_GLYPH`` for what no installed font can draw, and the fonts that draw the rest."""
    fonts, missing = [FONT], {ord(letter) for letter in text} - _characters(FONT)
    for name in _other_fonts() if missing else []:
        if found := missing & _characters(name):
            fonts.append(name)
            missing -= found
    return text.translate(dict.fromkeys(missing, NO_GLYPH)), fonts


@cache
def _characters(font: str) -> frozenset[int]:
    return frozenset(FT2Font(findfont(FontProperties(family=font, weight="bold"))).get_charmap())


@cache
def _other_fonts() -> list[str]:
    """The installed fonts, but for the one that has a box for every character."""
    names = {font.name for font in fontManager.ttflist}
    return sorted(name for name in names if name != FONT and not name.startswith("Last Resort"))


def _notes(score: ScoreTick, end: int) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Pitched notes and drum notes that start before ``end``, as columns; times in ticks."""
    columns: dict[bool, list[dict[str, NDArray[np.int64]]]] = {False: [], True: []}
    for track in score.tracks:
        notes = dict(track.notes.numpy())
        notes["program"] = np.full(len(track.notes), DRUMS if track.is_drum else track.program)
        columns[track.is_drum].append(notes)
    names = ("time", "duration", "pitch", "velocity", "program")

    def joined(parts: list[dict[str, NDArray[np.int64]]]) -> dict[str, NDArray[np.int64]]:
        table = {name: np.concatenate([np.zeros(0, np.int64), *(part[name] for part in parts)]) for name in names}
        shown = table["time"] < end
        return {name: column[shown] for name, column in table.items()}

    return joined(columns[False]), joined(columns[True])


def _bar_lines(score: ScoreTick) -> NDArray[np.int64]:
    """Ticks of the bar lines from 0 to the end of the last bar shown; 4/4 where no time signature stands."""
    changes = {0: 4 * score.ticks_per_quarter}
    for signature in score.time_signatures:
        length = 4 * score.ticks_per_quarter * signature.numerator // signature.denominator
        changes[signature.time] = max(length, 1)
    lines, length, end = [0], changes[0], max(score.end(), 1)
    starts = sorted(changes)
    while lines[-1] < end and len(lines) <= MAX_BARS:
        while starts and starts[0] <= lines[-1]:
            length = changes[starts.pop(0)]
        lines.append(lines[-1] + length)
    return np.array(lines)


def _ranked(programs: NDArray[np.int64]) -> list[int]:
    """The programs, those with most notes first."""
    values, counts = np.unique(programs, return_counts=True)
    return [int(value) for value in values[np.argsort(-counts, kind="stable")]]


def _colours(programs: NDArray[np.int64]) -> NDArray[np.float64]:
    """RGB of every note, float (n, 3)."""
    palette = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS])
    colours = np.zeros((len(programs), 3))
    for rank, program in enumerate(_ranked(programs)):
        colours[programs == program] = palette[rank % len(palette)]
    return colours


def _draw_notes(axes: Axes, notes: dict[str, NDArray[np.int64]], colours: NDArray[np.float64], end: int) -> None:
    left = notes["time"]
    right = left + np.maximum(notes["duration"], end * MIN_NOTE_SHARE)
    low, high = notes["pitch"] - 0.42, notes["pitch"] + 0.42
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    alpha = 0.55 + 0.45 * notes["velocity"] / 127
    faces = np.column_stack([colours, alpha])
    axes.add_collection(PolyCollection(list(corners), facecolors=faces, linewidths=0))


def _draw_drums(axes: Axes, drums: dict[str, NDArray[np.int64]]) -> None:
    kinds, row = np.unique(drums["pitch"], return_inverse=True)
    axes.scatter(drums["time"], row, s=7, marker="|", linewidths=1.1, c=DRUM_COLOUR)
    axes.set_ylim(-0.8, len(kinds) - 0.2)
    axes.set_yticks([])
    axes.set_ylabel("drums", fontsize=7, color="#555555", labelpad=4)


def _style(axes: Axes, bars: NDArray[np.int64]) -> None:
    axes.set_xlim(bars[0], bars[-1])
    axes.vlines(bars, 0, 1, transform=axes.get_xaxis_transform(), colors="#d5d8dd", linewidths=0.6, zorder=0)
    axes.tick_params(length=2, labelsize=7, colors="#555555", width=0.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#b8bcc4")
        spine.set_linewidth(0.6)


def _label_pitches(axes: Axes, pitches: NDArray[np.int64]) -> None:
    low, high = (int(pitches.min()), int(pitches.max())) if len(pitches) else (60, 72)
    centre, reach = (low + high) / 2, max((high - low) / 2, 7) + 1.5
    axes.set_ylim(centre - reach, centre + reach)
    step = 12 if reach > 8 else 4
    ticks = [pitch for pitch in range(0, 128, step) if centre - reach <= pitch <= centre + reach]
    axes.set_yticks(ticks, [f"{PITCH_NAMES[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks])
    axes.hlines(ticks, *axes.get_xlim(), colors="#eceef1", linewidths=0.6, zorder=0)


def _label_bars(axes: Axes, bars: NDArray[np.int64]) -> None:
    count = len(bars) - 1
    step = next(step for step in (1, 2, 4, 8, 16) if count / step <= 16)
    axes.set_xticks(bars[:-1:step], [str(bar + 1) for bar in range(0, count, step)])
    axes.set_xlabel("bar", fontsize=7, color="#555555", labelpad=1)


def _legend(figure: Figure, programs: NDArray[np.int64], left: float, height: float) -> None:
    import pretty_midi

    x = left
    ranked = _ranked(programs)
    for rank, program in enumerate(ranked[: len(COLOURS) - 2]):
        name = pretty_midi.program_to_instrument_name(program)
        figure.text(x, height, f"■ {name}", fontsize=7, va="center", color=COLOURS[rank])
        x += (len(name) + 4) * 0.0068
    if len(ranked) > len(COLOURS) - 2:
        figure.text(x, height, f"and {len(ranked) - len(COLOURS) + 2} more", fontsize=7, va="center", color="#555555")
