"""What goes into the shards, as the user has asked for it the last time."""

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from music_assets.corpus.index.database import IndexUnavailable, NoIndex, dicts, in_the_way, reading_index
from music_assets.foundation.publishing import publish
from music_assets.paths import DataPaths


class IndexSettings(BaseModel):
    """What goes into the shards; what is None stays as it was in the last index."""

    minimum_pieces: int | None = Field(
        default=None,
        ge=1,
        description="Training pieces from which on a genre gets shards, unless the taxonomy file has a number for it; "
        "as the last time if not given, at first the taxonomy's number for all genres.",
    )
    keep_near_duplicates: bool | None = Field(
        default=None,
        description="Publish every near-duplicate, and not only the one that stands for them; as the last time if not "
        "given, at first not.",
    )


def last_settings(paths: DataPaths) -> IndexSettings:
    """The settings of the last build, whatever has become of its index.

    Raises:
        IndexUnavailable: they cannot be read now, or somebody has damaged them.
    """
    file = paths.index_settings
    try:
        return IndexSettings.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return _settings_within(paths.index)
    except OSError as error:
        raise in_the_way(file, error) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise IndexUnavailable(
            f"{file} has no settings of the index ({place}: {first['msg']}): mend it, or delete it to take those that "
            "the index was built with."
        ) from None


def _settings_within(index: Path) -> IndexSettings:
    """The settings that an index of any version holds."""
    try:
        with reading_index(index) as connection:
            build = dicts(connection, "from build")[0]
    except NoIndex:
        return IndexSettings()
    return IndexSettings(**{name: build.get(name) for name in IndexSettings.model_fields})


def keep_settings(settings: IndexSettings, paths: DataPaths) -> None:
    """Keep the settings for the next build; a file that has them already stays as it is."""
    text = settings.model_dump_json()
    if not paths.index_settings.exists() or paths.index_settings.read_text() != text:
        with publish(paths.index_settings) as fresh:
            fresh.write_text(text)
