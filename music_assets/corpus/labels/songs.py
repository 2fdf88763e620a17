"""What a path says (genre, artist, title), and which files belong to one song."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl

from music_assets.corpus.labels.taxonomy import Taxonomy, fold, takes_accents
from music_assets.foundation.hashing import hexdigest

_SUFFIX = re.compile(r"(\.(midi?|kar|rmi|gz))+$", re.IGNORECASE)
# the N of `<title>.N`, but not that of `Etude Op.10`
_VERSION = re.compile(r"(?<!\bno)(?<!\bnr)(?<!\bop)(?<!\bpt)(?<!\bvol)(?<!\bpart)\.\d{1,2}$", re.IGNORECASE)
_MD5 = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_NO_NAME = {"the", "and", "a", "feat", "ft", "featuring"}
_REMARK = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_LONG_WORD = 4
"""Words with fewer letters are what tells titles apart: *Fugue in A* is not *Fugue in E*."""
_LONG_TITLE = 8
"""So are the letters of a title with fewer: *Gone* is not *One*."""


class PathFacts(NamedTuple):
    """What the path of a file says of its music; None where it says nothing."""

    genre: str | None
    artist: str | None
    title: str | None


def path_facts(path: str, taxonomy: Taxonomy, is_artist: Callable[[str], bool] = lambda name: False) -> PathFacts:
    """Read ``<collection>/<genre>/<artist>/<title>.mid``, ``<collection>/<artist>/<title>.mid``, ...

    A folder that bears the name of a known genre is one, the inner of folder and collection first; in a tree
    of three levels the first folder is a genre by any name, unless ``is_artist`` knows it. Of what is left the
    outermost folder is the artist. Without one, a file name ``<artist> - <title>`` is taken apart. A file named by
    an md5 has no artist or title. Names come out in NFC, however the disk spells them.
    """
    *folders, name = unicodedata.normalize("NFC", path).split("/")
    stem = _VERSION.sub("", _SUFFIX.sub("", name)).strip()
    collection, inner = folders[:1], folders[1:]
    hashed = _MD5.fullmatch(stem) is not None
    genre = None
    if inner and (genre := taxonomy.known(inner[0])):
        inner = inner[1:]
    elif collection and (genre := taxonomy.known(collection[0])):
        pass
    elif len(inner) > 1 and not hashed and not is_artist(inner[0]):
        genre = taxonomy.slug(inner[0])
        inner = inner[1:]
    if hashed:
        return PathFacts(genre, None, None)
    artist = inner[0] if inner else None
    first, dash, rest = stem.partition(" - ")
    if dash and (artist is None or fold_artist(first) == fold_artist(artist)):
        artist, stem = artist or first, rest
    return PathFacts(genre, artist, stem or None)


def fold_title(title: str | None) -> str:
    """What two spellings of one title share: letters and digits, without case, accents, spaces and remarks.

    ``Don't Stop (Live)`` and ``dont stop`` are one title, ``Good Night`` and ``Goodnight`` too. A remark in
    brackets counts if nothing else is there. Empty for none.
    """
    return "".join(_title_words(title))


def _title_words(title: str | None) -> list[str]:
    return fold(_REMARK.sub(" ", title or "")).split() or fold(title or "").split()


@lru_cache(maxsize=1 << 16)
def fold_artist(artist: str | None) -> str:
    """What two spellings of one artist share: the words in alphabetical order, without *the* and its like.

    ``Elton John``, ``John, Elton`` and ``JOHN ELTON`` are one artist. Empty for none.
    """
    words = set(fold(artist or "").split())
    return " ".join(sorted(words - _NO_NAME or words))


def song_key(artist: str | None, title: str | None) -> str | None:
    """The same for all files of one song; None unless both artist and title are known.

    Artist names are compared as spelt: give the canonical one where it is known.
    """
    folded_artist, folded_title = fold_artist(artist), fold_title(title)
    return f"{folded_artist}/{folded_title}" if folded_artist and folded_title else None


def song_variants(artist: str | None, title: str | None) -> list[str]:
    """Keys of which two titles of one artist share one if a letter more, less or other makes one the other.

    The title must have ``_LONG_TITLE`` letters and the word with the letter ``_LONG_WORD``; digits never differ:
    parts, opus numbers and keys stay apart. Nor do letters of scripts in which each is a syllable or a word. (Deletion
    neighbourhoods, as in Bocek, Hunt and Stiller, *Fast similarity search in large dictionaries*, 2007.)
    """
    folded_artist, words = fold_artist(artist), _title_words(title)
    if not folded_artist or sum(map(len, words)) < _LONG_TITLE:
        return []
    variants = {"".join(words)}
    for place, word in enumerate(words):
        if len(word) >= _LONG_WORD and word.isalpha() and all(map(takes_accents, word)):
            before, after = "".join(words[:place]), "".join(words[place + 1 :])
            variants |= {f"{before}{word[:i]}{word[i + 1 :]}{after}" for i in range(len(word))}
    return [f"{folded_artist}/{variant}" for variant in sorted(variants)]


def group_ids(files: pl.DataFrame) -> pl.Series:
    """The group of every row of ``files``: rows that share a value of any link, and rows linked through others.

    The links are the columns ``song_key``, ``piece_id``, ``content_hash``, ``near_duplicates`` (strings or null)
    and ``song_variants`` (list of strings). The id of a group is the smallest of its song keys' hashes (of its
    content hashes where no file has a song key), so that another version of a known song changes no id.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, rows, nodes, size = len(files), [], [], len(files)
    for name in ("song_key", "piece_id", "content_hash", "near_duplicates", "song_variants"):
        links = files.select(pl.int_range(pl.len()).alias("row"), link=name)
        if isinstance(links.schema["link"], pl.List):
            links = links.explode("link")
        links = links.drop_nulls()
        codes = links["link"].rank("dense").to_numpy().astype(np.int64) - 1
        rows.append(links["row"].to_numpy())
        nodes.append(size + codes)
        size += int(codes.max(initial=-1)) + 1
    row, node = np.concatenate(rows), np.concatenate(nodes)
    links = coo_array((np.ones(len(row), np.int8), (row, node)), shape=(size, size))
    component = connected_components(links, directed=False)[1][:count]
    named = files.select(
        pl.Series("component", component),
        key=pl.col("song_key").map_elements(hexdigest, pl.String),
        content="content_hash",
    )
    group = pl.coalesce(pl.col("key").min().over("component"), pl.col("content").min().over("component"))
    return named.select(group.alias("group_id")).to_series()
