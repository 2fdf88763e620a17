"""Whether the model lifts music from its training pieces."""

import numpy as np
import plotly.graph_objects as go

from music_assets.evaluation.copying import CopyReport
from music_assets.evaluation.report.numbers import estimate
from music_assets.evaluation.report.plots import GENERATED, REAL, html
from music_assets.evaluation.report.section import Content, Headline, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject


def load(subject: Subject, _: ReportSettings) -> StoredResult[CopyReport]:
    """The longest runs of the checkpoint's samples."""
    return load_result(subject.result("copy_report"), subject.facts.run, CopyReport)


def show(result: StoredResult[CopyReport]) -> Content:
    """The table, the plot, the worst cases and the headline."""
    return Content(
        values={
            "report": result.found,
            "plot": html(_figure(result.found)),
            "confidence": result.settings.confidence,
        },
        headline=Headline(
            "copying",
            estimate(result.found.share_above, as_percent=True),
            "of the samples share a longer run with a training piece than 95% of held-out real excerpts do; "
            "about 5% is what real music shows",
        ),
        settings={"copying": result.settings},
    )


def _figure(report: CopyReport) -> go.Figure:
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


TEMPLATE = """
<p>The longest run of melodic steps that a sample shares with any of {{ "{:,}".format(report.training_pieces) }}
training pieces, in whatever key and tempo, beside the same for held-out real excerpts of equal bars. Trills, repeated
notes and broken chords are not counted. Music of one genre shares phrases; only runs longer than real pieces share
point to copying.</p>
{{ plot }}
<div class="scroll"><table>
<thead><tr><th>genre</th><th class="n">samples</th><th class="n">median run</th><th class="n">longest</th>
<th class="n">real excerpts</th><th class="n">median run</th><th class="n">95th percentile</th>
<th>samples beyond it ({{ confidence|level }} interval)</th></tr></thead>
<tbody>
{% for row in report.genres %}
<tr><td>{{ row.genre }}</td><td class="n">{{ row.generated|length }}</td>
<td class="n">{{ "%g"|format(row.generated|median) }}</td><td class="n">{{ row.generated.max() }}</td>
<td class="n">{{ row.held_out|length }}</td><td class="n">{{ "%g"|format(row.held_out|median) }}</td>
<td class="n">{{ "%.1f"|format(row.threshold) }}</td><td>{{ row.share_above|estimate(true) }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if report.left_out %}
<p class="soft">Not judged for lack of held-out pieces: {{ report.left_out|join(", ") }}.</p>
{% endif %}
{% if report.cases %}
<h3>The longest runs</h3>
<div class="scroll"><table>
<thead><tr><th class="n">steps</th><th>genre</th><th>sample</th><th>its beats</th><th>training piece</th>
<th>its beats</th></tr></thead>
<tbody>
{% for case in report.cases %}
<tr><td class="n">{{ case.run }}</td><td>{{ case.genre }}</td><td class="wrap">{{ case.sample }}</td>
<td>{{ "%.1f to %.1f"|format(*case.sample_beats) }}</td><td class="wrap">{{ case.piece_id }}</td>
<td>{{ "%.1f to %.1f"|format(*case.piece_beats) }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
"""

SECTION = Section("copying", "Copying", load, show, TEMPLATE)
