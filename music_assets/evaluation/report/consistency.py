"""Whether music made for a genre sounds like it."""

import numpy as np
import plotly.graph_objects as go

from music_assets.evaluation.classifier import Consistency, Verdicts
from music_assets.evaluation.report.numbers import estimate, percent
from music_assets.evaluation.report.plots import GENERATED, REAL, html
from music_assets.evaluation.report.section import Content, Headline, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject


def load(subject: Subject, _: ReportSettings) -> StoredResult[Verdicts]:
    """The verdicts on the checkpoint's samples."""
    return load_result(subject.result("consistency_report"), subject.facts.run, Verdicts)


def show(result: StoredResult[Verdicts]) -> Content:
    """The table, the plot, the confusions and the headline."""
    first = result.found.with_programs
    return Content(
        values={
            "first": first,
            "verdicts": {"all features": first, "no instruments": result.found.without_programs},
            "plot": html(_recall_figure(first)),
            "confidence": result.settings.confidence,
        },
        headline=Headline(
            "genre consistency",
            estimate(first.headline, as_percent=True),
            f"of the way from chance ({percent(first.floor)}) to what real held-out music reaches "
            f"({percent(first.ceiling.value)}); the samples reach {percent(first.score.value)}",
        ),
        settings={"genre consistency": result.settings},
    )


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


TEMPLATE = """
{% macro confusion(result, counts, columns, caption) %}
<div class="scroll"><table class="confusion">
  <caption>{{ caption }}</caption>
  <thead><tr><th></th>{% for name in columns %}<th scope="col">{{ name }}</th>{% endfor %}
  <th scope="col">n</th></tr></thead>
  <tbody>
  {% for genre in result.genres %}
  {% set row = counts[loop.index0] %}
  {% set total = row.sum() %}
  {% set own = loop.index0 %}
  <tr><th scope="row">{{ genre }}</th>
    {% for count in row %}
    {% set share = count / total if total else 0 %}
    {% set is_empty = loop.index0 == result.genres|length %}
    <td class="cell{% if is_empty %} none{% endif %}" style="--share: {{ "%.3f"|format(share) }}"
      {%- if loop.index0 == own %} data-own{% endif %}>{{ count }}<small>{{ share|percent }}</small></td>
    {% endfor %}
    <td>{{ total }}</td></tr>
  {% endfor %}
  </tbody>
</table></div>
{% endmacro %}
<p>A classifier trained on {{ "{:,}".format(first.training_excerpts) }} excerpts of real training music says which genre
it hears. It is right about {{ first.ceiling.value|percent }} of the real held-out excerpts (the ceiling: no sample can
be expected to do better) and chance is {{ first.floor|percent }} (the floor). A sample without a note counts as
wrong.</p>
<div class="scroll"><table>
<thead><tr><th>classifier sees</th><th>floor</th><th>ceiling (real)</th><th>macro-F1 (real)</th>
<th>score (generated)</th><th>(score − floor) / (ceiling − floor)</th><th>genres shuffled</th><th>p</th></tr></thead>
<tbody>
{% for seen, result in verdicts.items() %}
<tr><td>{{ seen }}</td><td>{{ result.floor|percent }}</td><td>{{ result.ceiling|estimate(true) }}</td>
<td>{{ result.macro_f1|number }}</td><td>{{ result.score|estimate(true) }}</td>
<td><b>{{ result.headline|estimate(true) }}</b></td><td>{{ result.permuted|estimate(true) }}</td>
<td>{{ "%.3f"|format(result.p_value) }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="soft">Intervals are {{ confidence|level }}. “Genres shuffled” deals the prompted genres out anew among the
samples: it must lie at the floor. p is the share of such deals that reach the score.
{% if first.left_out %}Left out for lack of excerpts: {{ first.left_out|join(", ") }}.{% endif %}</p>
{{ plot }}
<div class="pair">
<div class="is-real">{{ confusion(first, first.real_confusion, first.genres,
  "Real, held out: rows are the true genre, columns what was heard") }}</div>
<div class="is-generated">{{ confusion(first, first.generated_confusion, first.genres + ("no notes",),
  "Generated: rows are the prompted genre, columns what was heard") }}</div>
</div>
<p class="soft">A cell is a count and its share of the row; chance is {{ first.floor|percent }} in every cell.</p>
"""

SECTION = Section("consistency", "Genre consistency", load, show, TEMPLATE)
