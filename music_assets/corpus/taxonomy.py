"""Genre names: what counts as the same genre, and how a name becomes a partition key."""

import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field

_SHIPPED = Path(__file__).with_name("taxonomy.toml")


def fold(text: str) -> str:
    """Lower-case words without accents and punctuation, one space between them.

    Letters of any script stay. ``&`` is read as *and*, an apostrophe as nothing.
    """
    # normalised again because lower case may be a compound letter, and the other way round
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.findall(r"[^\W_]+", re.sub(r"['’`´]", "", plain.replace("&", " and "))))


class Genre(BaseModel):
    """A genre that the taxonomy knows."""

    name: str = Field(description="For people to read.")
    aliases: list[str] = Field(description="Other names that mean this genre.")


class Taxonomy(BaseModel):
    """The known genres by slug, and the folder names that are no genre."""

    minimum_pieces: int = Field(description="Training pieces from which on a genre gets shards.", ge=1)
    not_genres: list[str] = Field(description="Folder names that say nothing of the music.")
    genres: dict[str, Genre] = Field(description="Known genres by slug.")

    @classmethod
    @cache
    def load(cls, file: Path = _SHIPPED) -> "Taxonomy":
        """The taxonomy of a TOML file, by default the one that comes with the package."""
        return cls.model_validate(tomllib.loads(file.read_text("utf-8")))

    def model_post_init(self, context: object) -> None:
        self._slugs: dict[str, str] = {}
        for slug, genre in self.genres.items():
            for name in (slug, genre.name, *genre.aliases):
                if self._slugs.setdefault(fold(name), slug) != slug:
                    raise ValueError(f"The taxonomy gives {name!r} to {self._slugs[fold(name)]} and to {slug}.")
        self._not_genres = {fold(name) for name in self.not_genres}

    def known(self, name: str) -> str | None:
        """The slug of a genre that the taxonomy knows by this name, or None."""
        return self._slugs.get(fold(name))

    def slug(self, name: str) -> str | None:
        """The slug of any genre name: the known one or, for a new one, its words joined by ``_``.

        None for a name that is no genre: no letters, a single one (shelves from A to Z), or one of
        ``not_genres``.
        """
        folded = fold(name)
        if len(folded) < 2 or folded.isdigit() or folded in self._not_genres:
            return None
        return self._slugs.get(folded) or folded.replace(" ", "_")

    def title(self, slug: str) -> str:
        """The name of a genre for people."""
        return self.genres[slug].name if slug in self.genres else slug.replace("_", " ").capitalize()
