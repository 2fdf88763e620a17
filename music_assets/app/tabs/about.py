"""Which checkpoints are asked, and what is known of how good they are."""

from music_assets.app.context import Model, Studio
from music_assets.evaluation.classifier import Verdicts
from music_assets.evaluation.likelihood import Likelihoods
from music_assets.evaluation.report.numbers import estimate, number, percent
from music_assets.evaluation.resampling import Estimate
from music_assets.evaluation.results import BadResult, NotMeasurable, load_result
from music_assets.evaluation.subject import Subject


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
