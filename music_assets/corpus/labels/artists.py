"""Which spellings mean one artist, and what genre the artist is known for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from music_assets.corpus.labels.csv_tables import read_table
from music_assets.corpus.labels.songs import fold_artist
from music_assets.corpus.labels.taxonomy import BadLabels

ARTISTS_NAME = "artists.csv"
_SHIPPED = Path(__file__).with_name(ARTISTS_NAME)
OWN_CONFIDENCE = 0.9
"""Confidence of a row without one, in a table that the user wrote."""
GUEST_SHARE = 0.9
"""What the genre of the first named artist is worth where only the artists together are looked for."""
_GUEST = re.compile(r"\s*[(\[]?\b(?:feat|featuring|ft|with|and|vs|versus)\b\.?\s+|\s*[&+]\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Artist:
    """An artist under one name."""

    name: str
    """Canonical spelling."""
    genre: str | None
    """Name of the genre, None if unknown."""
    confidence: float
    """How sure the genre is, over 0 and up to 1; 0 without a genre."""


@dataclass(frozen=True)
class ArtistTable:
    """Artists by spelling."""

    artists: dict[str, Artist]
    """By folded spelling, see :func:`music_assets.corpus.labels.songs.fold_artist`."""
    own_genres: dict[str, str] = field(default_factory=dict)
    """Names of genres in the user's table, and the file and line where each stands first."""
    _found: dict[str, Artist | None] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, labels: Path | None = None) -> "ArtistTable":
        """The table that comes with the package, and over it the one in the user's folder of label files.

        Columns: ``spelling``, ``artist`` (the canonical name; the spelling itself if empty), ``genre`` (empty if
        unknown) and, in the user's table perhaps left out, ``confidence`` (0..1]. Empty rows do not count. A row
        of the user's counts for all spellings of its artist; without a genre it leaves the genre that the package
        gives. Raises BadLabels.
        """
        spellings: dict[str, str] = {}
        artists: dict[str, Artist] = {}
        own_genres: dict[str, str] = {}
        for file in artist_files(labels):
            names, known, genres = _read(file)
            spellings = {key: names.get(fold_artist(name), name) for key, name in spellings.items()} | names
            artists |= {key: artist for key, artist in known.items() if artist.genre or key not in artists}
            own_genres = {} if file == _SHIPPED else genres
        return cls({key: artists[fold_artist(name)] for key, name in spellings.items()}, own_genres)

    def find(self, spelling: str | None) -> Artist | None:
        """The artist of this spelling, or None.

        Where *X feat. Y*, *X & Y* or *X with Y* is not in the table, it is X, and the genre a little less sure.
        """
        if spelling is None:
            return None
        if spelling not in self._found:
            self._found[spelling] = self._find(spelling)
        return self._found[spelling]

    def canonical(self, spelling: str) -> str:
        """The canonical name of the artist; the spelling itself if unknown."""
        artist = self.find(spelling)
        return artist.name if artist else spelling

    def _find(self, spelling: str) -> Artist | None:
        if whole := self.artists.get(fold_artist(spelling)):
            return whole
        for lead in _leads(spelling):
            if artist := self.artists.get(fold_artist(lead)):
                return replace(artist, confidence=artist.confidence * GUEST_SHARE)
        return None


def artist_files(labels: Path | None) -> list[Path]:
    """The tables that :meth:`ArtistTable.load` reads. Raises BadLabels if the user's is no file."""
    own = labels / ARTISTS_NAME if labels else None
    if not own or not own.exists():
        return [_SHIPPED]
    if not own.is_file():
        raise BadLabels(f"{own} is no file: put a table of artists there, or move it away.")
    return [_SHIPPED, own]


def _leads(spelling: str) -> Iterator[str]:
    """What stands before each *feat.*, the longest first."""
    for guest in reversed(list(_GUEST.finditer(spelling))):
        yield spelling[: guest.start()]


def _read(file: Path) -> tuple[dict[str, str], dict[str, Artist], dict[str, str]]:
    """Canonical names by folded spelling (their own among them), artists by folded canonical name, and the first
    place of every genre.
    """
    table = read_table(file)
    columns = table.columns[1:]
    if not {"spelling", "artist", "genre"} <= set(columns) <= {"spelling", "artist", "genre", "confidence"}:
        raise BadLabels(
            f"{file} has the columns {', '.join(columns)}; it needs spelling, artist and genre, "
            "and may have confidence."
        )
    names: dict[str, str] = {}
    artists: dict[str, Artist] = {}
    genres: dict[str, str] = {}
    for row in table.iter_rows(named=True):
        place = f"{file}, line {row['line']}"
        genre = row["genre"] or None
        confidence = _confidence(row.get("confidence", ""), place) if genre else 0.0
        artist = Artist(row["artist"] or row["spelling"], genre, confidence)
        key, spelling = fold_artist(artist.name), fold_artist(row["spelling"])
        if not key or not spelling:
            raise BadLabels(f"{place}: {row['spelling']!r} by {row['artist']!r} has no letters that name an artist.")
        if (other := artists.setdefault(key, artist)) != artist:
            raise BadLabels(f"{place}: {_told(artist)}, but a line above says {_told(other)}; give an artist one name.")
        for name in (spelling, key):
            if (other := names.setdefault(name, artist.name)) != artist.name:
                raise BadLabels(f"{place}: {name!r} means {artist.name} here and {other} in another line; keep one.")
        if genre:
            genres.setdefault(genre, place)
    return names, artists, genres


def _told(artist: Artist) -> str:
    return f"{artist.name} is {artist.genre or 'of no known genre'} with confidence {artist.confidence:g}"


def _confidence(text: str, place: str) -> float:
    try:
        confidence = float(text) if text else OWN_CONFIDENCE
    except ValueError:
        confidence = 0.0
    if not 0 < confidence <= 1:
        raise BadLabels(f"{place}: confidence must be a number over 0 and up to 1.")
    return confidence
