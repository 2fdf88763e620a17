"""Genre names: what counts as the same genre, and how a name becomes a partition key."""

import re
import tomllib
import unicodedata
from functools import cache, lru_cache
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from music_assets.foundation.errors import MusicAssetsError

TAXONOMY_NAME = "taxonomy.toml"
_SHIPPED = Path(__file__).with_name(TAXONOMY_NAME)


class BadLabels(MusicAssetsError):
    """A file of labels or genres that cannot be understood; the message names the file, the field and the way out."""


_ACCENTED = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts in which a mark is an accent. In others it may tell letters apart (カ and ガ) or be a vowel (कि and कु)."""
_WHOLE_WORDS = ("HANGUL SYLLABLE", "CJK UNIFIED IDEOGRAPH")
_DIVISIBLE = re.compile("[^ำຳໜໝ]+")
"""All but the Thai and Lao letters that compatibility decomposition takes apart, and composition leaves so."""
_UNREAD = re.compile(r"['’`´\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Apostrophes, and what chooses between shapes of one letter."""
_JOINERS = "\u200c\u200d"


@lru_cache(maxsize=1 << 16)
def fold(text: str) -> str:
    """Lower-case words without accents and punctuation, one space between them; in NFC.

    Letters of any script stay, and their marks, but for the accents of Latin, Greek and Cyrillic letters. ``&`` is
    read as *and*, an apostrophe as nothing.
    """
    # decomposed again because lower case may be a compound letter, and the other way round
    plain = _UNREAD.sub("", _decomposed(_decomposed(text).casefold()).replace("&", " and "))
    kept, base = [], " "
    for letter in plain:
        if unicodedata.category(letter).startswith("M") or letter in _JOINERS:
            kept.append(letter if base.isalpha() and not takes_accents(base) else "")
        else:
            base = letter
            kept.append(letter if letter.isalnum() else " ")
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def _decomposed(text: str) -> str:
    return _DIVISIBLE.sub(lambda run: unicodedata.normalize("NFKD", run[0]), text)


def takes_accents(letter: str) -> bool:
    """Whether a letter is Latin, Greek or Cyrillic: its marks are accents, and typing errors change single letters."""
    return letter.isascii() or unicodedata.name(letter, "").startswith(_ACCENTED)


def _is_word(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(_WHOLE_WORDS)


class Genre(BaseModel):
    """A genre that the taxonomy knows."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="For people to read.")
    aliases: list[str] = Field([], description="Other names that mean this genre.")
    minimum_pieces: int | None = Field(None, description="Instead of the taxonomy's minimum.", ge=1)


class Taxonomy(BaseModel):
    """The known genres by slug, and the names that are no genre."""

    model_config = ConfigDict(extra="forbid")

    minimum_pieces: int = Field(description="Training pieces from which on a genre gets shards.", ge=1)
    not_genres: list[str] = Field(description="Folder names that say nothing of the music.")
    labels_without_genre: list[str] = Field([], description="Labels of published genre lists that may be any genre.")
    genres: dict[str, Genre] = Field(description="Known genres by slug.")

    @classmethod
    @cache
    def load(cls, file: Path = _SHIPPED) -> "Taxonomy":
        """The taxonomy of a TOML file, by default the one that comes with the package. Raises BadLabels."""
        return cls._read(file)

    @classmethod
    def of(cls, labels: Path) -> "Taxonomy":
        """The user's taxonomy in the folder of label files, or else the one that comes with the package.

        Raises BadLabels.
        """
        own = labels / TAXONOMY_NAME
        return cls._read(own) if own.exists() else cls.load()

    @classmethod
    def _read(cls, file: Path) -> "Taxonomy":
        try:
            return cls.model_validate(tomllib.loads(file.read_text("utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            reason = f"{place}: {first['msg']}" if place else first["msg"].removeprefix("Value error, ")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            reason = " ".join(str(error).split())
        raise BadLabels(
            f"{file} is not a taxonomy ({reason.removesuffix('.')}): mend it, or move it away to use the one that "
            "comes with the package."
        )

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        self._not_genres = {fold(name) for name in self.not_genres}
        self._slugs: dict[str, str] = {}
        for slug, genre in self.genres.items():
            if slug != _slug(fold(slug)):
                raise ValueError(f"The genre {slug!r} must be written {_slug(fold(slug)) or 'with letters'!r}.")
            for name in (slug, genre.name, *genre.aliases):
                folded = fold(name)
                if not folded or folded in self._not_genres:
                    raise ValueError(f"{name!r} cannot name the genre {slug}, for it names none.")
                if self._slugs.setdefault(folded, slug) != slug:
                    raise ValueError(f"The taxonomy gives {name!r} to {self._slugs[folded]} and to {slug}.")
        self._without_genre = {fold(label) for label in self.labels_without_genre}
        for label in self._without_genre & self._slugs.keys():
            raise ValueError(f"The label {label!r} cannot both name {self._slugs[label]} and be without genre.")
        return self

    def known(self, name: str) -> str | None:
        """The slug of a genre that the taxonomy knows by this name, or None."""
        return self._slugs.get(fold(name))

    def slug(self, name: str) -> str | None:
        """The slug of any genre name: the known one or, for a new one, its words joined by ``_``.

        None for a name that is no genre: no letters, a single one (shelves from A to Z, but a syllable or an
        ideograph is a word), or one of ``not_genres``.
        """
        folded = fold(name)
        if folded in self._slugs:
            return self._slugs[folded]
        shelf = len(folded) < 2 and not (folded and _is_word(folded))
        return None if shelf or folded.isdigit() or folded in self._not_genres else _slug(folded)

    def covers(self, label: str) -> bool:
        """Whether the taxonomy says what a label of a published genre list means: a genre, or none."""
        return fold(label) in self._slugs or fold(label) in self._without_genre

    def is_not_genre(self, name: str) -> bool:
        """Whether a folder name is one of ``not_genres``, so that it names no artist either."""
        return fold(name) in self._not_genres

    def minimum(self, slug: str, default: int | None = None) -> int:
        """Training pieces from which on a genre gets shards: its own number, or else ``default``, or else the
        taxonomy's.
        """
        own = self.genres[slug].minimum_pieces if slug in self.genres else None
        general = self.minimum_pieces if default is None else default
        return general if own is None else own

    def title(self, slug: str) -> str:
        """The name of a genre for people."""
        return self.genres[slug].name if slug in self.genres else slug.replace("_", " ").capitalize()


def _slug(folded: str) -> str:
    return folded.replace(" ", "_")
