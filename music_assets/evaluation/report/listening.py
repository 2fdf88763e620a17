"""What people said in blind listening tests."""

import plotly.graph_objects as go

from music_assets.evaluation.listening import CHANCE, ListeningReport
from music_assets.evaluation.report.plots import GENERATED, REAL, html, whiskers
from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject


def load(subject: Subject, _: ReportSettings) -> StoredResult[ListeningReport]:
    """The ratings of the checkpoint's samples."""
    return load_result(subject.result("listening_report"), subject.facts.run, ListeningReport)


def show(result: StoredResult[ListeningReport]) -> Content:
    """The plot and the table."""
    return Content(
        values={
            "report": result.found,
            "plot": html(_figure(result.found)),
            "chance": CHANCE,
            "confidence": result.settings.confidence,
        },
        settings={"listening test": result.settings},
    )


def _figure(report: ListeningReport) -> go.Figure:
    """Mean ratings, real beside generated."""
    figure = go.Figure(layout={"barmode": "group", "height": 300, "margin": {"t": 40, "r": 10, "l": 40, "b": 40}})
    for name, colour in (("real", REAL), ("generated", GENERATED)):
        found = [getattr(row, name) for row in report.scales]
        figure.add_bar(
            x=[row.scale for row in report.scales],
            y=[one.value for one in found],
            name=name,
            marker_color=colour,
            error_y=whiskers(found),
        )
    figure.update_yaxes(range=[1, 5], title_text="1 to 5")
    return figure


TEMPLATE = """
<p>{{ report.raters }} {{ "person" if report.raters == 1 else "people" }} heard {{ report.real_pieces }} real and
{{ report.generated_pieces }} generated excerpts of equal length and loudness in random order, without being told which
is which: {{ report.ratings }} ratings. Intervals are over people and pieces{% if report.raters == 1 %}, here of pieces
alone: one person says nothing of others{% endif %}.</p>
{{ plot }}
<div class="scroll"><table>
<thead><tr><th>scale</th><th>real ({{ confidence|level }} interval)</th><th>generated</th><th>generated − real</th>
<th class="n">agreement (Krippendorff's α)</th></tr></thead>
<tbody>
{% for row in report.scales %}
<tr><td>{{ row.scale }}</td><td>{{ row.real|estimate }}</td><td>{{ row.generated|estimate }}</td>
<td>{{ row.difference|estimate }}</td><td class="n">{{ row.alpha|number }}</td></tr>
{% endfor %}
</tbody></table></div>
<p>Which is which was guessed right in {{ report.right|estimate(true) }} ({{ chance|percent }} is chance): real ones in
{{ report.right_of_real|estimate(true) }}, generated ones in {{ report.right_of_generated|estimate(true) }}.</p>
"""

SECTION = Section("listening", "Listening test", load, show, TEMPLATE)
