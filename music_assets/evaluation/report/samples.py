"""Samples to hear."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from music_assets.evaluation.report.section import Content, Section
from music_assets.evaluation.settings import ReportSettings
from music_assets.evaluation.subject import Subject
from music_assets.generation.samples import SampleBatch

_ENDINGS = {
    "network": "the model",
    "length": "the length asked for",
    "limit": "the limit of bars",
    "stopped": "whoever asked",
}


@dataclass(frozen=True)
class Player:
    """One sample to hear; files that are absent are left out."""

    name: str
    midi: Path
    ogg: Path
    png: Path
    caption: str


@dataclass(frozen=True)
class Samples:
    """Batches, and how many of each can be heard: their files are embedded, so this bounds the page's size."""

    batches: Sequence[SampleBatch]
    players_per_genre: int


def load(subject: Subject, settings: ReportSettings) -> Samples:
    """The checkpoint's samples."""
    return Samples(subject.batches, settings.players_per_genre)


def show(samples: Samples) -> Content:
    """The first players of each genre."""
    return Content(
        values={"players": {batch.genre: _players(batch)[: samples.players_per_genre] for batch in samples.batches}},
        settings={"sampling": json.dumps({batch.genre: batch.settings.model_dump() for batch in samples.batches})},
    )


def _players(batch: SampleBatch) -> list[Player]:
    return [
        Player(
            name,
            *(batch.folder / f"{name}.{kind}" for kind in ("mid", "ogg", "png")),
            caption=f"{count} notes, ended by {_ENDINGS[ended]}",
        )
        for name, count, ended in zip(batch.names, batch.notes, batch.ended, strict=True)
    ]


TEMPLATE = """
<p>The first samples of each genre, neither chosen nor repaired.</p>
{% for genre, samples in players.items() %}
<h3>{{ genre }}</h3>
<div class="samples">
{% for sample in samples %}
<figure>
  {% if sample.png.exists() %}
  <img src="{{ sample.png|data_uri("image/png") }}" alt="Piano roll of {{ sample.name }}" loading="lazy">
  {% endif %}
  {% if sample.ogg.exists() %}
  <audio controls preload="none" aria-label="{{ sample.name }}" src="{{ sample.ogg|data_uri("audio/ogg") }}"></audio>
  {% endif %}
  <figcaption>{{ sample.name }} · {{ sample.caption }}
  {%- if sample.midi.exists() %} ·
  <a download="{{ sample.name }}.mid" href="{{ sample.midi|data_uri("audio/midi") }}">MIDI</a>{% endif %}</figcaption>
</figure>
{% endfor %}
</div>
{% endfor %}
"""

SECTION = Section("samples", "Samples", load, show, TEMPLATE)
