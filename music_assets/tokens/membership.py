"""Whether a piece that the index means for shards is in them, in words."""

from music_assets.paths import DataPaths
from music_assets.tokens.shards import BadShard, NoShard, read_shard
from music_assets.tokens.vocabulary import VocabularyMismatch


def in_shards(paths: DataPaths, genre: str, piece_id: str) -> str:
    """What the genre's shard in the original key says of a piece: that it has it, or why not."""
    try:
        shard = read_shard(paths.shard(genre, "original"))
    except NoShard:
        return f"in none yet: those of {genre} are still to be written, as `music-assets pipeline` does"
    except (BadShard, VocabularyMismatch) as error:
        return f"in none that can be read: {error}"
    if piece_id in shard.failed:
        return f"in none: {shard.failed[piece_id]}"
    if piece_id in shard.piece_ids:
        return f"in those of {genre}"
    return (
        f"in none yet: when those of {genre} were written, the piece was not there or its file could not be read; "
        "`music-assets pipeline` brings them up to date"
    )
