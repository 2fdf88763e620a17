"""Samples to hear."""

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

    @property
    def bytes(self) -> float:
        """What it takes of the page, where four letters are three bytes."""
        files = (self.midi, self.ogg, self.png)
        return sum(file.stat().st_size for file in files if file.exists()) * 4 / 3


@dataclass(frozen=True)
class Samples:
    """Batches, and how much of them can be heard: so many of each genre, as long as their files, which the page
    embeds, are no larger than ``bytes`` in all."""

    batches: Sequence[SampleBatch]
    players_per_genre: int
    bytes: float


def load(subject: Subject, settings: ReportSettings) -> Samples:
    """The checkpoint's samples."""
    return Samples(subject.batches, settings.players_per_genre, settings.player_megabytes * 1e6)


def show(samples: Samples) -> Content:
    """The first players of each genre."""
    players: dict[str, list[Player]] = {batch.genre: [] for batch in samples.batches}
    left = samples.bytes
    for turn in range(samples.players_per_genre):
        for batch in samples.batches:
            if turn < len(batch.names):
                player = _player(batch, turn)
                left -= player.bytes
                if left >= 0:
                    players[batch.genre].append(player)
    return Content(
        values={
            "players": players,
            "shown": sum(map(len, players.values())),
            "made": sum(len(batch.names) for batch in samples.batches),
        },
        settings={f"samples of {batch.genre}": batch.settings for batch in samples.batches},
    )


def _player(batch: SampleBatch, index: int) -> Player:
    name = batch.names[index]
    return Player(
        name,
        *(batch.folder / f"{name}.{kind}" for kind in ("mid", "ogg", "png")),
        caption=f"{batch.notes[index]} notes, ended by {_ENDINGS[batch.ended[index]]}",
    )


TEMPLATE = """
<p>The first samples of each genre, neither chosen nor repaired: {{ shown }} of {{ made }}.</p>
{% for genre, samples in players.items() if samples %}
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
