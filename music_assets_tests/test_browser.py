"""What a person does in the browser: look at the graph, materialise a genre's shards, listen to a sample in MLflow."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError, sync_playwright

from music_assets.checkpoints.runs import read_facts, require_champion
from music_assets.paths import DataPaths
from music_assets.servers import Addresses, servers
from music_assets.training.mlflow_store import tracking_uri
from music_assets_tests.midi_files import write_corpus
from music_assets_tests.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[1]
# Without these, Chromium looks for the outside world at every start.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]


@dataclass
class Site:
    """Both servers over a trained demo, and a browser's page."""

    addresses: Addresses
    paths: DataPaths
    page: Page
    pictures: Path

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self.pictures / f"{name}.png")


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium is installed")


@pytest.fixture(scope="module")
def project(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder of its own, in which the pipeline has run on two genres."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DAGSTER_HOME", str(folder))
        patch.setenv("MUSIC_ASSETS_DATA", str(folder / "data"))
        write_corpus(folder / "data" / "raw", {"reel": 40, "jig": 40}, bars=8)
        command = [sys.executable, "-m", "music_assets", "pipeline", "--minutes", "0.05", "--samples", "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder


@pytest.fixture(scope="module")
def site(chromium: str, project: Path) -> Iterator[Site]:
    paths = DataPaths(project / "data")
    pictures = Path(os.environ.get("MUSIC_ASSETS_PICTURES", project / "pictures"))
    pictures.mkdir(parents=True, exist_ok=True)
    with (
        servers(project, tracking_uri(paths), free_port(), free_port(), free_port()) as (addresses, _),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS) as browser,
    ):
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(60_000)
        yield Site(addresses, paths, page, pictures)


def test_the_lineage_page_shows_the_groups(site: Site):
    site.page.goto(f"{site.addresses.dagster}/asset-groups")
    for group in ("corpus", "tokens", "model", "generation", "evaluation"):
        site.page.get_by_text(group, exact=True).first.wait_for()
    site.page.wait_for_timeout(1000)
    site.picture("lineage")


def test_a_genre_is_tokenised_by_clicking(site: Site):
    page, shard = site.page, site.paths.shard("jig", "up1")
    shutil.rmtree(shard.parent)
    page.goto(f"{site.addresses.dagster}/assets/token_shards")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    page.get_by_text("Select a partition").first.click()
    page.get_by_text("jig", exact=True).first.click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="All").last.click()
    site.picture("materialise")
    dialog.get_by_role("button", name="Launch backfill").click()
    page.goto(f"{site.addresses.dagster}/runs?view=backfills")
    page.get_by_role("link", name="View").or_(page.get_by_text("12 partitions")).first.wait_for()
    page.get_by_text("Success").first.wait_for(timeout=120_000)
    assert shard.exists()
    site.picture("runs")
    page.goto(f"{site.addresses.dagster}/assets/token_shards")
    page.get_by_text("pieces_encoded").first.wait_for()
    site.picture("token_shards")


def test_the_studio_is_the_third_address(site: Site):
    assert site.addresses.studio is not None
    site.page.goto(site.addresses.studio)
    site.page.get_by_role("button", name="Compose", exact=True).click()
    site.page.get_by_text("bars with").wait_for()
    site.picture("studio")


def test_mlflow_shows_curves_and_plays_a_sample(site: Site):
    facts = read_facts(require_champion(site.paths.checkpoints("gpt")))
    page, run = site.page, f"{site.addresses.mlflow}/#/experiments/1/runs/{facts.mlflow_run_id}"
    page.goto(f"{run}/model-metrics")
    page.get_by_text("valid/bits_per_note", exact=True).first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    site.picture("curves")
    page.goto(f"{run}/artifacts")
    for name in ("samples", "reel"):
        page.get_by_text(name, exact=True).first.click()
    sample, player = page.get_by_text(re.compile(r"^reel-\d+\.ogg$")).first, page.locator("audio")
    for _ in range(6):  # MLflow loses a click while it draws its tree; a sample without a note has no sound
        sample.click()
        with suppress(TimeoutError):
            player.wait_for(state="attached", timeout=10_000)
            break
    page.wait_for_timeout(1500)
    site.picture("sample")
    assert page.locator("audio").evaluate("audio => audio.duration") > 1


def test_the_report_opens(site: Site):
    site.page.goto(site.paths.evaluation("gpt").joinpath("report.html").as_uri())
    site.page.get_by_text("how good is it?").first.wait_for()
    assert site.page.locator("audio").count() >= 2
    site.picture("report")
