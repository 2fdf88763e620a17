"""The studio of the newest champions: when others are named it ends, and begins anew, once nobody is there."""

import logging
import time
from collections.abc import Callable

from music_assets.app.context import Studio
from music_assets.app.studio import PIANO, open_studio, served
from music_assets.checkpoints.runs import champion
from music_assets.models.gpt_decoder import forget
from music_assets.paths import DataPaths

LOOK_SECONDS = 1
"""Between two looks; polars has a longer sleep go on after Ctrl-C."""
LULL = 5
"""Looks at which nobody is there before a page is ended: one that is loaded anew is away for a moment."""
PAUSE = 60
"""Further looks at which nobody is there, until champions that could not be read are tried again."""

_logger = logging.getLogger(__name__)


class Succession:
    """Whether a studio of other champions can follow one that is served."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._quiet = 0
        self._said = ""

    def look(self) -> Studio | None:
        """The studio that follows, if it can be opened and nobody is there whom that would disturb."""
        self._quiet = self._quiet + 1 if self.studio.idle else min(self._quiet, 0)
        if self._quiet < LULL:
            return None
        try:
            fresh = self._fresh()
        except Exception as error:  # noqa: BLE001, whatever is wrong with a checkpoint must not end what is served
            self._quiet = -PAUSE
            if str(error) != self._said:
                self._said = str(error)
                _logger.warning("The studio keeps the champions that it has: %s", error)
            return None
        return fresh if self.studio.idle else None

    def _fresh(self) -> Studio | None:
        paths, architecture = self.studio.paths, self.studio.model.facts.architecture
        named = [champion(paths.checkpoints(name)) for name in dict.fromkeys((architecture, PIANO))]
        if [folder for folder in named if folder] == [model.checkpoint.folder for model in self.studio.models]:
            return None
        return open_studio(paths, architecture)


def serve(paths: DataPaths, architecture: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve the champions until Ctrl-C, and tell the address whenever others are served.

    Raises:
        CheckpointError: the architecture has no champion, or one that cannot be read; or the pianoroll's cannot be.
        MusicAssetsError: the port is taken.
    """
    studio = open_studio(paths, architecture)
    while True:
        with served(studio, port) as address:
            tell(address)
            fresh = _successor(studio)
        for model in studio.models:  # FastAPI never forgets a page, nor what that was made of
            forget(model.checkpoint.network)
            model.checkpoint.network.to("meta")
        studio = fresh


def _successor(studio: Studio) -> Studio:
    succession = Succession(studio)
    while (fresh := succession.look()) is None:
        time.sleep(LOOK_SECONDS)
    return fresh
