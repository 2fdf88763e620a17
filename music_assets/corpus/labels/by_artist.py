"""Sources that say the same of all songs of an artist: a table of artists, and what other songs of theirs are."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from music_assets.corpus.labels.artists import artist_files
from music_assets.corpus.labels.claims import (
    ARTIST_TABLE,
    ARTIST_VOTES,
    BY_ARTIST,
    CLAIMS_SCHEMA,
    DECIMALS,
    Claims,
    Known,
    LabelSource,
)
from music_assets.corpus.labels.songs import fold_artist
from music_assets.corpus.labels.taxonomy import BadLabels

VOTES_NEEDED = 3

VOTES_RELIABILITY = 0.95
"""Just under 1, so that what a source says of a song counts more than what it says of the artist's other songs."""


@dataclass(frozen=True)
class ArtistNames(LabelSource):
    """The table of artists, see :class:`music_assets.corpus.labels.artists.ArtistTable`."""

    labels: Path
    """Folder of the label files."""

    def files(self) -> list[Path]:
        """The tables. Raises BadLabels."""
        return artist_files(self.labels)

    def claims(self, songs: pl.DataFrame, known: Known) -> Claims:
        """One claim for every file of an artist whose genre the table knows.

        A genre of the shipped table that the taxonomy counts among ``not_genres`` is no claim; in the user's table it
        raises BadLabels.
        """
        for name, place in known.artists.own_genres.items():
            if known.taxonomy.slug(name) is None:
                raise BadLabels(f"{place}: {name!r} is no genre name; leave the genre empty if it is unknown.")
        rows = [
            (spelling, genre, artist.confidence)
            for spelling in songs["artist"].drop_nulls().unique()
            if (artist := known.artists.find(spelling))
            and artist.genre
            and (genre := known.taxonomy.slug(artist.genre))
        ]
        genres = pl.DataFrame(
            rows, {"artist": pl.String, "genre": pl.String, "confidence": pl.Float64}, orient="row"
        ).with_columns(source=pl.lit(ARTIST_TABLE))
        return Claims(songs.join(genres, on="artist").select(CLAIMS_SCHEMA.names()), [])


class ArtistVotes(LabelSource):
    """What most other songs of an artist are, say the sources that look at single files.

    Every song has one vote, the most confident claim on its files, and does not vote on itself. The vote is worth its
    confidence; the genre with most worth wins (of equals the first by name). The confidence is that worth, divided
    by the number of votes, times ``VOTES_RELIABILITY``: the share of the winner times how sure its voters are. Fewer
    than ``VOTES_NEEDED`` votes give no claim.
    """

    def files(self) -> list[Path]:
        """None: it reads other claims."""
        return []

    def claims(self, songs: pl.DataFrame, known: Known) -> Claims:
        """One claim for every file of an artist with enough votes on other songs."""
        spellings = songs["artist"].drop_nulls().unique()
        keys = [
            (spelling, key)
            for spelling in spellings
            if not known.taxonomy.is_not_genre(spelling) and (key := fold_artist(known.artists.canonical(spelling)))
        ]
        artists = pl.DataFrame(keys, {"artist": pl.String, "key": pl.String}, orient="row")
        # without a title the file is a song by itself
        song = pl.when(pl.col("title_key").fill_null("") == "").then("path").otherwise("title_key")
        named = songs.join(artists, on="artist").select("path", "key", song=song)
        votes = (
            known.earlier.filter(~pl.col("source").is_in(BY_ARTIST))
            .join(named, on="path")
            .group_by("key", "song", "genre")
            .agg(pl.col("confidence").max(), pl.len().alias("claims"))
            .sort("confidence", "claims", "genre", descending=[True, True, False])
            .unique(["key", "song"], keep="first", maintain_order=True)
            .select("key", "song", vote="genre", worth="confidence")
        )
        by_genre = votes.group_by("key", genre="vote").agg(won=pl.len(), worth_won=pl.col("worth").sum())
        voters = votes.group_by("key").agg(voters=pl.len())
        own = pl.col("vote") == pl.col("genre")
        winners = (
            named.select("key", "song")
            .unique()
            .join(votes, on=["key", "song"], how="left")
            .join(voters, on="key")
            .with_columns(pl.col("voters").cast(pl.Int64) - pl.col("vote").is_not_null())
            .filter(pl.col("voters") >= VOTES_NEEDED)
            .join(by_genre, on="key")
            .with_columns(
                won=pl.col("won").cast(pl.Int64) - own.fill_null(False),
                worth_won=(pl.col("worth_won") - pl.when(own).then("worth").otherwise(0.0)).round(DECIMALS),
            )
            .filter(pl.col("won") > 0)
            .sort("worth_won", "genre", descending=[True, False])
            .unique(["key", "song"], keep="first", maintain_order=True)
            .with_columns(
                source=pl.lit(ARTIST_VOTES), confidence=VOTES_RELIABILITY * pl.col("worth_won") / pl.col("voters")
            )
        )
        return Claims(named.join(winners, on=["key", "song"]).select(CLAIMS_SCHEMA.names()), [])
