"""How far the sources of genre labels reach, how well they agree, and how good a classifier can look against them."""

import math
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from music_assets.corpus.labels.claims import BY_ARTIST

TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "source_coverage": (
        "How much of the corpus each source of labels reaches.",
        {
            "source": "The source.",
            "files": "Files that it makes a claim about.",
            "pieces": "Pieces that these files are.",
            "share": "These pieces by all pieces, 0..1.",
        },
    ),
    "source_agreement": (
        "How well two sources agree on the pieces that both label. Sources with one origin, such as two lists of one "
        "publisher, agree without proving anything.",
        {
            "source_a": "One source.",
            "source_b": "The other, later by name.",
            "pieces": "Pieces that both label.",
            "agreement": "Share of them with the same genre.",
            "kappa": "Cohen's kappa: agreement beyond chance, 1 at best, 0 for chance; null where chance alone agrees.",
        },
    ),
    "label_noise": (
        "How often a source gives two pieces of one song the same genre, and what follows for a classifier. Sources "
        "that label by artist are left out: they agree with themselves by construction. Errors that the pieces of a "
        "song share do not show here, but in source_agreement.",
        {
            "source": "The source.",
            "songs": "Songs with at least two pieces that it labels.",
            "pairs": "Pairs of different pieces of one song, both labelled.",
            "agreement": "Share of the pairs with the same genre.",
            "genres": "Genres that the source uses.",
            "ceiling": "Accuracy that even a perfect classifier cannot be expected to exceed against these labels, see "
            "music_assets.corpus.labels.audit.accuracy_ceiling; null for a source with a single genre.",
        },
    ),
}
"""The tables of :func:`audit` and their columns, each with what it means."""


def audit(labels: pl.DataFrame, files: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The audit ``TABLES`` of ``labels`` (``CLAIMS_SCHEMA``).

    ``files`` has a row a usable file with the columns ``path``, ``piece_id`` and ``group_id``. Where a source makes
    several claims about a piece, the surest counts, of equals the one made most often, then the first by name.
    """
    claimed = (
        labels.join(files, on="path")
        .group_by("piece_id", "group_id", "source", "genre")
        .agg(pl.col("confidence").max(), pl.len().alias("claims"))
        .sort("confidence", "claims", "genre", descending=[True, True, False])
        .unique(["piece_id", "source"], keep="first", maintain_order=True)
    )
    tables = {
        "source_coverage": _coverage(labels, claimed, files["piece_id"].n_unique()),
        "source_agreement": _agreement(claimed),
        "label_noise": _noise(claimed),
    }
    return {name: table.select(TABLES[name][1].keys()) for name, table in tables.items()}


def cohen_kappa(table: NDArray[np.int64]) -> tuple[float, float | None]:
    """Agreement of two labellings and Cohen's kappa, from a table ``(genres, genres)``.

    ``table[i, j]`` counts the pieces (at least one in all) that are of genre ``i`` by one, of ``j`` by the other.
    ``kappa = (agreement - chance) / (1 - chance)``, chance being how often two independent labellers with these
    frequencies would agree (Cohen, *A coefficient of agreement for nominal scales*, 1960). None where chance is 1:
    both know one genre only.
    """
    pieces = int(table.sum())
    agreement = int(table.trace()) / pieces
    chance = int(table.sum(axis=0) @ table.sum(axis=1)) / pieces**2
    return agreement, None if chance == 1 else (agreement - chance) / (1 - chance)


def accuracy_ceiling(agreement: float, genres: int) -> float | None:
    """The accuracy that a perfect classifier would reach against labels of which pairs agree this often.

    If each label is wrong with probability ``e``, independently of the other and with all ``K`` genres alike, two
    labels of one song agree with probability ``(1 - e)² + e² / (K - 1)``; the smaller solution gives ``1 - e``.
    Errors that the pieces of a song share (the same wrong recording matched, say) do not show, so the true ceiling
    is rather lower. Agreement below chance, ``1 / K``, gives ``1 / K``; a single genre tells nothing and gives None.
    """
    if genres < 2:
        return None
    return (1 + (genres - 1) * math.sqrt(max(0.0, (genres * agreement - 1) / (genres - 1)))) / genres


def _coverage(labels: pl.DataFrame, claimed: pl.DataFrame, pieces: int) -> pl.DataFrame:
    files = labels.group_by("source").agg(files=pl.col("path").n_unique())
    reached = claimed.group_by("source").agg(pieces=pl.len(), share=pl.len() / pieces)
    return files.join(reached, on="source").sort("source")


def _agreement(claimed: pl.DataFrame) -> pl.DataFrame:
    pieces, genres = (claimed.select(pl.col(name).unique()) for name in ("piece_id", "genre"))
    coded = claimed.join(pieces.with_row_index("piece"), on="piece_id").join(genres.with_row_index("code"), on="genre")
    said = {}
    for (source,), rows in coded.group_by("source"):
        said[source] = np.full(len(pieces), -1)
        said[source][rows["piece"].to_numpy()] = rows["code"].to_numpy()
    rows = []
    for one, other in combinations(sorted(said), 2):
        both = (said[one] >= 0) & (said[other] >= 0)
        if both.any():
            cells = np.bincount(said[one][both] * len(genres) + said[other][both], minlength=len(genres) ** 2)
            rows.append((one, other, int(both.sum()), *cohen_kappa(cells.reshape(len(genres), -1))))
    schema = {
        "source_a": pl.String,
        "source_b": pl.String,
        "pieces": pl.UInt32,
        "agreement": pl.Float64,
        "kappa": pl.Float64,
    }
    return pl.DataFrame(rows, schema, orient="row")


def _noise(claimed: pl.DataFrame) -> pl.DataFrame:
    by_file = claimed.filter(~pl.col("source").is_in(BY_ARTIST))
    pairs = pl.col("pieces") * (pl.col("pieces") - 1) // 2
    songs = (
        by_file.group_by("source", "group_id", "genre")
        .agg(pieces=pl.len().cast(pl.Int64))
        .group_by("source", "group_id")
        .agg(pl.col("pieces").sum(), agreeing=pairs.sum())
        .with_columns(pairs=pairs)
    )
    noise = (
        songs.filter(pl.col("pairs") > 0)
        .group_by("source")
        .agg(songs=pl.len(), pairs=pl.col("pairs").sum(), agreeing=pl.col("agreeing").sum())
        .join(by_file.group_by("source").agg(genres=pl.col("genre").n_unique()), on="source")
        .sort("source")
        .with_columns(agreement=pl.col("agreeing") / pl.col("pairs"))
    )
    ceilings = [accuracy_ceiling(*row) for row in noise.select("agreement", "genres").iter_rows()]
    return noise.with_columns(pl.Series("ceiling", ceilings, pl.Float64))
