"""Coverage, agreement and noise of label sources against scikit-learn, counting, closed forms and a simulation."""

import math
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from music_assets.corpus.labels.audit import TABLES, accuracy_ceiling, audit, cohen_kappa
from music_assets.corpus.labels.claims import CLAIMS_SCHEMA

FILES = pl.DataFrame(
    [
        ("a.mid", "p1", "song"),
        ("a copy.mid", "p1", "song"),
        ("b.mid", "p2", "song"),
        ("c.mid", "p3", "song"),
        ("d.mid", "p4", "other song"),
    ],
    ["path", "piece_id", "group_id"],
    orient="row",
)
GENRES = ["rock", "jazz", "polka"]
both_labels = st.lists(st.tuples(st.sampled_from(GENRES), st.sampled_from(GENRES)), min_size=1)


def claims_on(rows: list[tuple[str, str, str, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, CLAIMS_SCHEMA, orient="row")


@given(both_labels)
def test_kappa_against_scikit_learn(rows: list[tuple[str, str]]) -> None:
    one, other = (list(labels) for labels in zip(*rows, strict=True))
    agreement, kappa = cohen_kappa(confusion_matrix(one, other, labels=GENRES))
    assert agreement == pytest.approx(np.mean([first == second for first, second in rows]))
    if len({*one, *other}) == 1:
        assert kappa is None
    else:
        assert kappa == pytest.approx(cohen_kappa_score(one, other))


def test_kappa_closed_forms() -> None:
    assert cohen_kappa(np.array([[2, 0], [0, 2]])) == (1, 1)
    assert cohen_kappa(np.array([[0, 2], [2, 0]])) == (0, -1)
    assert cohen_kappa(np.array([[2, 2], [0, 0]])) == (0.5, 0)
    assert cohen_kappa(np.array([[4, 0], [0, 0]])) == (1, None)


@given(st.integers(2, 30), st.floats(0, 1))
def test_the_ceiling_solves_its_equation(genres: int, share: float) -> None:
    error = share * (1 - 1 / genres)
    agreement = (1 - error) ** 2 + error**2 / (genres - 1)
    assert accuracy_ceiling(agreement, genres) == pytest.approx(1 - error, abs=1e-6)


def test_the_ceiling_at_the_ends() -> None:
    assert accuracy_ceiling(1, 5) == 1
    assert accuracy_ceiling(0.2, 5) == accuracy_ceiling(0.1, 5) == pytest.approx(0.2)
    assert accuracy_ceiling(1, 1) is None


def test_the_ceiling_in_a_simulation() -> None:
    random, songs, genres, error = np.random.default_rng(1), 20_000, 6, 0.25
    truth = random.integers(genres, size=songs)
    given_labels = [
        np.where(random.random(songs) < error, (truth + random.integers(1, genres, songs)) % genres, truth)
        for _ in range(2)
    ]
    agreement = float(np.mean(given_labels[0] == given_labels[1]))
    assert accuracy_ceiling(agreement, genres) == pytest.approx(1 - error, abs=0.02)


def test_an_audit_by_hand() -> None:
    labels = claims_on(
        [
            ("a.mid", "rock", "folder", 0.9),
            ("a copy.mid", "jazz", "folder", 0.9),
            ("a copy.mid", "rock", "lakh masd", 0.3),
            ("a copy.mid", "jazz", "lakh masd", 0.6),
            ("b.mid", "jazz", "folder", 0.9),
            ("b.mid", "jazz", "lakh masd", 0.6),
            ("c.mid", "rock", "lakh masd", 0.6),
            ("d.mid", "rock", "lakh masd", 0.6),
            ("d.mid", "rock", "artist table", 0.85),
            ("b.mid", "rock", "artist table", 0.85),
            ("c.mid", "rock", "artist table", 0.85),
        ]
    )
    tables = audit(labels, FILES)
    assert {name: table.columns for name, table in tables.items()} == {
        name: list(columns) for name, (_, columns) in TABLES.items()
    }
    assert tables["source_coverage"].rows() == [
        ("artist table", 3, 3, 0.75),
        ("folder", 3, 2, 0.5),
        ("lakh masd", 4, 4, 1.0),
    ]
    # of the folder's two claims on p1, equally sure and often made, the first by name counts
    assert tables["source_agreement"].rows() == [
        ("artist table", "folder", 1, 0.0, 0.0),
        ("artist table", "lakh masd", 3, pytest.approx(2 / 3), pytest.approx(0)),
        ("folder", "lakh masd", 2, 1.0, None),
    ]
    assert tables["label_noise"].rows() == [
        ("folder", 1, 1, 1.0, 1, None),
        ("lakh masd", 1, 3, pytest.approx(1 / 3), 2, 0.5),
    ]


def test_an_audit_of_nothing() -> None:
    for table in audit(claims_on([]), FILES).values():
        assert len(table) == 0


SOURCES = ["folder", "lakh masd", "lakh magd"]
corpora = st.lists(
    st.tuples(st.integers(0, 3), st.dictionaries(st.sampled_from(SOURCES), st.sampled_from(GENRES))), max_size=12
)


@pytest.mark.slow
@given(corpora)
def test_an_audit_against_counting(pieces: list[tuple[int, dict[str, str]]]) -> None:
    files = pl.DataFrame(
        [(f"{number}.mid", f"piece {number}", f"song {song}") for number, (song, _) in enumerate(pieces)],
        {"path": pl.String, "piece_id": pl.String, "group_id": pl.String},
        orient="row",
    )
    labels = [
        (f"{number}.mid", genre, source, 0.5)
        for number, (_, said) in enumerate(pieces)
        for source, genre in said.items()
    ]
    tables = audit(claims_on(labels), files)
    for source, count, share in tables["source_coverage"].select("source", "pieces", "share").iter_rows():
        assert count == sum(source in said for _, said in pieces)
        assert share == pytest.approx(count / len(pieces))
    agreeing = {}
    for one, other in combinations(sorted(SOURCES), 2):
        pairs = [said[one] == said[other] for _, said in pieces if {one, other} <= said.keys()]
        if pairs:
            agreeing[one, other] = (len(pairs), pytest.approx(np.mean(pairs)))
    rows = tables["source_agreement"].drop("kappa").iter_rows()
    assert {(one, other): tuple(rest) for one, other, *rest in rows} == agreeing
    same = {}
    for source in SOURCES:
        pairs = [
            first[source] == second[source]
            for (song, first), (other, second) in combinations(pieces, 2)
            if song == other and source in first and source in second
        ]
        if pairs:
            same[source] = (len(pairs), pytest.approx(np.mean(pairs)))
    rows = tables["label_noise"].select("source", "pairs", "agreement").iter_rows()
    assert {source: tuple(rest) for source, *rest in rows} == same
    assert all(ceiling is None or math.isfinite(ceiling) for ceiling in tables["label_noise"]["ceiling"])
