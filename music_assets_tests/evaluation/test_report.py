"""The page stands alone, says what it was told, and leaves out what it was not."""

import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from music_assets.evaluation.classifier import judge
from music_assets.evaluation.comparison import compare_features
from music_assets.evaluation.controls import CORRELATION, ControlReport, Obedience
from music_assets.evaluation.copying import copy_report
from music_assets.evaluation.guidance import CONSISTENCY, MEASURES, CurvePoint, GuidanceReport
from music_assets.evaluation.infills import ALL, BITS, BOTH_SIDES, FILLINGS, ONE, PAST, Fit, InfillReport
from music_assets.evaluation.likelihood import ALL_GENRES, PARTS, Likelihood, Likelihoods
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.report import (
    consistency,
    controls,
    copying,
    features,
    guidance,
    infills,
    likelihood,
    samples,
    structure,
    training,
)
from music_assets.evaluation.report.numbers import estimate, level, number, percent
from music_assets.evaluation.report.page import SECTIONS, Page, write_page
from music_assets.evaluation.report.samples import Samples
from music_assets.evaluation.report.training import TrainingCurves
from music_assets.evaluation.resampling import Estimate
from music_assets.evaluation.results import StoredResult
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.evaluation.structure import structure_report
from music_assets.generation.request import Wishes
from music_assets.generation.samples import SampleBatch
from music_assets_tests.evaluation.note_arrays import notes, piece

T = TypeVar("T")

SETTINGS = EvaluationSettings(
    excerpt_bars=4, structure_bars=4, classifier_trees=20, bootstrap_rounds=50, floor_rounds=10, confidence=0.9
)
MLFLOW = "http://127.0.0.1:5000/#/experiments/1"


class Reading(HTMLParser):
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


def likelihoods(of_network: float = 3.0) -> list[Likelihood]:
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
        for model, bits in (("gpt", of_network), ("6-gram", 4.0))
    ]


def control_rows() -> ControlReport:
    low, high = Estimate(0.1, -0.1, 0.3), Estimate(0.8, 0.7, 0.9)
    return ControlReport(
        [
            Obedience("bars", "as many bars", True, 9, low, None, Estimate(1, 1, 1)),
            Obedience("density", CORRELATION, False, 9, low, high, high),
        ]
    )


def infilled() -> InfillReport:
    bits = [Fit(ALL, BITS, given, 7, Estimate(bits, 2, 4)) for given, bits in ((BOTH_SIDES, 2.75), (PAST, 3.25))]
    return InfillReport(
        [
            *bits,
            *(
                Fit(kind, "note F1", filling, 9, Estimate(value, value - 0.1, value + 0.1))
                for kind in (ALL, ONE)
                for filling, value in zip(FILLINGS, (0.4, 0.1, 0.3, 0.2, 0.0), strict=True)
            ),
        ],
        *(1234, 0, 0),
    )


def guided() -> GuidanceReport:
    return GuidanceReport(
        [
            CurvePoint(varied, value, measure, Estimate(0.5, 0.4, 0.6))
            for varied, values in (("guidance", (1.0, 1.5, 2.0)), ("temperature", (0.8, 1.0)))
            for value in values
            for measure in MEASURES
        ],
        {CONSISTENCY: 1.0},
        20,
        {"guidance": 1.5, "temperature": 1.0},
    )


def batch(folder: Path, *names: str) -> SampleBatch:
    """Samples of a genre whose files are of a few bytes, if they are there at all."""
    return SampleBatch(
        folder=folder,
        genre="reel",
        architecture="gpt",
        run="gpt/1",
        settings=Wishes(temperature=0.8),
        names=[*names],
        ended=["network"] * len(names),
        ids=[np.zeros(0, np.uint16)] * len(names),
        notes=[7] * len(names),
    )


def stored(found: T) -> StoredResult[T]:
    return StoredResult("gpt/1", SETTINGS, found)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("samples")
    names = [f"reel <{index}>" for index in range(5)]
    for name in names:
        for suffix in ("mid", "ogg", "png"):
            (folder / f"{name}.{suffix}").write_bytes(suffix.encode())
    train, test, made = pieces(1, 10), pieces(2, 8), [*pieces(3, 5), piece(notes([], bars=4), "reel", "empty")]
    return Page(
        title="Report on gpt",
        model="gpt",
        run={"checkpoint": "gpt/1"},
        mlflow_url=MLFLOW,
        caveats=["Velocities of ABC tunes are synthetic."],
        contents={
            "likelihood": likelihood.show(stored(Likelihoods(likelihoods(), "6-gram", 0.25))),
            "structure": structure.show(stored(structure_report(test, made, SETTINGS))),
            "guidance": guidance.show(stored(guided())),
            "training": training.show(TrainingCurves([(1, 3.0), (2, 2.0), (3, 1.0)], [(1, 5.0), (3, 4.0)], 3)),
            "consistency": consistency.show(stored(judge(train, test, made, SETTINGS))),
            "controls": controls.show(stored(control_rows())),
            "infills": infills.show(stored(infilled())),
            "features": features.show(stored(compare_features(test, made, SETTINGS))),
            "copying": copying.show(stored(copy_report(train, test, made, SETTINGS))),
            "samples": samples.show(Samples([batch(folder, *names)], players_per_genre=3, bytes=1e6)),
        },
        provenance={"seed": "0"},
        training={"preset": "tiny", "tokens": None},
    )


@pytest.fixture(scope="module")
def page(content: Page, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(path, content)
    return Reading(path.read_text("utf-8"))


def test_nothing_is_fetched_from_anywhere(page: Reading):
    foreign = [address for address in page.addresses if not address.startswith(("data:", "#"))]
    assert foreign == [MLFLOW]
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert page.tags.count("link") == 1  # the empty icon, so that browsers ask for none


def test_the_script_of_the_plots_is_there_once(content: Page, tmp_path: Path):
    write_page(tmp_path / "report.html", content)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text.count("plotly.js v") == 1
    assert text.count('class="plotly-graph-div"') == 9
    assert len(text) < 7_000_000


def test_headline_numbers_and_caveats(page: Reading, content: Page):
    assert "3.00 [2.90 to 3.10]" in page.text
    assert "25% below 6-gram (4.00)" in page.text
    for section in ("consistency", "controls", "features", "copying"):
        headline = content.contents[section].headline
        assert headline is not None
        assert f"{headline.name} {headline.number} {headline.meaning}" in page.text
    assert "costs 2.75 [2.00 to 4.00] bits given both sides of the gap, and 3.25" in page.text
    assert "Velocities of ABC tunes are synthetic." in page.text
    assert "The n-gram counted 25% of the training tokens." in page.text


def test_settings_are_those_that_the_results_were_made_with(page: Reading):
    assert "90% interval" in page.text
    assert "95% interval" not in page.text
    sections = "genre consistency, likelihood, musical features, structure, controls, infills, guidance, copying"
    assert f"Settings: {sections} setting value seed 0" in page.text
    assert "floor_rounds 10" in page.text
    assert "Settings: samples of reel setting value instruments – tempo –" in page.text
    assert "temperature 0.8" in page.text
    assert "Settings: training setting value preset tiny tokens –" in page.text


def test_five_numbers_at_the_top(page: Reading, content: Page):
    assert sum(content.headline is not None for content in content.contents.values()) == 5


def test_a_filling_that_fits_less_than_the_bar_before_is_told_at_the_top():
    found = infilled()
    assert not infills.show(stored(found)).caveats
    worse = [replace(row, estimate=Estimate(0.1, 0, 0.2)) if row.filling == "network" else row for row in found.rows]
    (caveat,) = infills.show(stored(replace(found, rows=worse))).caveats
    assert "fits less than the bar before repeated: 10% [0% to 20%] and 30%" in caveat


def test_players_take_no_more_than_their_share_of_the_page(tmp_path: Path):
    batches = [replace(batch(tmp_path, *(f"{genre}-{n}" for n in range(3))), genre=genre) for genre in ("jig", "reel")]
    for one in batches:
        for name in one.names:
            (tmp_path / f"{name}.ogg").write_bytes(b"x" * 3000)  # 4000 in the page
    shown = samples.show(Samples(batches, players_per_genre=3, bytes=13_000)).values["players"]
    assert isinstance(shown, dict)
    assert {genre: [player.name for player in players] for genre, players in shown.items()} == {
        "jig": ["jig-0", "jig-1"],
        "reel": ["reel-0"],
    }


def test_samples_are_heard_up_to_the_limit_and_names_are_escaped(page: Reading):
    assert page.tags.count("audio") == page.tags.count("img") == 3
    assert "reel <2>" in page.text
    assert "reel <3>" not in page.text
    assert "data:audio/ogg;base64,b2dn" in page.addresses
    assert "data:audio/midi;base64,bWlk" in page.addresses


def test_every_feature_has_a_panel_for_every_genre(page: Reading):
    assert page.tags.count("svg") == len(compare_features(pieces(2, 8), pieces(3, 5), SETTINGS).distances)


def test_absent_sections_are_named_with_their_reason(tmp_path: Path):
    reason = "there is only one genre."
    write_page(tmp_path / "a.html", Page("Title", "gpt", missing={"consistency": reason}))
    page = Reading((tmp_path / "a.html").read_text("utf-8"))
    assert f"Not in this report: {reason}" in page.text
    assert page.text.count("Not in this report") == len(SECTIONS)
    assert "audio" not in page.tags


def test_missing_files_of_a_sample_are_left_out(tmp_path: Path):
    shown = samples.show(Samples([batch(tmp_path, "quiet")], players_per_genre=3, bytes=1e6))
    write_page(tmp_path / "a.html", Page("Title", "gpt", contents={"samples": shown}))
    page = Reading((tmp_path / "a.html").read_text("utf-8"))
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
    assert [level(0.95), level(0.995)] == ["95%", "99.5%"]
    assert estimate(Estimate(0.5, 0.25, math.nan), as_percent=True) == "50% [25% to –]"


def test_a_feature_that_is_the_same_everywhere_but_for_rounding():
    same = [np.array([1.0, np.nextafter(1.0, 0)]), np.array([1.0])]
    shares, labels = features.scalar_histograms(same)
    assert [share.sum() for share in shares] == [1.0, 1.0]
    assert labels[1] == number(1.0)


@pytest.mark.parametrize(("bits", "said"), [(3.0, False), (3.79, False), (3.81, True), (4.5, True)])
def test_a_baseline_that_comes_close_is_told_at_the_top(bits: float, said: bool):
    found = likelihood.show(stored(Likelihoods(likelihoods(bits), "6-gram", 1.0)))
    assert any("hardly better than none" in caveat for caveat in found.caveats) == said
