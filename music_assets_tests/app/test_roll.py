"""What a musician does with the piano roll, in a browser; and what Python gives and gets."""

import base64
import io
import json
import shutil
import wave
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from music_assets.app.roll import NEW, REPLACED, Roll, RollValue, Selection, bars_of, notes_of, selection_of
from music_assets.foundation.midi.programs import DRUMS
from music_assets.rendering.pictures import COLOURS, DRUM_COLOUR
from music_assets.tokens.remi import NoteArray

# Gradio's queue, a thread of this process, uses of pandas what is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

# Without these, Chromium looks for the outside world at every start.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]
VIOLIN, CELLO = 40, 42
LOCAL = {"127.0.0.1", "localhost"}


def silence(seconds: float) -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(1)
        audio.setframerate(8000)
        audio.writeframes(b"\x80" * round(seconds * 8000))
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"


def music(bars: int = 8, *, bar: float = 2.0, layer: int = 0, **changes: Any) -> RollValue:
    """In every bar four notes of a violin, one of a cello and two drums."""
    notes: list[Sequence[float]] = []
    for start in (index * bar for index in range(bars)):
        notes += [[start + beat * bar / 4, bar / 4, 72 + beat, 127, VIOLIN, layer] for beat in range(4)]
        notes += [[start, bar, 48, 127, CELLO, 0]]
        notes += [[start + half * bar / 2, 0.1, 36, 127, DRUMS, 0] for half in range(2)]
    value: dict[str, Any] = {
        "title": "Duet",
        "notes": notes,
        "bars": [index * bar for index in range(bars + 1)],
        "audio": None,
        "seconds": bars * bar,
        "done": True,
        "expected_bars": None,
        "plays_from": None,
    }
    return RollValue(**{**value, **changes})


# ---- without a browser


def test_a_value_comes_back_as_it_was_set():
    value = music(2, layer=NEW)
    roll = Roll(selectable=True)
    assert roll.preprocess(json.loads(json.dumps(roll.postprocess(value)))) == value
    assert roll.postprocess(None) is None
    assert roll.preprocess(None) is None


def test_numbers_of_numpy_can_be_sent():
    row = [*np.array([0.5, 0.25]), *np.array([60, 90, 0, 0], np.int16)]
    packed = Roll().postprocess(music(1, notes=[row], seconds=np.float64(2)))
    assert packed is not None
    assert packed["notes"] == "0.5,0.25,60,90,0,0"
    json.dumps(packed)


def test_music_that_grows_is_sent_as_a_continuation():
    """So that Gradio, which sends what was added to a text, sends only the new notes."""
    short, long = (Roll().postprocess(music(bars)) for bars in (3, 4))
    assert short is not None
    assert long is not None
    assert long["notes"].startswith(short["notes"])


@pytest.mark.parametrize(
    ("payload", "selection"),
    [
        ({"from_bar": 3, "to_bar": 5, "instrument": None}, Selection(3, 5, None)),
        ({"from_bar": 3, "to_bar": 3, "instrument": DRUMS}, Selection(3, 3, DRUMS)),
        (None, None),
        ({"from_bar": 5, "to_bar": 3, "instrument": None}, None),
        ({"from_bar": 0, "to_bar": 3, "instrument": None}, None),
        ({"from_bar": 1, "to_bar": 3, "instrument": 129}, None),
        ({"from_bar": "1", "to_bar": 3, "instrument": None}, None),
        ({"from_bar": 1, "to_bar": 3}, None),
    ],
)
def test_a_selection_is_read_from_what_a_browser_sent(payload: Any, selection: Selection | None):
    assert selection_of(payload) == selection


def test_notes_and_bars_of_a_document_in_seconds():
    notes = NoteArray(
        onset=np.array([0.0, 4.0]),
        duration=np.array([1.0, 2.0]),
        pitch=np.array([60, 36], np.int16),
        velocity=np.array([90, 100], np.int16),
        program=np.array([VIOLIN, DRUMS], np.int16),
        bar=np.array([0, 1], np.int32),
        bar_starts=np.array([0.0, 4.0]),
        bar_lengths=np.array([4.0, 3.0]),
        seconds=3.0,
        tempo=120.0,
    )
    assert notes_of(notes, REPLACED) == [[0, 0.5, 60, 90, VIOLIN, REPLACED], [2, 1, 36, 100, DRUMS, REPLACED]]
    assert bars_of(notes) == [0, 2, 3.5]
    assert notes_of(notes, seconds_at=lambda beats: beats)[1][:2] == [4, 2]
    assert bars_of(notes, lambda beats: beats) == [0, 4, 7]


def test_the_style_is_no_program():
    """Gradio evaluates it as a template, in which these signs have a meaning."""
    style = Roll().css_template
    assert not [sign for sign in ("`", "${", "{{", "\\") if sign in style]


# ---- in a browser


class Studio:
    """A page with two rolls; the first shows what it is given and what Python was told of its selection."""

    def __init__(self, browser: Browser, address: str, shown: dict[str, Any], **context: Any) -> None:
        self.page: Page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
        self.page.set_default_timeout(30_000)
        self.requests: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text) if "js_on_load" in line.text else None)
        self.page.goto(f"{address}/?__theme=light")
        self.shown = shown
        self.times = 0
        expect(self.roll).to_have_attribute("aria-label", "Yours: nothing yet")

    @property
    def roll(self) -> Locator:
        return self.page.locator("#roll .roll-scroller")

    def part(self, name: str, roll: str = "roll") -> Locator:
        return self.page.locator(f"#{roll} .roll-{name}")

    def show(self, value: RollValue | None, roll: str = "roll") -> None:
        self.shown["value"] = value
        self.times += 1
        self.page.locator(f"#show-{roll}").click()
        expect(self.page.locator("#times textarea")).to_have_value(str(self.times))
        self.settle()

    def settle(self) -> None:
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def place(self, bar: float, bars: int) -> tuple[float, float]:
        """A point on the page, in the middle of the notes, of a roll that shows all of its bars."""
        box = self.part("notes").bounding_box()
        assert box is not None
        return box["x"] + 38 + (bar / bars) * (box["width"] - 39), box["y"] + box["height"] / 2

    def drag(self, start: float, end: float, bars: int = 8) -> None:
        self.page.mouse.move(*self.place(start, bars))
        self.page.mouse.down()
        self.page.mouse.move(*self.place((start + end) / 2, bars))
        self.page.mouse.move(*self.place(end, bars))
        self.page.mouse.up()

    def told(self, selection: dict[str, int | None] | None) -> None:
        expect(self.page.locator("#told textarea")).to_have_value(json.dumps(selection))

    def pixels(self, colour: str) -> int:
        """How many pixels of the notes' canvas have exactly this colour."""
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        self.settle()
        return self.part("notes").evaluate(
            """(canvas, wanted) => {
                const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                let count = 0;
                for (let at = 0; at < data.length; at += 4) {
                    if (wanted.every((part, index) => Math.abs(data[at + index] - part) < 3)) count++;
                }
                return count;
            }""",
            wanted,
        )

    def audio(self, what: str, roll: str = "roll") -> Any:
        return self.page.locator(f"#{roll} audio").evaluate(f"audio => audio.{what}")

    def wait(self, condition: str) -> None:
        """Until a condition on the first roll's audio holds."""
        self.page.wait_for_function(
            f"() => {{ const audio = document.querySelector('#roll audio'); return {condition}; }}"
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=found, args=ARGUMENTS) as browser:
        yield browser


@pytest.fixture(scope="module")
def app() -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of an app, and what its buttons show."""
    shown: dict[str, Any] = {}

    def told(event: gr.SelectData) -> str:
        selection = selection_of(event.value)
        return json.dumps(selection and selection._asdict())

    with gr.Blocks(analytics_enabled=False) as blocks:
        roll = Roll(label="Yours", selectable=True, elem_id="roll")
        other = Roll(label="Another", elem_id="other")
        said, times = gr.Textbox(elem_id="told"), gr.Textbox(elem_id="times")
        roll.select(told, outputs=said, trigger_mode="multiple", queue=False)
        for shower in (roll, other):
            gr.Button("Show", elem_id=f"show-{shower.elem_id}").click(
                lambda count: (shown["value"], str(int(count or 0) + 1)), times, [shower, times], show_progress="hidden"
            )
        gr.Button("Write", elem_id="write").click(
            lambda: (yield from shown["steps"]), outputs=roll, show_progress="hidden"
        )
    _, address, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield address.rstrip("/"), shown
    blocks.close()


@pytest.fixture
def studio(browser: Browser, app: tuple[str, dict[str, Any]]) -> Iterator[Studio]:
    studio = Studio(browser, *app)
    yield studio
    studio.page.context.close()
    assert studio.faults == []
    assert {urlsplit(url).hostname for url in studio.requests if not url.startswith(("data:", "blob:"))} <= LOCAL


def in_browser(test: Any) -> Any:
    return pytest.mark.browser(pytest.mark.slow(test))


@in_browser
def test_notes_are_drawn_in_the_colours_of_the_pictures(studio: Studio):
    before = [studio.pixels(colour) for colour in (*COLOURS[:2], DRUM_COLOUR)]
    assert before == [0, 0, 0]
    studio.show(music())
    violin, cello, drums = (studio.pixels(colour) for colour in (*COLOURS[:2], DRUM_COLOUR))
    assert violin > 2000
    assert cello > 2000
    assert drums > 100
    expect(studio.part("chip")).to_have_text(["All instruments", "Violin", "Cello", "Drums"])
    expect(studio.roll).to_have_attribute("aria-label", "Duet: 56 notes in 8 bars, played by Violin, Cello and Drums")
    studio.show(None)
    assert studio.pixels(COLOURS[0]) == 0


@in_browser
def test_what_is_replaced_is_an_outline(studio: Studio):
    studio.show(music())
    filled = studio.pixels(COLOURS[0])
    studio.show(music(layer=REPLACED))
    assert studio.pixels(COLOURS[0]) < filled / 2
    expect(studio.part("key")).to_have_text(["outlined: replaced"])


@in_browser
def test_bars_are_chosen_by_dragging(studio: Studio):
    studio.show(music())
    studio.drag(2.4, 4.7)
    studio.told({"from_bar": 3, "to_bar": 5, "instrument": None})
    expect(studio.part("range")).to_have_text("Bars 3–5, all instruments")
    studio.page.get_by_role("button", name="Cello").click()
    studio.told({"from_bar": 3, "to_bar": 5, "instrument": CELLO})
    studio.roll.press("Escape")
    studio.told(None)
    studio.drag(6.5, 3.5)
    studio.told({"from_bar": 4, "to_bar": 7, "instrument": None})
    studio.page.get_by_role("button", name="Clear").click()
    studio.told(None)


@in_browser
def test_an_instrument_without_bars_is_chosen_throughout(studio: Studio):
    studio.show(music())
    studio.page.get_by_role("button", name="Violin").click()
    studio.told({"from_bar": 1, "to_bar": 8, "instrument": VIOLIN})
    expect(studio.page.get_by_role("button", name="Violin")).to_have_attribute("aria-pressed", "true")
    assert studio.pixels(COLOURS[1]) == 0, "the others are pale"
    studio.page.get_by_role("button", name="All instruments").click()
    studio.told({"from_bar": 1, "to_bar": 8, "instrument": None})


@in_browser
def test_bars_are_chosen_with_the_keyboard(studio: Studio):
    studio.show(music())
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"):
        studio.roll.press(key)
    studio.told({"from_bar": 3, "to_bar": 4, "instrument": None})
    for _ in range(3):
        studio.roll.press("Shift+ArrowLeft")
    studio.told({"from_bar": 1, "to_bar": 3, "instrument": None})


@in_browser
def test_a_bar_is_chosen_by_touch(browser: Browser, app: tuple[str, dict[str, Any]]):
    studio = Studio(browser, *app, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    studio.show(music())
    studio.page.touchscreen.tap(*studio.place(2.5, 8))
    studio.told({"from_bar": 3, "to_bar": 3, "instrument": None})
    finger = studio.page.context.new_cdp_session(studio.page)
    for kind, bar in (("touchStart", 3.5), ("touchMove", 4.2), ("touchMove", 5.5), ("touchEnd", None)):
        points = [] if bar is None else [dict(zip("xy", studio.place(bar, 8), strict=True))]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    studio.told({"from_bar": 4, "to_bar": 6, "instrument": None})
    assert studio.page.evaluate("document.documentElement.scrollWidth") <= 390
    studio.page.context.close()


@in_browser
def test_growing_music_keeps_selection_and_scroll(studio: Studio):
    growing: dict[str, Any] = {"done": False, "expected_bars": 100}
    studio.show(music(6, **growing))
    expect(studio.part("hint")).to_have_text("Writing bar 7 of 100… Audio is coming.")
    for _ in range(3):
        studio.roll.press("Shift+ArrowRight")
    studio.told({"from_bar": 1, "to_bar": 3, "instrument": None})
    studio.roll.evaluate("scroller => { scroller.scrollLeft = 40; }")
    wide = studio.roll.evaluate("scroller => scroller.scrollWidth")
    studio.show(music(12, **growing))
    expect(studio.part("live")).to_have_text("Bar 12 written")
    expect(studio.part("range")).to_have_text("Bars 1–3, all instruments")
    assert studio.roll.evaluate("scroller => scroller.scrollLeft") == 40
    assert studio.roll.evaluate("scroller => scroller.scrollWidth") == wide
    studio.told({"from_bar": 1, "to_bar": 3, "instrument": None})
    studio.show(music(8, bar=1.5))
    studio.told(None)


@in_browser
def test_music_is_drawn_while_it_is_written(studio: Studio):
    unfinished: dict[str, Any] = {"done": False, "expected_bars": 8}
    studio.shown["steps"] = [*(music(bars, **unfinished) for bars in range(8)), music(8, audio=silence(16))]
    studio.page.locator("#write").click()
    expect(studio.roll).to_have_attribute("aria-label", "Duet: 56 notes in 8 bars, played by Violin, Cello and Drums")
    expect(studio.part("live")).to_have_text("8 bars, 56 notes: finished")
    expect(studio.part("hint")).to_be_empty()
    assert studio.pixels(COLOURS[0]) > 2000
    studio.wait("audio.duration === 16")


@in_browser
def test_the_playhead_moves_with_the_sound(studio: Studio):
    studio.show(music(8, audio=silence(16)))
    line = studio.part("head-line")
    at_start = line.bounding_box()
    studio.roll.press("Space")
    studio.wait("!audio.paused && audio.currentTime > 0.2")
    expect(studio.page.locator("#roll").get_by_role("button", name="Pause")).to_be_visible()
    studio.roll.press("Space")
    studio.wait("audio.paused")
    later = line.bounding_box()
    assert at_start is not None
    assert later is not None
    assert later["x"] > at_start["x"]
    studio.roll.press("ArrowRight")
    studio.wait("audio.currentTime === 2")
    expect(studio.part("time")).to_have_text("0:02 / 0:16 · bar 2")
    studio.part("ruler").click(position={"x": studio.place(6.5, 8)[0] - studio.place(0, 8)[0] + 38, "y": 10})
    studio.wait("Math.abs(audio.currentTime - 13) < 0.1")
    studio.roll.press("Home")
    studio.wait("audio.currentTime === 0")


@in_browser
def test_a_selection_is_repeated(studio: Studio):
    studio.show(music(8, bar=0.5, audio=silence(4)))
    studio.drag(2.2, 2.8)
    studio.page.locator("#roll").get_by_role("button", name="Loop").click()
    studio.roll.press("Space")
    studio.wait("!audio.paused && audio.currentTime > 1.3")
    studio.wait("audio.currentTime < 1.2")
    assert studio.audio("paused") is False
    assert studio.audio("currentTime") >= 1


@in_browser
def test_one_roll_plays_at_a_time(studio: Studio):
    studio.show(music(8, audio=silence(16)))
    studio.show(music(8, audio=silence(16)), "other")
    studio.part("play").click()
    studio.wait("!audio.paused")
    studio.part("play", "other").click()
    studio.wait("audio.paused")
    assert studio.audio("paused", "other") is False


@in_browser
def test_it_plays_unasked_once_there_is_audio(studio: Studio):
    studio.show(music(8, plays_from=4))
    assert studio.audio("paused")
    at_start = studio.part("head-line").bounding_box()
    studio.show(music(8, audio=silence(16), plays_from=4))
    studio.wait("!audio.paused && audio.currentTime > 4.2")
    later = studio.part("head-line").bounding_box()
    assert at_start is not None
    assert later is not None
    assert later["x"] - at_start["x"] > (studio.place(2, 8)[0] - studio.place(0, 8)[0]) * 0.9
    studio.part("play").click()
    studio.wait("audio.paused")
    studio.show(music(8, audio=silence(16), plays_from=4, title="The same audio"))
    expect(studio.part("title")).to_have_text("The same audio")
    studio.page.wait_for_timeout(300)
    assert studio.audio("paused")


@in_browser
@pytest.mark.parametrize("obstacle", ["another roll plays", "a player in a shadow plays", "hidden", "forbidden"])
def test_it_does_not_play_unasked(studio: Studio, obstacle: str):
    studio.show(music(8, audio=silence(15)), "other")
    if obstacle == "another roll plays":
        studio.part("play", "other").click()
    elif obstacle == "a player in a shadow plays":
        studio.page.evaluate(
            """async (sound) => {
                const player = document.createElement("audio"), host = document.createElement("div");
                document.body.append(host);
                host.attachShadow({ mode: "open" }).append(player);
                player.src = sound;
                await player.play();
                window.player = player;
            }""",
            silence(14),
        )
    elif obstacle == "hidden":
        studio.page.add_style_tag(content="#roll { display: none; }")
    else:
        studio.page.evaluate(
            """() => {
                HTMLMediaElement.prototype.play = async () => { throw new DOMException("no", "NotAllowedError"); };
            }"""
        )
    studio.show(music(8, audio=silence(16), plays_from=4))
    studio.page.wait_for_timeout(500)
    assert studio.audio("paused")
    expect(studio.part("hint")).to_have_text("")
    expect(studio.part("play")).to_have_attribute("aria-label", "Play")
    if obstacle == "another roll plays":
        assert studio.audio("paused", "other") is False
    if obstacle == "a player in a shadow plays":
        studio.part("play").click()  # asked, it ends what else plays
        studio.wait("!audio.paused && window.player.paused")


@in_browser
def test_numbers_of_short_bars_do_not_touch(studio: Studio):
    lines = [0, 4, 4.05, 4.1, 8, 12]
    studio.page.evaluate(
        """() => {
            window.written = [];
            const write = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
                if (this.canvas.className === "roll-ruler") window.written.push(text);
                return write.call(this, text, ...place);
            };
        }"""
    )
    studio.show({**music(1, seconds=12), "bars": lines})
    assert {"1", "2", "5"} <= {*studio.page.evaluate("window.written")} <= {"1", "2", "5", "bar"}


@in_browser
def test_ten_thousand_notes_are_drawn(studio: Studio):
    notes = [[at * 0.02, 0.2, 36 + at % 60, 127, (VIOLIN, CELLO)[at % 2], 0] for at in range(10_000)]
    studio.show(music(100, notes=notes))
    expect(studio.roll).to_have_attribute(
        "aria-label", "Duet: 10000 notes in 100 bars, played by Violin and Cello", timeout=60_000
    )
    studio.roll.evaluate("scroller => { scroller.scrollLeft = scroller.scrollWidth / 2; }")
    assert studio.pixels(COLOURS[0]) > 1000


@in_browser
def test_many_bars_scroll_and_zoom(studio: Studio):
    studio.show(music(100))
    wide = studio.roll.evaluate("scroller => scroller.scrollWidth")
    assert wide >= 2400
    studio.page.mouse.move(*studio.place(0.5, 1))
    studio.page.keyboard.down("Control")
    studio.page.mouse.wheel(0, -100)
    studio.page.keyboard.up("Control")
    studio.page.wait_for_function("wide => document.querySelector('#roll .roll-scroller').scrollWidth > wide", arg=wide)
    while studio.part("narrower").is_enabled():
        studio.part("narrower").click()
    assert studio.roll.evaluate("scroller => scroller.scrollWidth <= scroller.clientWidth")


@in_browser
@pytest.mark.parametrize("title", ['<img src=x onerror="window.hurt = 1">', "`${window.hurt = 1}` {{value}}"])
def test_a_title_stays_text(studio: Studio, title: str):
    studio.show(music(title=title))
    expect(studio.part("title")).to_have_text(title)
    assert studio.roll.get_attribute("aria-label") == (
        f"{title}: 56 notes in 8 bars, played by Violin, Cello and Drums"
    )
    assert studio.page.evaluate("window.hurt") is None


@in_browser
def test_sound_from_elsewhere_is_not_fetched(studio: Studio):
    studio.show(music(audio="https://example.org/song.wav"))
    expect(studio.part("play")).to_be_disabled()
    expect(studio.part("hint")).to_have_text("The audio cannot be played.")
