"""How all plots of the report look."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from music_assets.evaluation.resampling import Estimate

REAL, GENERATED = "#4477aa", "#dd7733"


def whiskers(estimates: Sequence[Estimate | None], colour: str = "#777") -> dict[str, Any]:
    """The intervals of points or bars, for their ``error_y``."""
    return {
        "array": [None if one is None else one.high - one.value for one in estimates],
        "arrayminus": [None if one is None else one.value - one.low for one in estimates],
        "color": colour,
        "thickness": 1,
    }


def html(figure: go.Figure) -> Markup:
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
