"""How samples are built: repetition, phrases, and how they go on."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from music_assets.evaluation.comparison import FeatureComparison
from music_assets.evaluation.report.plots import GENERATED, REAL, html, whiskers
from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.resampling import Estimate, bootstrap_weights, resampled_mean
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import EvaluationSettings, ReportSettings
from music_assets.evaluation.structure import APART, STRUCTURE, similarity_name
from music_assets.evaluation.subject import Subject


def load(subject: Subject, _: ReportSettings) -> StoredResult[FeatureComparison]:
    """The structure of the checkpoint's samples."""
    return load_result(subject.result("structure_report"), subject.facts.run, FeatureComparison)


def show(result: StoredResult[FeatureComparison]) -> Content:
    """The curve of repetition, and a table of all features."""
    found, settings = result.found, result.settings
    others = [name for name in STRUCTURE if name not in map(similarity_name, APART)]
    return Content(
        values={
            "plot": html(_figure(found, settings)),
            "bars": found.bars,
            "means": {name: _means(found, name, settings) for name in others},
            "distances": {
                name: [distance for distance in found.distances if distance.feature == name] for name in STRUCTURE
            },
            "confidence": settings.confidence,
        },
        settings={"structure": settings},
    )


def _means(found: FeatureComparison, name: str, settings: EvaluationSettings) -> tuple[Estimate, Estimate]:
    """Of real and of generated excerpts of all genres; intervals resample songs and samples."""
    return tuple(
        _mean(side.features.scalars[name], side.groups.tolist(), settings) for side in (found.real, found.generated)
    )  # pyright: ignore[reportReturnType]


def _mean(values: NDArray[np.float64], groups: Sequence[str], settings: EvaluationSettings) -> Estimate:
    weights = bootstrap_weights(groups, settings.bootstrap_rounds, np.random.default_rng(settings.seed))
    return resampled_mean(values.tolist(), weights, settings.confidence)


def _figure(found: FeatureComparison, settings: EvaluationSettings) -> go.Figure:
    """Repetition by distance in bars."""
    figure = go.Figure(layout={"height": 320, "margin": {"t": 40, "r": 10, "l": 50, "b": 45}})
    curves = [_means(found, similarity_name(bars), settings) for bars in APART]
    for place, (name, colour) in enumerate((("real, held out", REAL), ("generated", GENERATED))):
        side = [pair[place] for pair in curves]
        figure.add_scatter(
            x=[*APART],
            y=[one.value for one in side],
            error_y=whiskers(side, colour),
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 1.5},
        )
    figure.update_xaxes(title_text="bars apart", dtick=1)
    figure.update_yaxes(title_text="bar similarity", rangemode="tozero")
    return figure


TEMPLATE = """
<p>The first {{ bars }} bars of held-out pieces beside those of the samples. Two bars are as similar as the share of
notes (sixteenth, instrument, pitch) that they have in common of all that either has; music comes back after four and
eight bars.</p>
{{ plot }}
<div class="scroll"><table>
<thead><tr><th>mean over all genres</th><th>real ({{ confidence|level }} interval)</th><th>generated</th></tr></thead>
<tbody>
{% for name, (real, made) in means.items() %}
<tr><td>{{ name }}</td><td>{{ real|estimate }}</td><td>{{ made|estimate }}</td></tr>
{% endfor %}
</tbody></table></div>
<p>Genre by genre: the Wasserstein distance and, behind it, the upper bound of what two halves of the real pieces
differ by. <span class="beyond">Beyond it</span> with the whole interval, a distance is worth a thought.</p>
<div class="scroll"><table>
<thead><tr><th>feature</th>
{% for distance in (distances.values()|first) %}<th>{{ distance.genre }}</th>{% endfor %}</tr></thead>
<tbody>
{% for name, row in distances.items() %}
<tr><td>{{ name }}</td>
{% for distance in row %}<td{% if distance.is_beyond_floor %} class="beyond"{% endif %}>
{{- distance.distance.value|number }} / {{ distance.floor.high|number }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
"""

SECTION = Section("structure", "Structure", load, show, TEMPLATE)
