"""The curves of the training that made the checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from music_assets.evaluation.report.plots import GENERATED, REAL, html
from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject
from music_assets.training.tracking import Tracking


@dataclass(frozen=True)
class TrainingCurves:
    """Points (tokens seen, value): training in nats a token, validation in bits a note; and the tokens of the best."""

    training: Sequence[tuple[int, float]]
    validation: Sequence[tuple[int, float]]
    best_tokens: int


def load(subject: Subject, _: ReportSettings) -> TrainingCurves:
    """The curves in MLflow."""
    tracking, run = Tracking(subject.paths), subject.facts.mlflow_run_id
    training = tracking.curve(run, "train/loss") if run and tracking.has_run(run) else []
    if not run or not training:
        raise NotMeasurable("MLflow has no curves of this checkpoint's training.")
    return TrainingCurves(training, tracking.curve(run, "valid/bits_per_note"), subject.facts.tokens)


def show(curves: TrainingCurves) -> Content:
    """One plot."""
    named = {"training, nats per token": curves.training, "validation, bits per note": curves.validation}
    return Content(
        {"plot": html(_figure(curves))},
        tables={
            "curves": [
                {"curve": name, "tokens": tokens, "value": value}
                for name, points in named.items()
                for tokens, value in points
            ]
        },
    )


def _figure(curves: TrainingCurves) -> go.Figure:
    figure = make_subplots(1, 2, subplot_titles=("training, nats per token", "validation, bits per note"))
    for column, points, mode, colour in (
        (1, curves.training, "lines", REAL),
        (2, curves.validation, "lines+markers", GENERATED),
    ):
        figure.add_scatter(
            x=[tokens for tokens, _ in points],
            y=[value for _, value in points],
            mode=mode,
            line={"color": colour, "width": 1.5},
            row=1,
            col=column,
        )
    figure.add_vline(
        x=curves.best_tokens,
        line={"dash": "dot", "color": "#777", "width": 1},
        annotation_text="best",
        row=1,  # pyright: ignore[reportArgumentType]
        col=2,  # pyright: ignore[reportArgumentType]
    )
    figure.update_xaxes(title_text="tokens seen")
    figure.update_layout(height=300, showlegend=False, margin={"t": 40, "r": 10, "l": 50, "b": 45})
    return figure


TEMPLATE = """
<p>Losses over the tokens seen. The dotted line marks the checkpoint that was kept: the one with the lowest validation
loss.</p>
{{ plot }}
"""

SECTION = Section("training", "Training", load, show, TEMPLATE)
