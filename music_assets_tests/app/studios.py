"""A studio over networks that are not trained, for tests that do not listen."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

from music_assets.app.context import Studio
from music_assets.app.studio import open_studio
from music_assets.checkpoints.runs import set_champion
from music_assets.checkpoints.storage import save_checkpoint
from music_assets.generation.request import Wishes
from music_assets.generation.samples import generate_samples
from music_assets.paths import DataPaths
from music_assets.tokens.shards import write_shard
from music_assets_tests.generation.checkpoints import VOCABULARY, untrained
from music_assets_tests.training.corpus import shards


def make_studio(root: Path) -> Studio:
    """A GPT, a pianoroll, and samples and test pieces to listen to."""
    paths = DataPaths(root)
    for architecture in ("gpt", "pianoroll"):
        checkpoint, folder = untrained(architecture), paths.checkpoints(architecture)
        save_checkpoint(folder / "run" / "best", checkpoint.network, checkpoint.vocabulary, checkpoint.facts)
        set_champion(folder, folder / "run" / "best")
    for genre, made in zip(VOCABULARY.genres, shards(18, transpositions=("original",)), strict=True):
        shard = replace(made, genre=genre)
        write_shard(paths.shard(genre, "original"), shard, [shard.ids])
        generate_samples(untrained(), genre, Wishes(bars=8, count=2), paths.samples("gpt", genre), workers=1)
    return open_studio(paths)


@contextmanager
def event_loops_closed() -> Iterator[None]:
    """Gradio opens event loops where a page is built and never closes them; the warning would blame a later test."""
    loops, make = [], asyncio.new_event_loop

    def kept() -> asyncio.AbstractEventLoop:
        loops.append(make())
        return loops[-1]

    with mock.patch("asyncio.new_event_loop", kept):
        yield
    for loop in loops:
        if not loop.is_running():
            loop.close()
