"""The pictures of README.md and docs/, taken from the running program: ``make pictures``.

Needs Chromium, and a data folder in which ``make demo`` has run (``MUSIC_ASSETS_DATA``, by default ``data/``).
"""

import io
import shutil
import socket
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from music_assets.paths import DataPaths, named_folder
from music_assets.servers import servers
from music_assets.training.mlflow_store import tracking_uri

PICTURES = Path(__file__).parent / "pictures"
MOST_BYTES = 200_000
ARCHITECTURE, GENRE, STUDIO_GENRE = "gpt", "chorale", "reel"
GROUPS = ("corpus", "tokens", "model", "generation", "evaluation")
# Without these, Chromium looks for the outside world at every start.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]


def main() -> None:
    """Start the servers, take every picture, and end them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("Pictures need Chromium: on Debian, apt-get install chromium.")
    paths = DataPaths.from_environment()
    PICTURES.mkdir(exist_ok=True)
    save("roll", min(paths.samples(ARCHITECTURE, GENRE).glob("*.png")).read_bytes())
    with (
        servers(named_folder("DAGSTER_HOME", "."), tracking_uri(paths), free_port(), free_port(), free_port()) as (
            addresses,
            _,
        ),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS) as browser,
    ):
        page = browser.new_page(device_scale_factor=1.5)
        page.set_default_timeout(60_000)
        graph(page, addresses.dagster)
        report(page, paths.evaluation(ARCHITECTURE) / "report.html")
        if addresses.studio:
            studio(page, addresses.studio)


def graph(page: Page, dagster: str) -> None:
    """The lineage page: all groups open, and nothing beside it."""
    page.add_init_script("localStorage['dagster-nav-collapsed'] = 'true'")
    page.set_viewport_size({"width": 1400, "height": 1250})
    page.goto(f"{dagster}/asset-groups?expanded={','.join(f'global@global:{group}' for group in GROUPS)}")
    page.get_by_text("likelihood", exact=True).first.wait_for()
    page.get_by_role("button").filter(has=page.get_by_label("panel_show_right")).last.click()  # the list of groups
    page.wait_for_timeout(1000)
    page.mouse.dblclick(500, 1210)  # on nothing: fits the graph, but for the top of its tallest group
    page.wait_for_timeout(1000)
    page.get_by_label("zoom_out").last.click()
    page.wait_for_timeout(1000)
    page.mouse.move(300, 400)
    page.mouse.down()
    page.mouse.move(300, 530, steps=5)
    page.mouse.up()
    page.wait_for_timeout(2000)
    save("graph", page.screenshot())


def report(page: Page, file: Path) -> None:
    """The head of the report."""
    page.set_viewport_size({"width": 1000, "height": 900})
    page.goto(file.as_uri())
    page.get_by_text("how good is it?").first.wait_for()
    page.wait_for_timeout(1000)
    save("report", page.screenshot())


def studio(page: Page, address: str) -> None:
    """Two reels, composed."""
    page.set_viewport_size({"width": 1280, "height": 860})
    page.goto(address)
    page.get_by_label("Genre").click()
    page.get_by_role("option", name=STUDIO_GENRE, exact=True).click()
    page.get_by_role("button", name="Compose", exact=True).click()
    page.get_by_text("bars with").wait_for()
    page.get_by_text("Audio is coming.").first.wait_for(state="hidden")
    page.wait_for_timeout(1000)
    save("studio", page.screenshot())


def save(name: str, png: bytes) -> None:
    """Keep a picture with as many colours as its size allows, 256 at most."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        small = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        if small.tell() < MOST_BYTES:
            break
    else:
        sys.exit(f"{name}.png has {small.tell():,} bytes with 32 colours; take a smaller picture.")
    (PICTURES / f"{name}.png").write_bytes(small.getvalue())
    print(f"{PICTURES / name}.png: {small.tell():,} bytes, {picture.width} x {picture.height}, {colours} colours")


def free_port() -> int:
    """A port that no program listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
