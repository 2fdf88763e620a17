"""The command that opens the studio."""

import importlib.util
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from music_assets.foundation.errors import MusicAssetsError
from music_assets.paths import DataPaths


def studio(
    port: Annotated[int, typer.Option(help="Port of the page.", min=1, max=65535)] = 7860,
    architecture: Annotated[str, typer.Option(help="Whose champion to play with.")] = "gpt",
    data: Annotated[Path | None, typer.Option(help="Data folder, in place of MUSIC_ASSETS_DATA.")] = None,
) -> None:
    """Open a page on which one composes, continues and fills music and listens to it, until Ctrl-C."""
    if importlib.util.find_spec("gradio") is None:
        raise MusicAssetsError("The studio needs Gradio: install it with pip install 'music-assets[studio]'.")
    from music_assets.models.registry import find_architecture

    find_architecture(architecture)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "0"
    from music_assets.app.serving import serve

    paths = DataPaths.from_environment() if data is None else DataPaths(data.expanduser().resolve())
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    with suppress(KeyboardInterrupt):
        serve(paths, architecture, port, lambda address: typer.echo(f"\n  Studio  {address}\n\n  Ctrl-C ends it.\n"))
