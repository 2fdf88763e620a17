"""How the graph is partitioned: by genre, by transposition, by architecture."""

import dagster as dg

from music_assets.models.registry import ARCHITECTURES
from music_assets.tokens.transposition import TRANSPOSITIONS

# Genres come and go with the user's files: `midi_index` adds one once it has enough pieces. None is ever removed,
# because Dagster cannot forget a dynamic partition safely; a genre without pieces just stays empty.
GENRES = "genre"
genres = dg.DynamicPartitionsDefinition(name=GENRES)
transpositions = dg.StaticPartitionsDefinition(list(TRANSPOSITIONS))
architectures = dg.StaticPartitionsDefinition(list(ARCHITECTURES))

genre_by_transposition = dg.MultiPartitionsDefinition({"genre": genres, "transposition": transpositions})
genre_by_architecture = dg.MultiPartitionsDefinition({"architecture": architectures, "genre": genres})


def every_transposition(genre: str) -> dict[str, str]:
    """The tags of a run that makes all the shards of a genre at once."""
    keys = transpositions.get_partition_keys()
    ends = {"start": keys[0], "end": keys[-1]}
    return {f"dagster/asset_partition_range_{end}": f"{genre}|{key}" for end, key in ends.items()}
