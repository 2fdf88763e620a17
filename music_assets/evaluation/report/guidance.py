"""What guidance and temperature buy and cost."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from music_assets.evaluation.guidance import MEASURES, GuidanceReport
from music_assets.evaluation.report.plots import GENERATED, REAL, html, whiskers
from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.results import StoredResult, load_result
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject

_COLUMNS = 3


def load(subject: Subject, _: ReportSettings) -> StoredResult[GuidanceReport]:
    """What the samples at each setting were."""
    return load_result(subject.result("guidance_report"), subject.facts.run, GuidanceReport)


def show(result: StoredResult[GuidanceReport]) -> Content:
    """Curves over guidance and over temperature."""
    found = result.found
    return Content(
        values={
            "curves": {varied: html(_figure(found, varied)) for varied in found.defaults},
            "report": found,
            "confidence": result.settings.confidence,
        },
        settings={"guidance": result.settings},
    )


def _figure(report: GuidanceReport, varied: str) -> go.Figure:
    """A panel a measure: its curve, the default as a larger point, real music as a dotted line."""
    figure = make_subplots(
        -(-len(MEASURES) // _COLUMNS), _COLUMNS, subplot_titles=MEASURES, vertical_spacing=0.2, horizontal_spacing=0.08
    )
    for place, measure in enumerate(MEASURES):
        row, column = place // _COLUMNS + 1, place % _COLUMNS + 1
        curve = report.curve(varied, measure)
        estimates = [reading.estimate for reading in curve]
        figure.add_scatter(
            x=[reading.value for reading in curve],
            y=[one.value for one in estimates],
            error_y=whiskers(estimates),
            mode="lines+markers",
            line={"color": GENERATED, "width": 1.5},
            marker={"size": [11 if reading.value == report.defaults[varied] else 6 for reading in curve]},
            row=row,
            col=column,
        )
        real = report.real.get(measure)
        if real is not None:
            figure.add_hline(
                y=real,
                line={"dash": "dot", "color": REAL, "width": 1.5},
                row=row,  # pyright: ignore[reportArgumentType]
                col=column,  # pyright: ignore[reportArgumentType]
            )
    figure.update_annotations(font_size=12)
    figure.update_yaxes(tickformat=".0%")
    figure.update_xaxes(title_text=varied, title_font_size=11)
    figure.update_layout(height=480, showlegend=False, margin={"t": 40, "r": 10, "l": 45, "b": 45})
    return figure


TEMPLATE = """
<p>{{ report.samples }} samples at each setting, the others as by default, which is the larger point
({% for name, value in report.defaults.items() %}{{ name }} {{ value|number }}{{ ", " if not loop.last }}{% endfor %}).
Bars are {{ confidence|level }} intervals; the <span class="key is-real">dotted line</span> is what real music has.
Consistency is the share of the way from chance to real music; runs are of four pitches of one instrument.</p>
{% for varied, plot in curves.items() %}
<h3>{{ varied }}</h3>
{{ plot }}
{% endfor %}
"""

SECTION = Section("guidance", "Guidance and temperature", load, show, TEMPLATE)
