"""One self-contained HTML page that says how good a model is: numbers with their limits, plots, and audio."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from music_assets.evaluation.report import (
    consistency,
    controls,
    copying,
    embeddings,
    features,
    guidance,
    infills,
    likelihood,
    listening,
    samples,
    structure,
    training,
)
from music_assets.evaluation.report.caveats import corpus_caveats
from music_assets.evaluation.report.numbers import data_uri, estimate, level, number, percent
from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject
from music_assets.foundation.publishing import publish

SECTIONS: tuple[Section[Any], ...] = (
    samples.SECTION,
    consistency.SECTION,
    listening.SECTION,
    likelihood.SECTION,
    features.SECTION,
    structure.SECTION,
    controls.SECTION,
    infills.SECTION,
    guidance.SECTION,
    copying.SECTION,
    embeddings.SECTION,
    training.SECTION,
)

FILTERS = {
    "number": number,
    "percent": percent,
    "level": level,
    "estimate": estimate,
    "median": np.median,
    "data_uri": data_uri,
}


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    ``contents`` holds a section's content by its key, ``missing`` a sentence for each section that has none;
    ``run`` and ``provenance`` are label -> text, ``training`` the settings of the training.
    """

    title: str
    model: str
    run: Mapping[str, str] = field(default_factory=dict)
    mlflow_url: str | None = None
    caveats: Sequence[str] = ()
    contents: Mapping[str, Content] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def read_page(subject: Subject, settings: ReportSettings, mlflow_url: str | None = None) -> Page:
    """Gather what is known of a checkpoint; what could not be measured is a sentence in its section's place.

    Raises:
        BadResult: a result is missing, damaged, or of another checkpoint.
        StaleSamples: samples are of another checkpoint.
    """
    contents, missing = {}, {}
    for section in SECTIONS:
        try:
            contents[section.key] = section.show(section.load(subject, settings))
        except NotMeasurable as error:
            missing[section.key] = str(error)
    facts, batches = subject.facts, subject.batches
    pieces = {split: sum(len(shard.where(split)) for shard in subject.shards) for split in ("train", "test")}
    return Page(
        title=f"{facts.architecture}: how good is it?",
        model=facts.architecture,
        run={
            "network": f"{facts.architecture} {facts.training['preset']}, {facts.parameters:,} parameters",
            "trained on": f"{pieces['train']:,} pieces, {facts.tokens:,} tokens seen in {facts.minutes:.1f} minutes",
            "genres": ", ".join(facts.genres),
            "held out": f"{pieces['test']:,} test pieces, no song of which is in training",
            "samples": f"{sum(len(b.names) for b in batches)}, {sum(len(b.empty) for b in batches)} of them empty",
        },
        mlflow_url=mlflow_url,
        caveats=corpus_caveats(subject),
        contents=contents,
        missing=missing,
        provenance={
            "checkpoint": facts.run,
            "training data": facts.dataset_hash,
            "validation pieces": facts.validation_hash,
            "PyTorch": facts.torch_version,
        },
        training=facts.training,
    )


def write_page(path: Path, page: Page) -> None:
    """Write the page to ``path``: it opens offline, with script, audio and pictures inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(FILTERS)
    shown = {section.key: page.contents[section.key] for section in SECTIONS if section.key in page.contents}
    text = environment.get_template("report.html").render(
        page=page,
        sections=SECTIONS,
        bodies={
            section.key: Markup(environment.from_string(section.template).render(shown[section.key].values))
            for section in SECTIONS
            if section.key in shown
        },
        headlines=[content.headline for content in shown.values() if content.headline],
        caveats=[*page.caveats, *(caveat for content in shown.values() for caveat in content.caveats)],
        settings={**({"training": page.training} if page.training else {}), **_settings_of(shown.values())},
        plotly=Markup(get_plotlyjs()),
    )
    with publish(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _settings_of(contents: Iterable[Content]) -> dict[str, dict[str, Any]]:
    """The settings behind what is shown, field by field; those that several sections share are told once."""
    labels: dict[str, list[str]] = {}
    fields: dict[str, dict[str, Any]] = {}
    for content in contents:
        for label, settings in content.settings.items():
            key = settings.model_dump_json()
            labels.setdefault(key, []).append(label)
            fields[key] = settings.model_dump(mode="json")
    return {", ".join(names): fields[key] for key, names in labels.items()}
