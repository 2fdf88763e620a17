"""One self-contained HTML page that says how good a model is: numbers with their limits, plots, and audio."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from music_assets.evaluation.classifier import Consistency
from music_assets.evaluation.comparison import FeatureComparison
from music_assets.evaluation.copying import CopyReport
from music_assets.evaluation.distances import JENSEN_SHANNON, Distance
from music_assets.evaluation.features import HISTOGRAMS
from music_assets.evaluation.likelihood import ALL_GENRES, PARTS, Likelihood
from music_assets.evaluation.projection import LEAST_PROJECTED, project
from music_assets.evaluation.resampling import Estimate
from music_assets.foundation.publishing import publish
from music_assets.generation.samples import SampleBatch

REAL, GENERATED = "#4477aa", "#dd7733"
GENRE_COLOURS = ("#4477aa", "#dd7733", "#44aa77", "#aa4477", "#998833", "#7766bb", "#33a0b5", "#c05050")
PART_COLOURS = ("#4477aa", "#88aacc", "#dd7733", "#eebb88", "#999999", "#44aa77")
_ENDINGS = {"eos": "the model", "bars": "the limit of bars", "tokens": "the limit of tokens"}
SCALAR_BINS = 14
PANEL_WIDTH, PANEL_HEIGHT = 240, 84
SECTIONS = {
    "likelihood": "Likelihood",
    "curve": "Training",
    "consistency": "Genre consistency",
    "features": "Musical features",
    "copying": "Copying",
    "samples": "Samples",
}


@dataclass(frozen=True)
class TrainingCurve:
    """Losses over tokens seen: training in nats a token, validation in bits a note."""

    train_tokens: Sequence[float]
    train_nats_per_token: Sequence[float]
    valid_tokens: Sequence[float]
    valid_bits_per_note: Sequence[float]
    best_tokens: float


@dataclass(frozen=True)
class SampleView:
    """One sample to hear; files that are absent are left out."""

    genre: str
    name: str
    midi: Path
    ogg: Path
    png: Path
    caption: str = ""


def sample_views(batches: Iterable[SampleBatch]) -> list[SampleView]:
    """Every sample with its files and what it is."""
    return [
        SampleView(
            batch.genre,
            name,
            batch.folder / f"{name}.mid",
            batch.folder / f"{name}.ogg",
            batch.folder / f"{name}.png",
            f"{count} notes, ended by {_ENDINGS[ended]}",
        )
        for batch in batches
        for name, count, ended in zip(batch.names, batch.notes, batch.ended, strict=True)
    ]


def training_curve(
    loss: Sequence[tuple[int, float]], bits: Sequence[tuple[int, float]], best_tokens: int
) -> TrainingCurve | None:
    """The curves from points (tokens, value); None without a point."""
    if not loss:
        return None
    return TrainingCurve(
        [tokens for tokens, _ in loss],
        [value for _, value in loss],
        [tokens for tokens, _ in bits],
        [value for _, value in bits],
        best_tokens,
    )


@dataclass(frozen=True)
class ReportContent:
    """All that the report shows. A section that is None or empty is replaced by its sentence in ``missing``.

    ``run`` and ``provenance`` are label -> text; ``likelihood`` holds the rows of the model named
    ``model`` and of its baselines, for every genre and for :data:`ALL_GENRES`; ``consistency`` one result
    with program features and one without; ``caveats`` are sentences printed beside the headline numbers.
    """

    title: str
    model: str
    run: Mapping[str, str]
    mlflow_url: str | None = None
    caveats: Sequence[str] = ()
    likelihood: Sequence[Likelihood] = ()
    curve: TrainingCurve | None = None
    features: FeatureComparison | None = None
    consistency: Sequence[Consistency] = ()
    copying: CopyReport | None = None
    samples: Sequence[SampleView] = ()
    players_per_genre: int = 6
    provenance: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """Two small histograms side by side, as SVG path data."""

    genre: str
    real: str
    generated: str
    ticks: tuple[str, ...]
    distance: Distance


def write_report(path: Path, content: ReportContent) -> None:
    """Write the page to ``path``: it opens offline, with script, audio and pictures inside.

    Of every genre the first ``players_per_genre`` samples are embedded, to bound the size.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=number, percent=percent, estimate=estimate, median=np.median, data_uri=data_uri)
    page = environment.get_template("report.html").render(
        content=content,
        sections=SECTIONS,
        plotly=Markup(get_plotlyjs()),
        headlines=_headlines(content),
        likelihood_plot=_html(_likelihood_figure(content.likelihood)) if content.likelihood else None,
        curve_plot=_html(_curve_figure(content.curve)) if content.curve else None,
        recall_plot=_html(_recall_figure(content.consistency[0])) if content.consistency else None,
        copying_plot=_html(_copying_figure(content.copying)) if content.copying else None,
        projection_plot=_html(_projection_figure(content.features))
        if content.features and len(content.features.real) >= LEAST_PROJECTED
        else None,
        panels=_panels(content.features) if content.features else {},
        players=_players(content.samples, content.players_per_genre),
        panel_size=(PANEL_WIDTH, PANEL_HEIGHT),
        all_genres=ALL_GENRES,
        parts=tuple(PARTS),
    )
    with publish(path) as fresh:
        fresh.write_text(page, encoding="utf-8")


def number(value: float) -> str:
    """Three significant digits, at most three decimals; a dash where undefined."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 3)}f}"


def percent(value: float) -> str:
    """A share as whole percent; a dash where undefined."""
    return f"{value:.0%}" if math.isfinite(value) else "–"


def estimate(value: Estimate, as_percent: bool = False) -> str:
    """The value with its interval."""
    show = percent if as_percent else number
    return f"{show(value.value)} [{show(value.low)} to {show(value.high)}]"


def data_uri(path: Path, media_type: str) -> str:
    """The file's bytes as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _headlines(content: ReportContent) -> list[tuple[str, str, str]]:
    """(name, number, plain sentence) of each headline number there is data for."""
    found = []
    overall = {row.model: row for row in content.likelihood if row.genre == ALL_GENRES}
    if model := overall.pop(content.model, None):
        baseline = min(overall.values(), key=lambda row: row.bits_per_note, default=None)
        meaning = "what one note of unheard music costs the model; less is better"
        if baseline:
            change = model.bits_per_note / baseline.bits_per_note - 1
            side = "below" if change < 0 else "above"
            meaning += f"; {abs(change):.0%} {side} {baseline.model} ({number(baseline.bits_per_note)})"
        interval = Estimate(model.bits_per_note, model.low, model.high)
        found.append(("bits per note", estimate(interval), meaning))
    if content.consistency:
        result = content.consistency[0]
        found.append(
            (
                "genre consistency",
                estimate(result.headline, as_percent=True),
                f"of the way from chance ({percent(result.floor)}) to what real held-out music reaches "
                f"({percent(result.ceiling.value)}); the samples reach {percent(result.score.value)}",
            )
        )
    if content.features:
        judged = [d for d in content.features.distances if math.isfinite(d.distance.low + d.floor.high)]
        beyond = sum(d.is_beyond_floor for d in judged)
        found.append(
            (
                "feature distances",
                f"{beyond} of {len(judged)}",
                "lie, with their whole interval, beyond what real pieces of the genre differ by; the fewer the better",
            )
        )
    if content.copying:
        found.append(
            (
                "copying",
                estimate(content.copying.share_above, as_percent=True),
                "of the samples share a longer run with a training piece than 95% of held-out real excerpts "
                "do; about 5% is what real music shows",
            )
        )
    return found


def _players(samples: Sequence[SampleView], most: int) -> dict[str, list[SampleView]]:
    players: dict[str, list[SampleView]] = {}
    for sample in samples:
        of_genre = players.setdefault(sample.genre, [])
        if len(of_genre) < most:
            of_genre.append(sample)
    return players


def _panels(comparison: FeatureComparison) -> dict[str, list[Panel]]:
    """Panels by feature, one a genre."""
    panels: dict[str, list[Panel]] = {}
    for distance in comparison.distances:
        real, made = (each.of(distance.genre).features for each in (comparison.real, comparison.generated))
        if distance.measure == JENSEN_SHANNON:
            shares = [_mean_histogram(each.histograms[distance.feature]) for each in (real, made)]
            bins = HISTOGRAMS[distance.feature].bins
            ticks = (bins[0], bins[len(bins) // 2], bins[-1])
        else:
            values = [each.scalars[distance.feature] for each in (real, made)]
            shares, ticks = _scalar_histograms([side[np.isfinite(side)] for side in values])
        top = max(float(side.max(initial=0)) for side in shares) or 1.0
        left, right = (_bars(side / top, offset) for offset, side in enumerate(shares))
        panels.setdefault(distance.feature, []).append(Panel(distance.genre, left, right, ticks, distance))
    return panels


def _mean_histogram(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = rows[rows.sum(axis=1) > 0]
    return defined.mean(axis=0) if len(defined) else np.zeros(rows.shape[1])


def _scalar_histograms(
    samples: list[NDArray[np.float64]],
) -> tuple[list[NDArray[np.float64]], tuple[str, ...]]:
    """Both samples' shares in the same bins, and three labels for the axis."""
    pooled = np.concatenate(samples)
    if not len(pooled):
        return [np.zeros(SCALAR_BINS)] * 2, ("", "", "")
    low, high = float(pooled.min()), float(pooled.max())
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-9):  # no room for bins between rounding errors
        low, high = low - 0.5, high + 0.5
    shares = [np.histogram(side, SCALAR_BINS, (low, high))[0] / max(len(side), 1) for side in samples]
    return shares, (number(low), number((low + high) / 2), number(high))


def _bars(heights: NDArray[np.float64], offset: int) -> str:
    """SVG path of bars of height 0 to 1; ``offset`` 0 or 1 is the left or right half of each bin."""
    step = PANEL_WIDTH / len(heights)
    bars = [
        (step * (place + 0.06 + 0.46 * offset), height * PANEL_HEIGHT)
        for place, height in enumerate(heights.tolist())
        if height > 0
    ]
    return "".join(f"M{x:.1f} {PANEL_HEIGHT}v{-high:.1f}h{step * 0.42:.1f}v{high:.1f}z" for x, high in bars)


def _html(figure: go.Figure) -> Markup:
    """The figure as a fragment that takes its colours of text and lines from the page."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#777"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.04, "x": 0},
        hoverlabel={"font": {"size": 12}},
        dragmode=False,
    )
    axis = {"gridcolor": "rgba(128,128,128,.22)", "zerolinecolor": "rgba(128,128,128,.4)", "automargin": True}
    figure.update_xaxes(**axis, showgrid=False)
    figure.update_yaxes(**axis)
    config = {"displayModeBar": False, "displaylogo": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=config))


def _likelihood_figure(rows: Sequence[Likelihood]) -> go.Figure:
    """Bits per note of every genre and model, stacked by part."""
    labels = [[row.genre for row in rows], [row.model for row in rows]]
    figure = go.Figure(layout={"barmode": "stack", "height": 380, "margin": {"t": 50, "r": 10, "l": 50, "b": 40}})
    for part, colour in zip(PARTS, PART_COLOURS, strict=True):
        figure.add_bar(
            x=labels,
            y=[row.parts[part] for row in rows],
            name=part,
            marker_color=colour,
            hovertemplate="%{x}: " + part + " %{y:.2f}<extra></extra>",
        )
    figure.add_scatter(
        x=labels,
        y=[row.bits_per_note for row in rows],
        mode="markers",
        marker={"color": "#777", "size": 4},
        error_y={
            "array": [row.high - row.bits_per_note for row in rows],
            "arrayminus": [row.bits_per_note - row.low for row in rows],
            "color": "#777",
        },
        name="total with 95% interval",
        hovertemplate="%{x}: %{y:.2f}<extra></extra>",
    )
    figure.update_yaxes(title_text="bits per note", rangemode="tozero")
    return figure


def _curve_figure(curve: TrainingCurve) -> go.Figure:
    figure = make_subplots(1, 2, subplot_titles=("training, nats per token", "validation, bits per note"))
    figure.add_scatter(
        x=curve.train_tokens,
        y=curve.train_nats_per_token,
        mode="lines",
        line={"color": REAL, "width": 1.5},
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=curve.valid_tokens,
        y=curve.valid_bits_per_note,
        mode="lines+markers",
        line={"color": GENERATED, "width": 1.5},
        row=1,
        col=2,
    )
    figure.add_vline(
        x=curve.best_tokens,
        line={"dash": "dot", "color": "#777", "width": 1},
        annotation_text="best",
        row=1,  # pyright: ignore[reportArgumentType]
        col=2,  # pyright: ignore[reportArgumentType]
    )
    figure.update_xaxes(title_text="tokens seen")
    figure.update_layout(height=300, showlegend=False, margin={"t": 40, "r": 10, "l": 50, "b": 45})
    return figure


def _recall_figure(result: Consistency) -> go.Figure:
    """Share of excerpts heard as their own genre, real beside generated, with the chance line."""
    figure = go.Figure(layout={"height": 300, "margin": {"t": 40, "r": 90, "l": 50, "b": 40}})
    for name, confusion, colour in (
        ("real, held out", result.real_confusion, REAL),
        ("generated", result.generated_confusion, GENERATED),
    ):
        total = confusion.sum(axis=1)
        right = confusion[np.arange(len(result.genres)), np.arange(len(result.genres))]
        figure.add_bar(x=list(result.genres), y=(right / np.maximum(total, 1)).tolist(), name=name, marker_color=colour)
    figure.add_hline(
        y=result.floor,
        line={"dash": "dash", "color": "#777", "width": 1},
        annotation_text=f"chance {percent(result.floor)}",
        annotation_position="right",
    )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02], title_text="heard as its own genre")
    return figure


def _copying_figure(report: CopyReport) -> go.Figure:
    """Longest shared runs: held-out real excerpts beside samples, every one a point."""
    figure = go.Figure(layout={"boxmode": "group", "height": 340, "margin": {"t": 40, "r": 10, "l": 50, "b": 40}})
    for name, colour in (("real, held out", REAL), ("generated", GENERATED)):
        runs = [genre.generated if name == "generated" else genre.held_out for genre in report.genres]
        figure.add_box(
            x=[genre.genre for genre, values in zip(report.genres, runs, strict=True) for _ in values],
            y=np.concatenate(runs).tolist(),
            name=name,
            marker={"color": colour, "size": 3},
            line={"width": 1.2},
            boxpoints="all" if name == "generated" else "outliers",
            jitter=0.5,
            pointpos=0,
        )
    figure.update_yaxes(title_text="longest shared run (steps)", rangemode="tozero")
    return figure


def _projection_figure(comparison: FeatureComparison) -> go.Figure:
    """Real excerpts as rings, generated ones as dots, in the plane of the real ones' principal components."""
    real, made = comparison.real, comparison.generated
    points = project(real.features, made.features)
    figure = go.Figure(layout={"height": 460, "margin": {"t": 60, "r": 10, "l": 50, "b": 45}})
    for place, genre in enumerate(sorted(set(real.genres.tolist()) | set(made.genres.tolist()))):
        colour = GENRE_COLOURS[place % len(GENRE_COLOURS)]
        for name, excerpts, laid, symbol in (
            ("real", real, points.real, "circle-open"),
            ("generated", made, points.generated, "circle"),
        ):
            mask = excerpts.genres == genre
            figure.add_scatter(
                x=laid[mask, 0].tolist(),
                y=laid[mask, 1].tolist(),
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 6, "opacity": 0.75},
                name=f"{genre}, {name}",
                text=excerpts.groups[mask].tolist(),
                hovertemplate="%{text}<extra>" + f"{genre}, {name}" + "</extra>",
            )
    first, second = points.variance
    figure.update_xaxes(title_text=f"first component ({percent(first)} of the variance)")
    figure.update_yaxes(title_text=f"second ({percent(second)})")
    return figure
