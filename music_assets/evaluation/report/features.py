"""Real against generated music, feature by feature."""

import math
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from music_assets.evaluation.comparison import FeatureComparison
from music_assets.evaluation.distances import JENSEN_SHANNON, Distance
from music_assets.evaluation.features import HISTOGRAMS
from music_assets.evaluation.projection import LEAST_PROJECTED, project
from music_assets.evaluation.report.numbers import number, percent
from music_assets.evaluation.report.plots import html
from music_assets.evaluation.report.section import Content, Headline, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject

GENRE_COLOURS = ("#4477aa", "#dd7733", "#44aa77", "#aa4477", "#998833", "#7766bb", "#33a0b5", "#c05050")
SCALAR_BINS = 14
PANEL_WIDTH, PANEL_HEIGHT = 240, 84


@dataclass(frozen=True)
class Panel:
    """Two small histograms side by side, as SVG path data."""

    genre: str
    real: str
    generated: str
    ticks: tuple[str, ...]
    distance: Distance


def load(subject: Subject, _: ReportSettings) -> StoredResult[FeatureComparison]:
    """The comparison of the checkpoint's samples."""
    return load_result(subject.result("feature_stats"), subject.facts.run, FeatureComparison)


def show(result: StoredResult[FeatureComparison]) -> Content:
    """A panel a feature and genre, the projection and the headline."""
    found = result.found
    judged = [one for one in found.distances if math.isfinite(one.distance.low + one.floor.high)]
    beyond = [one for one in judged if one.is_beyond_floor]
    return Content(
        values={
            "bars": found.bars,
            "beyond": beyond,
            "panels": _panels(found),
            "panel_size": (PANEL_WIDTH, PANEL_HEIGHT),
            "projection": html(_projection_figure(found)) if len(found.real) >= LEAST_PROJECTED else None,
            "confidence": result.settings.confidence,
        },
        headline=Headline(
            "feature distances",
            f"{len(beyond)} of {len(judged)}",
            "lie, with their whole interval, beyond what real pieces of the genre differ by; the fewer the better",
        ),
        settings={"musical features": result.settings},
    )


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
            shares, ticks = scalar_histograms([side[np.isfinite(side)] for side in values])
        top = max(float(side.max(initial=0)) for side in shares) or 1.0
        left, right = (_bars(side / top, offset) for offset, side in enumerate(shares))
        panels.setdefault(distance.feature, []).append(Panel(distance.genre, left, right, ticks, distance))
    return panels


def _mean_histogram(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = rows[rows.sum(axis=1) > 0]
    return defined.mean(axis=0) if len(defined) else np.zeros(rows.shape[1])


def scalar_histograms(
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


TEMPLATE = """
<p>The first {{ bars }} bars of every piece, <span class="key is-real">real, held out</span> beside
<span class="key is-generated">generated</span>. Above each panel stands the distance between the two with its
{{ confidence|level }} interval, and the floor: how far two halves of the real pieces lie apart (median and upper
bound). A distance is only worth a thought <span class="beyond">where its interval lies beyond the floor</span>.</p>
<p>Beyond it: {% for genre, group in beyond|groupby("genre") -%}
<b>{{ genre }}</b> {{ group|map(attribute="feature")|join(", ") }}{{ "; " if not loop.last }}
{%- else %}none{% endfor %}.</p>
{% for feature, row in panels.items() %}
<h3>{{ feature }} <span class="soft">· {{ row[0].distance.measure }}
{%- if row[0].distance.measure == "Wasserstein" %}, in the feature's unit{% else %}, bits{% endif %}</span></h3>
<div class="panels">
{% for panel in row %}
<figure>
  <figcaption><b>{{ panel.genre }}</b> {{ panel.distance.distance|estimate }}<br>
  {% if panel.distance.is_beyond_floor %}<span class="beyond">beyond</span> {% endif %}
  floor {{ panel.distance.floor.value|number }}, up to {{ panel.distance.floor.high|number }} ·
  overlap {{ panel.distance.overlap|percent }} ·
  n {{ panel.distance.real }} / {{ panel.distance.generated }}</figcaption>
  <svg viewBox="0 0 {{ panel_size[0] }} {{ panel_size[1] }}" role="img"
    aria-label="{{ feature }} of {{ panel.genre }}, real and generated">
    <path d="{{ panel.real }}" fill="var(--real)"/><path d="{{ panel.generated }}" fill="var(--generated)"/></svg>
  <div class="ticks">{% for tick in panel.ticks %}<span>{{ tick }}</span>{% endfor %}</div>
</figure>
{% endfor %}
</div>
{% endfor %}
{% if projection %}
<h3>All features at once</h3>
<p>Principal components of the real excerpts; generated ones are laid into the same plane. Rings are real, dots
generated. Two axes show only a part of the variance: nearness here is a hint, not a proof.</p>
{{ projection }}
{% endif %}
"""

SECTION = Section("features", "Musical features", load, show, TEMPLATE)
