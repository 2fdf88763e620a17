"""Whether the model does what it is asked for."""

import plotly.graph_objects as go

from music_assets.evaluation.controls import CORRELATION, ControlReport
from music_assets.evaluation.report.numbers import estimate
from music_assets.evaluation.report.plots import GENERATED, REAL, html, whiskers
from music_assets.evaluation.report.section import Content, Headline, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject


def load(subject: Subject, _: ReportSettings) -> StoredResult[ControlReport]:
    """What came of the wishes."""
    return load_result(subject.result("control_report"), subject.facts.run, ControlReport)


def show(result: StoredResult[ControlReport]) -> Content:
    """The plot, the table and the headline."""
    density = result.found.row(CORRELATION)
    return Content(
        values={
            "rows": result.found.rows,
            "plot": html(_figure(result.found)),
            "confidence": result.settings.confidence,
        },
        headline=Headline(
            "density obeyed",
            estimate(density.together),
            "correlation of the density asked for and made, all wishes at once: 1 is obeyed, 0 is unheard; "
            "instruments, tempo, time signature, bars and scale cannot be disobeyed",
        ),
        settings={"controls": result.settings},
    )


def _figure(report: ControlReport) -> go.Figure:
    """Each measure unasked, asked alone, and asked with all others."""
    figure = go.Figure(layout={"barmode": "group", "height": 340, "margin": {"t": 40, "r": 10, "l": 50, "b": 90}})
    names = [row.measure for row in report.rows]
    for name, colour, found in (
        ("unasked", REAL, [row.without for row in report.rows]),
        ("asked alone", "#ddaa55", [row.alone for row in report.rows]),
        ("all at once", GENERATED, [row.together for row in report.rows]),
    ):
        figure.add_bar(
            x=names,
            y=[None if one is None else one.value for one in found],
            name=name,
            marker_color=colour,
            error_y=whiskers(found),
        )
    return figure


TEMPLATE = """
<p>The model is asked for what the beginnings of held-out pieces have, and what it makes is measured. Unasked, of the
same genre, it shows the floor: what comes by chance. Asked for one thing alone beside all at once, it shows how much
wishes spoil each other. What the model cannot disobey is 100% when asked for.</p>
{{ plot }}
<div class="scroll"><table>
<thead><tr><th>control</th><th>measure</th><th class="n">requests</th><th>unasked ({{ confidence|level }} interval)</th>
<th>asked alone</th><th>all at once</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.control }}</td><td>{{ row.measure }}</td><td class="n">{{ row.requests }}</td>
<td>{{ row.without|estimate }}</td>
<td>{% if row.alone %}{{ row.alone|estimate }}{% elif row.always %}cannot be disobeyed{% endif %}</td>
<td>{{ row.together|estimate }}</td></tr>
{% endfor %}
</tbody></table></div>
"""

SECTION = Section("controls", "Wishes", load, show, TEMPLATE)
