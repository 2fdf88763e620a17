"""Which checkpoints are asked, and what is known of how good they are."""

import os

from music_assets.app.context import Model, Studio
from music_assets.evaluation.classifier import Verdicts
from music_assets.evaluation.likelihood import Likelihoods
from music_assets.evaluation.report.numbers import estimate, number, percent
from music_assets.evaluation.resampling import Estimate
from music_assets.evaluation.results import BadResult, NotMeasurable, load_result
from music_assets.evaluation.subject import Subject
from music_assets.training.mlflow_store import TrackingUnreachable


def about(studio: Studio) -> str:
    """What is known of the checkpoints, in Markdown."""
    return "\n\n".join(_model(studio, model) for model in studio.models)


def _model(studio: Studio, model: Model) -> str:
    facts = model.facts
    subject = Subject(studio.paths, model.checkpoint.folder, facts)
    rows = {
        "run": f"`{facts.run}`",
        "parameters": f"{facts.parameters:,}",
        "trained for": f"{facts.minutes:.1f} minutes, {facts.step:,} steps",
        "genres": ", ".join(facts.genres) or "none",
        "bits per note, validation pieces": "–" if facts.bits_per_note is None else number(facts.bits_per_note),
        **_likelihood(subject),
        **_consistency(subject),
        **_links(subject),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"| checkpoint | {facts.architecture} |\n|---|---|\n{table}"


def _likelihood(subject: Subject) -> dict[str, str]:
    try:
        found = load_result(subject.result("likelihood"), subject.facts.run, Likelihoods).found
    except (BadResult, NotMeasurable):
        return {"bits per note, test pieces": "not measured yet"}
    return {
        f"bits per note, test pieces, {row.model}": estimate(Estimate(row.bits_per_note, row.low, row.high))
        for row in found.rows
        if row.genre == found.row(row.model).genre
    }


def _consistency(subject: Subject) -> dict[str, str]:
    try:
        found = load_result(subject.result("consistency_report"), subject.facts.run, Verdicts).found.with_programs
    except (BadResult, NotMeasurable):
        return {"genre consistency": "not measured yet"}
    return {
        "genre consistency": f"{estimate(found.headline, as_percent=True)} of the way from chance "
        f"({percent(found.floor)}) to real music ({percent(found.ceiling.value)})"
    }


def _links(subject: Subject) -> dict[str, str]:
    """Where more stands, on the servers that run beside the studio."""
    found = {"in MLflow": _mlflow(subject), "in Dagster": _dagster(subject)}
    return {name: links for name, links in found.items() if links}


def _mlflow(subject: Subject) -> str:
    address, run = os.environ.get("MLFLOW_UI"), subject.facts.mlflow_run_id
    if not address or not run:
        return ""
    from music_assets.training.tracking import Tracking

    try:
        tracking = Tracking(subject.paths)
        known = tracking.has_run(run)
    except TrackingUnreachable:
        return ""
    return f"[the run]({address}/#/experiments/{tracking.experiment_id}/runs/{run})" if known else ""


def _dagster(subject: Subject) -> str:
    address = os.environ.get("DAGSTER_UI")
    assets = {"the training": "checkpoint", "the report": "evaluation_report"}
    where = f"?view=partitions&partition={subject.facts.architecture}"
    return ", ".join(f"[{name}]({address}/assets/{key}{where})" for name, key in assets.items()) if address else ""
