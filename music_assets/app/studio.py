"""The page, put together, and the server that shows it to this computer alone."""

import errno
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from gradio.themes import Default

from music_assets.app.context import Model, Studio
from music_assets.app.endpoints import GUIDE, endpoints
from music_assets.app.events import on, shown
from music_assets.app.sources import MOST_BYTES
from music_assets.app.tabs.about import about
from music_assets.app.tabs.composing import compose_tab
from music_assets.app.tabs.continuing import continue_tab
from music_assets.app.tabs.filling import fill_tab
from music_assets.app.tabs.listening import listen_tab
from music_assets.checkpoints.runs import champion
from music_assets.checkpoints.storage import load_checkpoint
from music_assets.foundation.errors import MusicAssetsError
from music_assets.generation.generate import champion as load_champion
from music_assets.paths import DataPaths
from music_assets.training.precision import choose_device

HOST = "127.0.0.1"
LOOK_EVERY, KEEP = 600, 86_400
"""Seconds between two looks for old files, and how long files are kept at most; those of a closed page go with it."""
MOST_WAITING = 64
"""Requests in a queue; one more is told to come again."""
WAIT_FOR_WORKERS = 10
"""Seconds for what is being drawn when the server ends."""
PIANO = "pianoroll"
THEME = Default(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
).set(
    block_label_background_fill="none",
    block_label_background_fill_dark="none",
    block_label_border_width="0px",
    block_label_shadow="none",
    block_label_text_size="*text_md",
)
"""Of fonts that the reader's computer has."""
RELOAD = """() => {
  const app = async () => (await (await fetch("gradio_api/app_id")).json()).app_id;
  let known = window.gradio_config?.app_id ?? null;
  const look = () => app().then((now) => {
    if (known !== null && now !== known) window.location.reload();
    known = now;
  }, () => {});
  look();
  setInterval(look, 3000);
}"""
"""What waits while the server is ended gets no answer from the next one, nor does what is asked on that page later."""
UNDO = """() => addEventListener("keydown", (key) => {
  if (!(key.ctrlKey || key.metaKey) || key.key.toLowerCase() !== "z" || key.target.closest("input, textarea")) return;
  const button = document.querySelector(key.shiftKey ? "#fill-redo" : "#fill-undo");
  if (button?.offsetParent && !button.disabled) { key.preventDefault(); button.click(); }
})"""
"""Ctrl-Z and Ctrl-Shift-Z where a file is filled."""
CSS = (Path(__file__).parent / "studio.css").read_text(encoding="utf-8")


def open_studio(paths: DataPaths, architecture: str = "gpt") -> Studio:
    """The studio of an architecture's champion and, if there is one, of a pianoroll's.

    Raises:
        CheckpointError: the architecture has no champion, or one that cannot be read; or the pianoroll's cannot be.
    """
    model = Model(load_champion(architecture, paths.root))
    folder = None if architecture == PIANO else champion(paths.checkpoints(PIANO))
    piano = None if folder is None else Model(load_checkpoint(folder, choose_device()))
    return Studio(paths, model, piano)


def build_studio(paths: DataPaths, architecture: str = "gpt") -> gr.Blocks:
    """The page of an architecture's champion. Raises CheckpointError if there is none."""
    return build_page(open_studio(paths, architecture))


def build_page(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    with gr.Blocks(title="Studio", analytics_enabled=False, delete_cache=(LOOK_EVERY, KEEP)) as page:
        gr.Markdown("# Studio", elem_classes="title")
        made = gr.Markdown("Nothing has been written yet.", render=False)
        with gr.Tabs():
            with gr.Tab("Compose", id="compose"):
                compose_tab(studio, studio.model, "compose", made)
            with gr.Tab("Continue", id="continue"):
                continue_tab(studio, studio.model, made)
            if studio.model.reads_tokens:
                with gr.Tab("Fill", id="fill"):
                    fill_tab(studio, studio.model, made)
            if studio.piano is not None:
                with gr.Tab("Piano", id="piano"):
                    compose_tab(studio, studio.piano, "piano", made)
            with gr.Tab("Listen", id="listen"):
                listen_tab(studio, page)
            with gr.Tab("About", id="about"):
                gr.Markdown(about(studio))
                gr.Markdown("### What was written last")
                made.render()
                with gr.Accordion("For programs", open=False):
                    gr.Markdown(GUIDE)
        endpoints(studio)

        def opened(request: gr.Request) -> None:
            studio.pages.open(str(request.session_hash))

        def closed(request: gr.Request) -> None:
            studio.stops.close(str(request.session_hash))
            studio.pages.close(str(request.session_hash))

        on(page.load, opened, queue=False)
        page.unload(shown(closed))
        for script in (RELOAD, UNDO):
            page.load(None, js=script, api_visibility="private")
        # Gradio shows a number that is None as 0 until it is set to None once more; a server's answer may come after
        # the first number has been typed
        empty = [block for block in page.blocks.values() if isinstance(block, gr.Number) and block.value is None]
        emptied = f"() => {json.dumps([None] * len(empty))}"
        page.load(None, None, empty, js=emptied, api_visibility="private")
    return page


@contextmanager
def served(studio: Studio, port: int) -> Iterator[str]:
    """Show the page of a studio to this computer under an address, until the block ends; its files are deleted then.

    Raises:
        MusicAssetsError: the port is taken.
    """
    others = {*threading.enumerate()}
    with tempfile.TemporaryDirectory(prefix="music-assets-studio-") as folder, _environment(folder):
        page = build_page(studio)
        try:
            _, address, _ = page.queue(default_concurrency_limit=1, max_size=MOST_WAITING).launch(
                server_name=HOST, server_port=port, prevent_thread_lock=True, quiet=True, inbrowser=False,
                share=False, ssr_mode=False, enable_monitoring=False, show_error=False, footer_links=["api"],
                allowed_paths=[], max_file_size=MOST_BYTES, theme=THEME, css=CSS,
            )  # fmt: skip
        except OSError as error:
            if error.errno not in (None, errno.EADDRINUSE):
                raise
            raise MusicAssetsError(f"The port {port} is taken: name another with --port.") from None
        try:
            yield address
        finally:
            page.close(verbose=False)
            _wait_for_workers(others)


def _wait_for_workers(others: set[threading.Thread]) -> None:
    """Gradio's threads, which Python does not wait for: one that still draws as it ends would abort it.

    Args:
        others: threads of other servers, which may go on.
    """
    end = time.monotonic() + WAIT_FOR_WORKERS
    for thread in {*threading.enumerate()} - others:
        if thread.name.startswith("AnyIO worker"):
            thread.join(max(end - time.monotonic(), 0))


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Gradio keeps its files in a folder, and soon sees that a page was closed."""
    ours = {"GRADIO_TEMP_DIR": folder, "GRADIO_HEARTBEAT_INTERVAL": "2", "GRADIO_ANALYTICS_ENABLED": "0"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
