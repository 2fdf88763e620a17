"""Wishes that suit a genre: what is usual in the real music of it that is here."""

from collections import Counter
from statistics import median
from typing import Any

from music_assets.app.context import Model
from music_assets.app.takes import knows_density
from music_assets.evaluation.controls import Facts
from music_assets.evaluation.pieces import sampled_piece
from music_assets.foundation.midi.programs import instrument_name
from music_assets.generation.task import BadRequest
from music_assets.paths import DataPaths
from music_assets.tokens.shards import read_shard
from music_assets.tokens.vocabulary import TEMPOS

PIECES = 64
"""Of a genre that are looked at: more would make one wait."""


def preset(paths: DataPaths, model: Model, genre: str | None) -> dict[str, Any]:
    """The usual tempo and, where the network can be asked for them, density and instruments of a genre.

    Raises:
        BadRequest: no genre is chosen, or no music of it is here.
    """
    if not genre:
        raise BadRequest("Choose a genre first: what is usual depends on it.")
    path = paths.shard(genre, "original")
    shard = read_shard(path) if path.exists() else None
    rows = [] if shard is None else [shard.document(row) for row in shard.where("train")[:PIECES].tolist()]
    found = [Facts.of(sampled_piece("", genre, ids)) for ids in rows]
    if not found:
        raise BadRequest(f"There is no {genre} here to learn from what is usual: say yourself what you wish for.")
    wishes: dict[str, Any] = {"tempo": float(TEMPOS[round(median(facts.tempo for facts in found))])}
    if model.can.instruments:
        (programs, _), *_ = Counter(facts.instruments for facts in found).most_common(1)
        names = [*map(instrument_name, sorted(programs))]
        wishes["instruments"] = [name for name in names if name in model.can.instruments]
        if knows_density(model.facts):
            wishes["density"] = median(facts.density for facts in found)
    return wishes
