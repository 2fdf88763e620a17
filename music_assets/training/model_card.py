"""What a registered model's page says of it."""

from collections.abc import Mapping

from music_assets.checkpoints.runs import CheckpointFacts
from music_assets.models.registry import find_architecture
from music_assets.training.champion import Decision


def model_card(facts: CheckpointFacts, decision: Decision, links: Mapping[str, str]) -> str:
    """A model's description in Markdown: its scores, its data by genre, its licence note, its settings."""
    bits = facts.bits_per_note_by_genre
    rows = [
        f"| {genre} | {sum(s.pieces for s in of if s.transposition == 'original')} | {sum(s.tokens for s in of):,} "
        f"| {f'{bits[genre]:.3f}' if genre in bits else ''} |"
        for genre in facts.genres
        for of in [[shard for shard in facts.shards if shard.genre == genre]]
    ]
    counted = find_architecture(facts.architecture).unit
    of = "note" if counted == "tokens" else "note of the roll, which compare with those of other piano rolls alone,"
    score = "not measured" if facts.bits_per_note is None else f"{facts.bits_per_note:.3f} bits per {of}"
    settings = ", ".join(f"{name} {value}" for name, value in facts.training.items() if value not in (None, {}, []))
    return "\n".join(
        [
            f"**{facts.architecture}**, {facts.parameters:,} weights, {facts.tokens:,} training {counted} in "
            f"{facts.minutes:.1f} minutes: {score} on held-out pieces{_consistency(decision)}. {decision.reason}",
            "",
            "| genre | training pieces | training tokens, transposed ones included | bits per note |",
            "|---|---|---|---|",
            *rows,
            "",
            "*Licence*: the weights come from the MIDI files of this data folder, and the terms of those apply. The "
            "Lakh MIDI Dataset is CC-BY 4.0 as a collection; the rights in the songs stay with their owners.",
            "",
            f"*Settings*: {settings}. Data {facts.dataset_hash}, torch {facts.torch_version}.",
            *(["", "*Made by* " + ", ".join(f"[{name}]({url})" for name, url in links.items())] if links else []),
        ]
    )


def _consistency(decision: Decision) -> str:
    heard = decision.challenger.heard
    return "" if heard is None else f", genre consistency {heard}"
