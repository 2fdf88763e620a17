"""Where genre labels come from: every source makes claims, the index keeps all and chooses one a piece."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from music_assets.corpus.labels.artists import ArtistTable, artist_files
from music_assets.corpus.labels.claims import (
    ARTIST_TABLE,
    ARTIST_VOTES,
    CLAIMS_SCHEMA,
    DECIMALS,
    RELIABILITY,
    Claims,
    LabelSource,
    read_table,
    unforeseen,
    weighted_majority,
)
from music_assets.corpus.labels.msd import MsdRoute
from music_assets.corpus.labels.songs import fold_artist
from music_assets.corpus.labels.taxonomy import BadLabels, Taxonomy

CSV_NAME = "genres.csv"
CSV_CONFIDENCE = 1.0
FOLDER_CONFIDENCE = 0.9
VOTES_NEEDED = 3
VOTES_RELIABILITY = 0.95
"""Just under 1, so that what a source says of a song counts more than what it says of the artist's other songs."""
LAKH_SCHEMES = ("masd", "topmagd", "magd")
_LAKH_NAMES = ("midi_genre_map.json", "midi_genre_map.json.gz")


def claims(songs: pl.DataFrame, raw: Path, labels: Path, taxonomy: Taxonomy, artists: ArtistTable) -> Claims:
    """All claims about ``songs`` (``SONGS_SCHEMA``), sorted, and a sentence for every doubtful thing.

    ``raw`` is the drop folder, ``labels`` the folder of label files that belong to no collection. Raises
    :class:`BadLabels`.
    """
    by_file: list[LabelSource] = [GenresCsv(raw), GenreFolder(), LakhMap(labels), MsdRoute(labels)]
    found = [source.claims(songs, taxonomy) for source in by_file]
    by_artist: list[LabelSource] = [ArtistNames(artists), ArtistVotes(pl.concat(table for table, _ in found), artists)]
    found += [source.claims(songs, taxonomy) for source in by_artist]
    table = pl.concat(table for table, _ in found).unique().sort(CLAIMS_SCHEMA.names())
    return Claims(table, [note for _, notes in found for note in notes])


def label_files(raw: Path, labels: Path) -> list[Path]:
    """Every file that claims may come from, the taxonomy left out."""
    return [*GenresCsv(raw).files(), *LakhMap(labels).files(), *MsdRoute(labels).files(), *artist_files(labels)]


@dataclass(frozen=True)
class GenresCsv:
    """``genres.csv`` in the drop folder and in its collections.

    Columns: ``genre``, then ``path`` (relative to the folder of the table) or ``md5``, and perhaps ``confidence``
    (0..1, 1 if left out or empty; a row with 0 claims nothing). In a path ``\\`` is read as ``/``, and letters with
    accents may be composed or not. Empty rows do not count.
    """

    raw: Path
    """The drop folder."""

    def files(self) -> list[Path]:
        """The tables, sorted. Raises BadLabels where one may be that cannot be seen now."""
        try:
            folders = [self.raw, *sorted(folder for folder in self.raw.iterdir() if folder.is_dir())]
            return [file for folder in folders if (file := folder / CSV_NAME).is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BadLabels(
                f"{error.filename} cannot be looked at ({error.strerror}), so the labels of its folder are unknown: "
                f"mend that, or move the folder out of {self.raw}."
            ) from None

    def claims(self, songs: pl.DataFrame, taxonomy: Taxonomy) -> Claims:
        """One claim for every row and file that it means; a note where rows mean no file or contradict each other.

        Raises BadLabels.
        """
        found = [self._claims(file, songs, taxonomy) for file in self.files()]
        return Claims(
            pl.concat([CLAIMS_SCHEMA.to_frame(), *(table for table, _ in found)]),
            [note for _, notes in found for note in notes],
        )

    def _claims(self, file: Path, songs: pl.DataFrame, taxonomy: Taxonomy) -> Claims:
        table = read_table(file)
        columns = table.columns[1:]
        keys = [name for name in ("path", "md5") if name in columns]
        unknown = [name for name in columns if name not in ("path", "md5", "genre", "confidence")]
        if unknown or len(keys) != 1 or "genre" not in columns:
            raise BadLabels(
                f"{file} has the columns {', '.join(columns)}; it needs genre, one of path and md5, "
                "and may have confidence."
            )
        key = keys[0]
        if "confidence" not in columns:
            table = table.with_columns(confidence=pl.lit(""))
        given = pl.col("confidence")
        confidence = pl.when(given == "").then(CSV_CONFIDENCE).otherwise(given.cast(pl.Float64, strict=False))
        slugs = pl.col("genre").map_elements(taxonomy.slug, pl.String, skip_nulls=False)
        table = table.with_columns(slugs, given="genre", confidence=confidence)
        wrong = table.filter(~pl.col("confidence").is_between(0, 1).fill_null(False))
        if len(wrong):
            raise BadLabels(f"{file}, line {wrong['line'][0]}: confidence must be a number from 0 to 1.")
        wrong = table.filter(pl.col("genre").is_null())
        if len(wrong):
            raise BadLabels(f"{file}, line {wrong['line'][0]}: {wrong['given'][0]!r} is no genre name.")
        if key == "path":
            prefix = "" if file.parent == self.raw else f"{file.parent.name}/"
            table = table.with_columns(
                key=_same_path(pl.lit(prefix) + _same_path(pl.col("path")).str.strip_prefix("./"))
            )
            meant = songs.select("path", key=_same_path(pl.col("path")))
        else:
            table = table.with_columns(key=pl.col("md5").str.to_lowercase())
            meant = songs.select("path", key="md5")
        lost = table.join(meant, on="key", how="anti")
        notes = [f"{file}, line {lost['line'][0]}: there is no file with {key} {lost['key'][0]}."] if len(lost) else []
        if len(lost) > 1:
            notes = [f"{notes[0]} So it is with {len(lost)} of {len(table)} rows."]
        matched = table.filter(pl.col("confidence") > 0).select("line", "key", "genre", "confidence")
        matched = matched.join(meant, on="key")
        return Claims(
            matched.select("path", "genre", source=pl.lit(CSV_NAME), confidence="confidence"),
            [*notes, *_contradiction(matched, file)],
        )


def _same_path(path: pl.Expr) -> pl.Expr:
    """What the spellings of one path share: some systems decompose letters with accents, or write ``\\``."""
    return path.str.normalize("NFC").str.replace_all("\\", "/", literal=True)


def _contradiction(rows: pl.DataFrame, file: Path) -> list[str]:
    """A sentence if the surest ``rows`` on one path (columns ``line, path, genre, confidence``) differ in genre."""
    surest = pl.col("confidence") == pl.col("confidence").max().over("path")
    differing = (
        rows.filter(surest)
        .sort("line", "path")
        .unique(["path", "genre"], keep="first", maintain_order=True)
        .filter(pl.len().over("path") > 1)
    )
    if not len(differing):
        return []
    first, second = differing.filter(path=differing["path"][0]).head(2).iter_rows(named=True)
    files = differing["path"].n_unique()
    others = f" So it is with {files} files." if files > 1 else ""
    return [
        f"{file}, line {second['line']}: {second['path']} is {second['genre']} here and {first['genre']} in line "
        f"{first['line']}, both with confidence {first['confidence']:g}; keep one.{others}"
    ]


@dataclass(frozen=True)
class GenreFolder:
    """Genre folders, see :func:`music_assets.corpus.labels.songs.path_facts`."""

    def claims(self, songs: pl.DataFrame, taxonomy: Taxonomy) -> Claims:
        """One claim for every file in a genre folder."""
        said = {"genre": pl.col("folder_genre"), "source": pl.lit("folder"), "confidence": pl.lit(FOLDER_CONFIDENCE)}
        return Claims(songs.drop_nulls("folder_genre").select("path", **said), [])


@dataclass(frozen=True)
class LakhMap:
    """The Lakh genre map: ``{scheme: {md5: [label, ...]}}``, plain or gzip.

    A claim's confidence is the reliability of the scheme times the share of the file's labels that agree.
    """

    labels: Path
    """Folder of the label files."""

    def files(self) -> list[Path]:
        """The map, if it is there."""
        return [file for name in _LAKH_NAMES if (file := self.labels / name).is_file()][:1]

    def claims(self, songs: pl.DataFrame, taxonomy: Taxonomy) -> Claims:
        """One claim a scheme for every file in it. Raises BadLabels."""
        tables, notes = [CLAIMS_SCHEMA.to_frame()], []
        md5s = set(songs["md5"].drop_nulls())
        for file in self.files():
            for scheme, labels in _read_map(file, md5s).items():
                notes += unforeseen(labels, file, taxonomy)
                votes = labels.with_columns(source=pl.lit(f"lakh {scheme}"), weight=1.0)
                majority = weighted_majority(votes, taxonomy)
                matched = majority.join(songs.select("path", "md5"), on="md5")
                confidence = pl.col("share") * RELIABILITY[scheme]
                tables.append(matched.select("path", "genre", "source", confidence=confidence))
        return Claims(pl.concat(tables), notes)


def _read_map(file: Path, md5s: set[str]) -> dict[str, pl.DataFrame]:
    """Columns ``md5, label`` by scheme, of the files with these md5 only."""
    try:
        data = file.read_bytes()
        schemes = json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)
        return {
            scheme: pl.DataFrame(
                [(md5, label) for md5, labels in schemes[scheme].items() if md5 in md5s for label in _listed(labels)],
                {"md5": pl.String, "label": pl.String},
                orient="row",
            ).drop_nulls()
            for scheme in LAKH_SCHEMES
        }
    except (ValueError, KeyError, AttributeError, TypeError, EOFError, OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise BadLabels(
            f"{file} is not a genre map: it must be JSON with {', '.join(LAKH_SCHEMES)}, "
            f"each from md5 to a list of labels ({type(error).__name__}: {reason})."
        ) from None


def _listed(labels: Any) -> list[str | None]:
    # a string would be read letter by letter
    if not isinstance(labels, list) or not all(isinstance(label, str | None) for label in labels):
        raise TypeError(f"{labels!r:.40} is no list of labels")
    return labels


@dataclass(frozen=True)
class ArtistNames:
    """The table of artists."""

    artists: ArtistTable

    def claims(self, songs: pl.DataFrame, taxonomy: Taxonomy) -> Claims:
        """One claim for every file of an artist whose genre the table knows.

        A genre of the shipped table that the taxonomy counts among ``not_genres`` is no claim; in the user's table it
        raises BadLabels.
        """
        for name, place in self.artists.own_genres.items():
            if taxonomy.slug(name) is None:
                raise BadLabels(f"{place}: {name!r} is no genre name; leave the genre empty if it is unknown.")
        rows = [
            (spelling, genre, artist.confidence)
            for spelling in songs["artist"].drop_nulls().unique()
            if (artist := self.artists.find(spelling)) and artist.genre and (genre := taxonomy.slug(artist.genre))
        ]
        known = pl.DataFrame(
            rows, {"artist": pl.String, "genre": pl.String, "confidence": pl.Float64}, orient="row"
        ).with_columns(source=pl.lit(ARTIST_TABLE))
        return Claims(songs.join(known, on="artist").select(CLAIMS_SCHEMA.names()), [])


@dataclass(frozen=True)
class ArtistVotes:
    """What most other songs of an artist are, say the sources that look at single files.

    Every song has one vote, the most confident claim on its files, and does not vote on itself. The vote is worth its
    confidence; the genre with most worth wins (of equals the first by name). The confidence is that worth, divided
    by the number of votes, times ``VOTES_RELIABILITY``: the share of the winner times how sure its voters are. Fewer
    than ``VOTES_NEEDED`` votes elect nobody.
    """

    electorate: pl.DataFrame
    """Claims on single files (``CLAIMS_SCHEMA``)."""
    artists: ArtistTable
    """Which spellings are one artist."""

    def claims(self, songs: pl.DataFrame, taxonomy: Taxonomy) -> Claims:
        """One claim for every file of an artist with enough votes on other songs."""
        spellings = songs["artist"].drop_nulls().unique()
        keys = [
            (spelling, key)
            for spelling in spellings
            if not taxonomy.names_nothing(spelling) and (key := fold_artist(self.artists.canonical(spelling)))
        ]
        known = pl.DataFrame(keys, {"artist": pl.String, "key": pl.String}, orient="row")
        # without a title the file is a song by itself
        song = pl.when(pl.col("title_key").fill_null("") == "").then("path").otherwise("title_key")
        named = songs.join(known, on="artist").select("path", "key", song=song)
        votes = (
            self.electorate.join(named, on="path")
            .group_by("key", "song", "genre")
            .agg(pl.col("confidence").max(), pl.len().alias("claims"))
            .sort("confidence", "claims", "genre", descending=[True, True, False])
            .unique(["key", "song"], keep="first", maintain_order=True)
            .select("key", "song", vote="genre", worth="confidence")
        )
        parties = votes.group_by("key", genre="vote").agg(won=pl.len(), worth_won=pl.col("worth").sum())
        cast = votes.group_by("key").agg(cast=pl.len())
        own = pl.col("vote") == pl.col("genre")
        elected = (
            named.select("key", "song")
            .unique()
            .join(votes, on=["key", "song"], how="left")
            .join(cast, on="key")
            .with_columns(pl.col("cast").cast(pl.Int64) - pl.col("vote").is_not_null())
            .filter(pl.col("cast") >= VOTES_NEEDED)
            .join(parties, on="key")
            .with_columns(
                won=pl.col("won").cast(pl.Int64) - own.fill_null(False),
                worth_won=(pl.col("worth_won") - pl.when(own).then("worth").otherwise(0.0)).round(DECIMALS),
            )
            .filter(pl.col("won") > 0)
            .sort("worth_won", "genre", descending=[True, False])
            .unique(["key", "song"], keep="first", maintain_order=True)
            .with_columns(
                source=pl.lit(ARTIST_VOTES), confidence=VOTES_RELIABILITY * pl.col("worth_won") / pl.col("cast")
            )
        )
        return Claims(named.join(elected, on=["key", "song"]).select(CLAIMS_SCHEMA.names()), [])
