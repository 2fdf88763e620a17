"""What unheard music costs the model, beside what can be said without it."""

from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from music_assets.evaluation.likelihood import ALL_GENRES, PARTS, Likelihood, Likelihoods
from music_assets.evaluation.report.numbers import estimate, level, number
from music_assets.evaluation.report.plots import html
from music_assets.evaluation.report.section import Content, Headline, Section
from music_assets.evaluation.resampling import Estimate
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject

CLOSE = 0.05
"""A network that saves less of the bits than this share is said to be hardly better than the baseline."""
PART_COLOURS = ("#4477aa", "#88aacc", "#dd7733", "#eebb88", "#999999", "#44aa77")


def load(subject: Subject, _: ReportSettings) -> StoredResult[Likelihoods]:
    """What was measured of the checkpoint."""
    return load_result(subject.result("likelihood"), subject.facts.run, Likelihoods)


def show(result: StoredResult[Likelihoods]) -> Content:
    """The table, the plot and the headline."""
    found = result.found
    return Content(
        values={
            "rows": found.rows,
            "baseline": found.baseline,
            "parts": tuple(PARTS),
            "plot": html(_figure(found.rows, level(result.settings.confidence))),
            "confidence": result.settings.confidence,
        },
        headline=_headline(found),
        caveats=[*_caveats(found)],
        settings={"likelihood": result.settings},
    )


def _caveats(found: Likelihoods) -> Iterator[str]:
    if found.baseline_share < 1:
        yield f"The n-gram counted {found.baseline_share:.0%} of the training tokens."
    model, baseline = _overall(found)
    saved = 1 - model.bits_per_note / baseline.bits_per_note
    if saved < CLOSE:
        yield (
            f"The network is hardly better than none: it needs {number(model.bits_per_note)} bits per note, the "
            f"{baseline.model} {number(baseline.bits_per_note)}."
        )


def _overall(found: Likelihoods) -> tuple[Likelihood, Likelihood]:
    """Of all genres, the network's row and the baseline's."""
    overall = {row.model: row for row in found.rows if row.genre == ALL_GENRES}
    baseline = overall.pop(found.baseline)
    (model,) = overall.values()
    return model, baseline


def _headline(found: Likelihoods) -> Headline:
    model, baseline = _overall(found)
    change = model.bits_per_note / baseline.bits_per_note - 1
    return Headline(
        "bits per note",
        estimate(Estimate(model.bits_per_note, model.low, model.high)),
        "what one note of unheard music costs the model; less is better; "
        f"{abs(change):.0%} {'below' if change < 0 else 'above'} {baseline.model} ({number(baseline.bits_per_note)})",
    )


def _figure(rows: Sequence[Likelihood], confidence: str) -> go.Figure:
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
        name=f"total with {confidence} interval",
        hovertemplate="%{x}: %{y:.2f}<extra></extra>",
    )
    figure.update_yaxes(title_text="bits per note", rangemode="tozero")
    return figure


TEMPLATE = """
<p>How many bits the model needs to predict one note of held-out pieces, all tokens counted, split by what they are
spent on. The numbers compare across models and tokenisers; the perplexity per token does not.</p>
{{ plot }}
<div class="scroll"><table>
<thead><tr><th>genre</th><th>model</th><th>bits per note ({{ confidence|level }} interval)</th>
{% for part in parts %}<th class="n">{{ part }}</th>{% endfor %}
<th class="n">bits per second</th><th class="n">perplexity per token</th><th class="n">pieces</th>
<th class="n">notes</th></tr></thead>
<tbody>
{% for row in rows %}
<tr{% if row.model != baseline %} class="subject"{% endif %}><td>{{ row.genre }}</td><td>{{ row.model }}</td>
<td>{{ "%.2f [%.2f to %.2f]"|format(row.bits_per_note, row.low, row.high) }}</td>
{% for part in parts %}<td class="n">{{ "%.2f"|format(row.parts[part]) }}</td>{% endfor %}
<td class="n">{{ row.bits_per_second|number }}</td><td class="n">{{ row.perplexity_per_token|number }}</td>
<td class="n">{{ row.pieces }}</td><td class="n">{{ "{:,}".format(row.notes) }}</td></tr>
{% endfor %}
</tbody></table></div>
"""

SECTION = Section("likelihood", "Likelihood", load, show, TEMPLATE)
