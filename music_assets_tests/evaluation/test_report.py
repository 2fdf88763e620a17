"""The page stands alone, says what it was told, and leaves out what it was not."""

import dataclasses
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from music_assets.evaluation.classifier import generated_excerpts, genre_consistency, real_excerpts
from music_assets.evaluation.comparison import compare_features
from music_assets.evaluation.config import EvaluationConfig
from music_assets.evaluation.copying import copy_report
from music_assets.evaluation.likelihood import ALL_GENRES, PARTS, Likelihood
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.report import (
    ReportContent,
    SampleView,
    TrainingCurve,
    _scalar_histograms,
    estimate,
    number,
    percent,
    write_report,
)
from music_assets.evaluation.resampling import Estimate
from music_assets_tests.evaluation.note_arrays import notes, piece

CONFIG = EvaluationConfig(excerpt_bars=4, classifier_trees=20, bootstrap_rounds=50, floor_rounds=10)
MLFLOW = "http://127.0.0.1:5000/#/experiments/1"


class Page(HTMLParser):
    """Tags, addresses and visible text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.tags.append(tag)
        self._hidden = tag in ("script", "style")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str):
        self._hidden = False

    def handle_data(self, data: str):
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def pieces(seed: int, count: int) -> list[Piece]:
    rng = np.random.default_rng(seed)
    return [
        piece(
            notes([(step * gap, gap, int(rng.integers(60, 72))) for step in range(int(16 / gap))], bars=4),
            genre,
            f"{genre} {seed}-{number}",
        )
        for genre, gap in (("march", 1.0), ("reel", 0.5))
        for number in range(count)
    ]


def likelihoods() -> list[Likelihood]:
    return [
        Likelihood(
            model,
            genre,
            9,
            999,
            4444,
            bits,
            bits - 0.1,
            bits + 0.1,
            dict.fromkeys(PARTS, bits / 6),
            30.0,
            2.0,
        )
        for genre in (ALL_GENRES, "march", "reel")
        for model, bits in (("gpt", 3.0), ("6-gram", 4.0))
    ]


def sample_view(name: str, folder: Path) -> SampleView:
    return SampleView("reel", name, folder / f"{name}.mid", folder / f"{name}.ogg", folder / f"{name}.png")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> ReportContent:
    folder = tmp_path_factory.mktemp("samples")
    for suffix in ("mid", "ogg", "png"):
        (folder / f"sample.{suffix}").write_bytes(suffix.encode())
    held_out, made = pieces(2, 8), [*pieces(3, 5), piece(notes([], bars=4), "reel", "empty")]
    train, test = real_excerpts(pieces(1, 10), 4), real_excerpts(held_out, 4)
    generated = generated_excerpts(made, 4)
    view = sample_view("sample", folder)
    return ReportContent(
        title="Report on gpt",
        model="gpt",
        run={"checkpoint": "gpt/1"},
        mlflow_url=MLFLOW,
        caveats=["Velocities of ABC tunes are synthetic."],
        likelihood=likelihoods(),
        curve=TrainingCurve([1, 2, 3], [3, 2, 1], [1, 3], [5, 4], 3),
        features=compare_features(held_out, made, CONFIG),
        consistency=[genre_consistency(train, test, generated, CONFIG, programs) for programs in (True, False)],
        copying=copy_report(pieces(1, 10), held_out, made, CONFIG),
        samples=[dataclasses.replace(view, name=f"reel <{number}>") for number in range(5)],
        players_per_genre=3,
        provenance={"seed": "0"},
    )


@pytest.fixture(scope="module")
def page(content: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, content)
    return Page(path.read_text("utf-8"))


def test_nothing_is_fetched_from_anywhere(page: Page):
    foreign = [address for address in page.addresses if not address.startswith(("data:", "#"))]
    assert foreign == [MLFLOW]
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert page.tags.count("link") == 1  # the empty icon, so that browsers ask for none


def test_the_script_of_the_plots_is_there_once(content: ReportContent, tmp_path: Path):
    write_report(tmp_path / "report.html", content)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text.count("plotly.js v") == 1
    assert text.count('class="plotly-graph-div"') == 5
    assert len(text) < 7_000_000


def test_headline_numbers_and_caveats(page: Page, content: ReportContent):
    assert "3.00 [2.90 to 3.10]" in page.text
    assert "25% below 6-gram (4.00)" in page.text
    assert estimate(content.consistency[0].headline, as_percent=True) in page.text
    assert "Velocities of ABC tunes are synthetic." in page.text
    assert content.copying is not None
    assert estimate(content.copying.share_above, as_percent=True) in page.text


def test_samples_are_heard_up_to_the_limit_and_names_are_escaped(page: Page):
    assert page.tags.count("audio") == page.tags.count("img") == 3
    assert "reel <2>" in page.text
    assert "reel <3>" not in page.text
    assert "data:audio/ogg;base64,b2dn" in page.addresses
    assert "data:audio/midi;base64,bWlk" in page.addresses


def test_every_feature_has_a_panel_for_every_genre(page: Page, content: ReportContent):
    assert content.features is not None
    assert page.tags.count("svg") == len(content.features.distances)


def test_absent_sections_are_named_with_their_reason(tmp_path: Path):
    reason = "there is only one genre."
    write_report(tmp_path / "a.html", ReportContent("Title", "gpt", {}, missing={"consistency": reason}))
    page = Page((tmp_path / "a.html").read_text("utf-8"))
    assert f"Not in this report: {reason}" in page.text
    assert page.text.count("Not in this report") == 6
    assert "audio" not in page.tags


def test_missing_files_of_a_sample_are_left_out(tmp_path: Path):
    view = sample_view("quiet", tmp_path)
    write_report(tmp_path / "a.html", ReportContent("Title", "gpt", {}, samples=[view]))
    page = Page((tmp_path / "a.html").read_text("utf-8"))
    assert "quiet" in page.text
    assert "audio" not in page.tags


def test_numbers_for_people():
    assert [number(value) for value in (0, 0.12345, 3.14159, 42.42, 12345.6, math.nan)] == [
        "0.00",
        "0.123",
        "3.14",
        "42.4",
        "12,346",
        "–",
    ]
    assert number(-0.00012) == "-0.000"
    assert percent(math.nan) == "–"
    assert estimate(Estimate(0.5, 0.25, math.nan), as_percent=True) == "50% [25% to –]"


def test_a_feature_that_is_the_same_everywhere_but_for_rounding():
    same = [np.array([1.0, np.nextafter(1.0, 0)]), np.array([1.0])]
    shares, labels = _scalar_histograms(same)
    assert [share.sum() for share in shares] == [1.0, 1.0]
    assert labels[1] == number(1.0)
