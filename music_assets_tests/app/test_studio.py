"""What a musician does in the studio, from a click to a file; and what a program gets."""

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright
from symusic.core import ScoreTick

from music_assets.app import takes
from music_assets.app.context import Model, Studio
from music_assets.app.events import Stops
from music_assets.app.pages import Pages
from music_assets.app.studio import build_page, served
from music_assets.app.tabs.about import about
from music_assets.evaluation.listening import ListeningFiles, ListeningSettings, prepare_session, read_ratings
from music_assets.evaluation.subject import Subject, champion_of
from music_assets.foundation.midi.writing import write_midi
from music_assets.generation.generate import make_task
from music_assets.paths import DataPaths
from music_assets.training.tracking import Tracking
from music_assets_tests.app.studios import event_loops_closed, make_studio
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune
from music_assets_tests.ports import free_port

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # Gradio's queue, a thread of this process, uses of pandas and asyncio what is deprecated there
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

# Without these, Chromium looks for the outside world at every start.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]
SECONDS = 60_000  # milliseconds, where two tests share a processor


@dataclass
class Site:
    studio: Studio
    address: str
    browser: Browser
    outside: list[str]

    @property
    def subject(self) -> Subject:
        return champion_of(self.studio.paths, "gpt")

    def open(self, width: int = 1280, address: str | None = None, **options: Any) -> Page:
        page = self.browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.set_default_timeout(SECONDS)
        page.on("request", lambda request: self.note(request.url))
        page.goto(address or self.address)
        expect(page.locator("#compose-write")).to_be_visible(timeout=SECONDS)
        page.wait_for_timeout(500)
        return page

    def note(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname != "127.0.0.1":
            self.outside.append(url)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    studio = make_studio(tmp_path_factory.mktemp("data"))
    with event_loops_closed(), served(studio, free_port()) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield Site(studio, address, browser, [])
        browser.close()


@pytest.fixture
def page(site) -> Iterator[Page]:
    page = site.open()
    yield page
    page.context.close()


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = Path(os.environ.get("MUSIC_ASSETS_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def slowly(monkeypatch):
    """Ten bars a second, so that one can be in time."""

    def slow_task(checkpoint, request):
        task = make_task(checkpoint, request)
        write = task.write

        def bars():
            for bar in write():
                time.sleep(0.1)
                yield bar

        task.write = bars
        return task

    monkeypatch.setattr(takes, "make_task", slow_task)


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("songs") / "song.mid"
    write_midi(make_tune(style="band", seed=5, bars=8, tempo=120), path)
    return path


def status(page: Page, tab: str) -> Locator:
    return page.locator(f"#{tab}-status")


def set_slider(page: Page, label: str, value: int) -> None:
    field = page.get_by_role("spinbutton", name=re.compile(label)).locator("visible=true").first
    field.fill(str(value))
    field.blur()
    page.wait_for_timeout(500)  # Gradio takes a slider's number up when it rests


def set_seed(page: Page, seed: int) -> None:
    page.get_by_role("button", name="More").locator("visible=true").click()
    page.wait_for_timeout(500)  # Gradio sets the number of what is opened once more
    field = page.get_by_label("Seed").locator("visible=true")
    field.fill(str(seed))
    field.blur()
    expect(field).to_have_value(str(seed))


def finished(page: Page, tab: str, seed: int = 0) -> None:
    expect(status(page, tab)).to_contain_text(re.compile(rf"notes, seed {seed}\."), timeout=SECONDS)


def heard(page: Page, tab: str, number: int = 1) -> None:
    expect(page.locator(f"#{tab}-{number} audio")).to_have_attribute("src", re.compile("^data:audio"), timeout=SECONDS)


def download(page: Page, tab: str, suffix: str, number: int = 1) -> bytes:
    with page.expect_download() as found:
        page.locator(f"#{tab}-{number}").get_by_text(suffix, exact=True).click()
    return found.value.path().read_bytes()


def go_to(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()


def send(page: Page, tab: str, path: Path) -> None:
    page.set_input_files(f"#{tab}-file input[type=file]", path)


def notes(data: bytes, before: float = 1e9, behind: float = 1e9) -> Counter:
    """In quarter notes: those that begin before a moment, or behind another one."""
    score = ScoreTick.from_midi(data)
    return Counter(
        (note.time / score.tpq, note.duration / score.tpq, note.pitch, note.velocity, track.program, track.is_drum)
        for track in score.tracks
        for note in track.notes
        if note.time / score.tpq < before or note.time / score.tpq >= behind
    )


def toast(page: Page) -> Locator:
    return page.get_by_test_id("toast-body")


def test_compose(site, page, pictures):
    page.click("#compose-write")
    finished(page, "compose")
    heard(page, "compose", 2)
    first, second = (download(page, "compose", ".mid", number) for number in (1, 2))
    assert notes(first)
    assert notes(first) != notes(second)
    assert download(page, "compose", ".ogg")[:4] == b"OggS"
    assert download(page, "compose", ".png")[1:4] == b"PNG"
    assert "music-assets generate --bars 8 --count 2 --genre reel --architecture gpt" in page.inner_text(".cm-content")
    page.screenshot(path=pictures / "studio-compose.png", full_page=True)
    page.click("#compose-another")
    finished(page, "compose", 1)
    assert notes(download(page, "compose", ".mid")) != notes(first)
    page.locator("#compose-1").get_by_role("button", name="Like this one").click()
    finished(page, "compose", 2)
    programs = {note[4:] for note in notes(download(page, "compose", ".mid"))}
    assert programs == {note[4:] for note in notes(download(page, "compose", ".mid", 2))}
    assert site.outside == []


def sounding(page: Page, tab: str, number: int = 1) -> float | None:
    """Where a candidate plays; None if it does not."""
    return page.locator(f"#{tab}-{number} audio").evaluate("audio => audio.paused ? null : audio.currentTime")


def plays(page: Page, tab: str, behind: float) -> None:
    """The first candidate has played until behind a moment."""
    page.wait_for_function(
        f"(() => {{ const audio = document.querySelector('#{tab}-1 audio'); "
        f"return audio && !audio.paused && audio.currentTime > {behind}; }})()"
    )


@pytest.mark.parametrize(("tab", "name"), [("compose", "Compose"), ("piano", "Piano")])
def test_it_plays_when_it_is_written(page, tab, name):
    go_to(page, name)
    page.click(f"#{tab}-write")
    plays(page, tab, 0.5)
    line = page.locator(f"#{tab}-1 .roll-head-line")
    begin, times = line.bounding_box(), sounding(page, tab)
    page.wait_for_timeout(1000)
    end = line.bounding_box()
    assert begin is not None
    assert end is not None
    assert end["x"] > begin["x"]
    assert times is not None
    assert sounding(page, tab, 2) is None
    page.uncheck(f"#{tab}-plays input")
    page.click(f"#{tab}-another")
    finished(page, tab, 1)
    heard(page, tab)
    page.wait_for_timeout(1500)
    assert page.locator(f"#{tab}-1 audio").evaluate("audio => [audio.paused, audio.currentTime]") == [True, 0]


def test_a_preset_is_what_is_usual_in_the_genre(page):
    page.click("#compose-usual")
    page.get_by_role("button", name="More").locator("visible=true").click()
    expect(page.get_by_label("Tempo").locator("visible=true")).not_to_have_value("", timeout=SECONDS)
    page.click("#compose-write")
    finished(page, "compose")
    assert "--tempo" in page.inner_text(".cm-content")


def test_stop_keeps_what_is_written(page, slowly):
    set_slider(page, "Bars", 32)
    page.click("#compose-write")
    expect(status(page, "compose")).to_contain_text(re.compile(r"Writing: [2-9]\d of 64 bars"), timeout=SECONDS)
    page.click("#compose-stop")
    expect(status(page, "compose")).to_contain_text("Stopped: what has been written is kept.", timeout=SECONDS)
    assert notes(download(page, "compose", ".mid"))


def test_continue(page, song, pictures):
    go_to(page, "Continue")
    page.click("#continue-write")
    expect(toast(page)).to_contain_text("Choose a MIDI file first.", timeout=SECONDS)
    send(page, "continue", song)
    expect(page.locator("#continue-source .roll-title")).to_have_text("song.mid", timeout=SECONDS)
    page.fill("#continue-first input", "5")
    page.click("#continue-write")
    plays(page, "continue", 4)  # two bars before the join
    finished(page, "continue")
    made = notes(download(page, "continue", ".mid"))
    original = song.read_bytes()
    assert Counter({note: n for note, n in made.items() if note[0] < 16}) == notes(original, before=16)
    assert any(note[0] >= 16 for note in made)
    page.locator("#continue-1").get_by_role("button", name="Hear the join").click()
    expect(page.get_by_text("Two bars before the join")).to_be_visible(timeout=SECONDS)
    page.wait_for_function("document.querySelector('#continue-1 audio').paused")
    page.screenshot(path=pictures / "studio-continue.png", full_page=True)


def test_fill(page, song, pictures):
    go_to(page, "Fill")
    send(page, "fill", song)
    expect(page.locator("#fill-source .roll-title")).to_have_text("song.mid", timeout=SECONDS)
    box = page.locator("#fill-source .roll-notes").bounding_box()
    assert box is not None
    keys = 40
    bar = (box["width"] - keys) / 8
    page.mouse.move(box["x"] + keys + 2.5 * bar, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + keys + 3.5 * bar, box["y"] + 60, steps=5)
    page.mouse.up()
    expect(page.locator("#fill-first input")).to_have_value("3")
    expect(page.locator("#fill-last input")).to_have_value("4")
    page.click("#fill-write")
    finished(page, "fill")
    original, made = song.read_bytes(), download(page, "fill", ".mid")
    assert notes(made, before=8, behind=16) == notes(original, before=8, behind=16)
    assert notes(made) != notes(original)
    for name in ("Before", "After"):
        page.locator("#fill-1").get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_text("These bars, and two around them")).to_be_visible(timeout=SECONDS)
    for button, wanted in (("Accept", made), ("Undo", original), ("Redo", made)):
        where = page.locator("#fill-1") if button == "Accept" else page
        where.get_by_role("button", name=button, exact=True).click()
        expect(page.locator("#fill-redo")).to_be_enabled(enabled=button == "Undo", timeout=SECONDS)
        expect(page.locator("#fill-undo")).to_be_enabled(enabled=button != "Undo", timeout=SECONDS)
        with page.expect_download() as found:
            page.click("#fill-download")
        assert found.value.path().read_bytes() == wanted
    page.locator("#fill-source").click(position={"x": 5, "y": 5})
    page.keyboard.press("Control+z")
    expect(page.locator("#fill-undo")).to_be_disabled(timeout=SECONDS)
    page.keyboard.press("Control+Shift+z")
    expect(page.locator("#fill-undo")).to_be_enabled(timeout=SECONDS)
    page.screenshot(path=pictures / "studio-fill.png", full_page=True)


def test_other_files_are_refused_by_one_sentence(page, tmp_path):
    go_to(page, "Continue")
    (tmp_path / "other.mid").write_bytes(b"GIF89a")
    send(page, "continue", tmp_path / "other.mid")
    expect(toast(page)).to_contain_text("other.mid cannot be read: The file starts with", timeout=SECONDS)
    assert str(tmp_path) not in toast(page).inner_text()
    page.reload()
    go_to(page, "Continue")
    (tmp_path / "huge.mid").write_bytes(bytes(3 << 20))
    send(page, "continue", tmp_path / "huge.mid")
    expect(toast(page)).to_contain_text(re.compile(r"exceed the maximum allowed size of 1.0 Mb: .huge\.mid.\s*$"))
    assert "Traceback" not in page.content()


def test_the_piano_has_a_scale_and_no_instruments(page, pictures):
    go_to(page, "Piano")
    expect(page.locator("#piano-write")).to_be_visible()
    page.get_by_role("button", name="More").locator("visible=true").click()
    expect(page.get_by_label("Repetition penalty").first).to_be_visible()
    expect(page.get_by_label("Instruments").locator("visible=true")).to_have_count(0)
    for label, choice in (("Key", "D"), ("Scale", "dorian")):
        page.get_by_role("combobox", name=label).locator("visible=true").click()
        page.get_by_role("option", name=choice, exact=True).click()
    page.click("#piano-write")
    finished(page, "piano")
    classes = {note[2] % 12 for note in notes(download(page, "piano", ".mid"))}
    assert classes <= {2, 4, 5, 7, 9, 11, 0}
    assert classes
    page.screenshot(path=pictures / "studio-piano.png", full_page=True)


def test_no_answer_of_the_server_empties_a_number_that_is_typed_early(site):
    page = site.browser.new_page()
    try:
        page.route(re.compile("/queue/"), lambda route: route.abort())
        page.goto(site.address)
        page.get_by_role("button", name="More").locator("visible=true").click(timeout=SECONDS)
        expect(page.get_by_label("Tempo (").locator("visible=true")).to_have_value("", timeout=SECONDS)
    finally:
        page.context.close()


def test_two_people_at_once(site, slowly):
    one, two = site.open(), site.open(390)
    try:
        for page in (one, two):
            page.click("#compose-write")
        expect(status(one, "compose")).to_contain_text("Writing", timeout=SECONDS)
        for page in (one, two):
            finished(page, "compose")
        assert notes(download(one, "compose", ".mid")) == notes(download(two, "compose", ".mid"))
    finally:
        for page in (one, two):
            page.context.close()


def counts(what: Pages | Stops, count: int) -> None:
    """So many are counted soon: a page shows what was written a moment before the server has ended the writing."""
    end = time.monotonic() + SECONDS / 1000
    while what.count != count and time.monotonic() < end:
        time.sleep(0.05)
    assert what.count == count


def here(site: Site, count: int) -> None:
    """So many pages are open, as far as the server knows."""
    counts(site.studio.pages, count)


def test_a_closed_page_frees_its_place(site, slowly):
    one, two = site.open(), site.open()
    try:
        set_slider(one, "Bars", 64)
        set_slider(one, "Candidates", 4)
        one.click("#compose-write")
        expect(status(one, "compose")).to_contain_text(re.compile(r"Writing: [1-9]"), timeout=SECONDS)
        two.click("#compose-write")
        two.wait_for_timeout(1000)
        one.close()
        began = time.monotonic()
        finished(two, "compose")
        assert time.monotonic() - began < 15  # the other would have taken 26 s more
        counts(site.studio.stops, 0)
    finally:
        two.context.close()


def files() -> set[Path]:
    """What is kept for pages and programs; Gradio also leaves empty files."""
    return {path for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file() and path.stat().st_size}


def test_pages_are_counted_also_if_they_are_killed(site):
    here(site, 0)
    one, two = site.open(), site.open()
    here(site, 2)
    two.close()
    here(site, 1)
    one.reload()
    expect(one.locator("#compose-write")).to_be_visible(timeout=SECONDS)
    here(site, 1)
    with suppress(Error):
        one.goto("chrome://crash")
    here(site, 0)
    one.context.close()


def test_the_files_of_a_closed_page_go_with_it(site, song):
    here(site, 0)
    before, (one, two), seen = files(), (site.open(), site.open()), []
    for page in (one, two):
        set_seed(page, 77)
        page.click("#compose-write")
        heard(page, "compose", 2)
        seen.append(files() - before)
    made = seen[1] - {path for path in seen[0] if path.suffix == ".ogg"}  # each has a serial number of its own
    assert Counter(path.suffix for path in seen[0] & made) == {".mid": 2, ".png": 2}
    assert Counter(path.suffix for path in made) == {".mid": 2, ".ogg": 2, ".png": 2}
    go_to(one, "Continue")
    send(one, "continue", song)
    expect(one.locator("#continue-source .roll-title")).to_have_text("song.mid", timeout=SECONDS)
    one.click("#continue-write")
    heard(one, "continue", 2)
    one.locator("#continue-1").get_by_role("button", name="Hear the join").click()
    expect(one.get_by_text("Two bars before the join")).to_be_visible(timeout=SECONDS)
    sent = [path for path in files() - before if path.name == "song.mid"]
    assert len(sent) == 1
    assert len(files() - before - seen[1]) == 8
    one.close()
    here(site, 1)
    assert files() - before == made
    assert notes(download(two, "compose", ".mid", 2))
    two.close()
    here(site, 0)
    assert files() - before == set()


def test_nothing_is_left_of_a_page_that_is_closed_while_it_is_written_for(site, slowly):
    here(site, 0)
    before, page = files(), site.open()
    set_slider(page, "Bars", 32)
    page.click("#compose-write")
    expect(status(page, "compose")).to_contain_text(re.compile(r"Writing: [1-9]"), timeout=SECONDS)
    page.close()
    here(site, 0)
    time.sleep(2)
    counts(site.studio.stops, 0)
    assert files() == before


def test_listen(site, page, pictures):
    go_to(page, "Listen")
    page.get_by_role("button", name="Make a session").first.click()
    set_slider(page, "Real excerpts", 2)
    page.click("#listen-prepare")
    expect(status(page, "listen").or_(toast(page)).first).to_contain_text("is ready", timeout=SECONDS)
    page.click("#listen-begin")
    expect(toast(page)).to_contain_text("Say who listens", timeout=SECONDS)
    page.get_by_label("Your name").fill("Ada")
    for number in range(1, 5):
        if number in (1, 3):  # the second time after a pause
            if number == 3:
                page.reload()
                go_to(page, "Listen")
                expect(page.locator("#listen-session input")).not_to_have_value("", timeout=SECONDS)
                page.get_by_label("Your name").fill("Ada")
            page.click("#listen-begin")
        expect(status(page, "listen")).to_have_text(f"Excerpt {number} of 4", timeout=SECONDS)
        for scale in ("musicality", "coherence", "creativity"):
            page.locator(f"#listen-{scale}").get_by_label("3").check()
        page.locator("#listen-guess").get_by_label("Real").check()
        if number == 1:
            page.screenshot(path=pictures / "studio-listen.png", full_page=True)
        page.click("#listen-next")
    expect(status(page, "listen")).to_contain_text("Thank you, Ada: you have rated all 4", timeout=SECONDS)
    assert len(read_ratings(ListeningFiles(site.studio.paths.listening("gpt")).ratings).ratings) == 4
    page.get_by_role("button", name="Results so far").click()
    page.click("#listen-results")
    expect(page.get_by_text("Right guesses")).to_be_visible(timeout=SECONDS)


def test_about(page, pictures):
    page.click("#compose-write")
    finished(page, "compose")
    go_to(page, "About")
    for text in ("untrained", "not measured yet", "music-assets generate --bars 8 --count 2"):
        expect(page.get_by_text(text).locator("visible=true").first).to_be_visible(timeout=SECONDS)
    page.screenshot(path=pictures / "studio-about.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(site, scheme, pictures):
    page = site.open(390, color_scheme=scheme)
    try:
        page.click("#compose-write")
        finished(page, "compose")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.screenshot(path=pictures / f"studio-phone-{scheme}.png", full_page=True)
    finally:
        page.context.close()


def test_the_ratings_stand_in_one_line(site, pictures):
    prepare_session(site.subject, ListeningSettings(count=1, seed=7))
    for width in (1280, 390):
        page = site.open(width)
        try:
            if width == 390:
                page.get_by_label("More tabs").click()
                page.locator(".overflow-dropdown").get_by_text("Listen").click()
            else:
                go_to(page, "Listen")
            page.get_by_label("Your name").fill(f"Ada {width}")
            page.click("#listen-begin")
            expect(status(page, "listen")).to_contain_text("Excerpt 1 of", timeout=SECONDS)
            for scale in ("musicality", "coherence", "creativity"):
                boxes = [one.bounding_box() or {} for one in page.locator(f"#listen-{scale} label").all()]
                assert len({box["y"] for box in boxes}) == 1
                assert all(box["x"] >= 0 and box["x"] + box["width"] <= width - 10 for box in boxes)
            assert page.locator("#listen-audio [download], #listen-audio [aria-label=Download]").count() == 0
            page.screenshot(path=pictures / f"studio-listen-{width}.png", full_page=True)
        finally:
            page.context.close()


@pytest.mark.parametrize("when", ["idle", "while it renders", "clicked while it is away"])
def test_the_server_is_restarted_under_an_open_page(when, site):
    port = free_port()
    with served(site.studio, port) as address:
        page = site.open(address=address)
        page.click("#compose-write")
        finished(page, "compose")
        if when != "while it renders":
            heard(page, "compose", 2)
    try:
        if when == "clicked while it is away":
            page.click("#compose-write")
            expect(toast(page).last).to_contain_text("Connection to the server was lost.", timeout=SECONDS)
        with served(site.studio, port):
            expect(status(page, "compose")).to_be_empty(timeout=SECONDS)  # the page has loaded itself anew
            page.click("#compose-write")
            finished(page, "compose")
            heard(page, "compose", 2)
    finally:
        page.context.close()


@pytest.mark.parametrize("servers", [True, False])
def test_about_links_to_the_servers_beside_the_studio(servers, site, tmp_path, monkeypatch):
    for name in ("MLFLOW_UI", "DAGSTER_UI"):
        monkeypatch.delenv(name, raising=False)
    if servers:
        monkeypatch.setenv("MLFLOW_UI", "http://127.0.0.1:5000")
        monkeypatch.setenv("DAGSTER_UI", "http://127.0.0.1:3000")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    paths = DataPaths(tmp_path)
    tracking = Tracking(paths)
    with tracking.run("gpt") as run:
        pass
    checkpoint = site.studio.model.checkpoint
    known, gone = (
        about(Studio(paths, Model(replace(checkpoint, facts=checkpoint.facts.model_copy(update=update))), None))
        for update in ({"mlflow_run_id": run.id}, {"mlflow_run_id": "0" * 32})
    )
    link = f"(http://127.0.0.1:5000/#/experiments/{tracking.experiment_id}/runs/{run.id})"
    assert (link in known) == servers
    assert "MLflow" not in gone
    for text in (known, gone):
        for asset in ("checkpoint", "evaluation_report"):
            assert (f"(http://127.0.0.1:3000/assets/{asset}?view=partitions&partition=gpt)" in text) == servers


def test_programs(site, song):
    client = Client(site.address, verbose=False)
    tune = Path(client.predict({"bars": 4, "seed": 1}, api_name="/compose"))
    assert notes(tune.read_bytes())
    longer = client.predict(handle_file(song), {"bars": 2}, api_name="/continue")
    original = song.read_bytes()
    assert notes(Path(longer).read_bytes(), before=32) == notes(original)
    other = client.predict(handle_file(song), {"from_bar": 3, "to_bar": 4}, api_name="/fill")
    assert notes(Path(other).read_bytes(), before=8, behind=16) == notes(original, before=8, behind=16)
    for wishes, why in (
        ({"tempo": 5}, "tempo cannot be 5"),
        ({"fill_file": "/etc/passwd"}, "Wishes name no file"),
        ({"bars": 65}, "at most 64 bars"),
        ([1], "Wishes are an object"),
    ):
        with pytest.raises(AppError, match=why):
            client.predict(wishes, api_name="/compose")
    with pytest.raises(AppError) as caught:
        client.predict(handle_file(song), {"from_bar": 99}, api_name="/fill")
    assert "/" not in str(caught.value)
    client.close()


def test_no_file_of_this_computer_is_given_away(site, song):
    import requests

    for path in ("/etc/passwd", str(song), str(site.studio.paths.root / "listening"), "pyproject.toml"):
        assert requests.get(f"{site.address}gradio_api/file={path}", timeout=30).status_code in (403, 404)


@pytest.mark.parametrize(("architecture", "fills"), [("gru", True), ("pianoroll", False)])
def test_only_what_the_checkpoint_can_do_is_offered(architecture, fills, tmp_path):
    with event_loops_closed():
        page = build_page(Studio(DataPaths(tmp_path), Model(untrained(architecture)), None))
    blocks = [*page.blocks.values()]
    tabs = [block.label for block in blocks if isinstance(block, gr.Tab)]
    assert tabs == ["Compose", "Continue", *(["Fill"] if fills else []), "Listen", "About"]
    names = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    assert names == {"compose", "continue", *(["fill"] if fills else [])}
    labels = {getattr(block, "label", None) for block in blocks}
    assert ("Repetition penalty" in labels) != fills
    assert ("Density (notes a beat)" in labels) == fills
    assert {"Key", "Scale", "Genre", "Bars"} <= labels
