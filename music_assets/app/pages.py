"""The pages that are open, and the files that are kept for them."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from gradio import processing_utils

from music_assets.foundation.errors import MusicAssetsError

LOST = "The connection with this page was lost: load it anew."


@dataclass
class _File:
    written: int
    """When, by the clock of the file system."""
    pages: set[str] = field(default_factory=set)


class Pages:
    """Which pages are open, and which files are theirs: Gradio gives those of the same content one path."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._gone: set[str] = set()
        self._files: dict[Path, _File] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def open(self, page: str) -> None:
        """A page was loaded; one that is killed early may be gone before this is heard."""
        with self._lock:
            if page not in self._gone:
                self._open.add(page)

    def close(self, page: str) -> None:
        """A page is gone: its files are deleted, but for those that are another's too."""
        with self._lock:
            self._gone.add(page)
            self._release(page)
            self._open.discard(page)

    def keep(self, page: str, data: bytes, name: str, folder: str) -> str:
        """The path of a file with some bytes that a page may download.

        Raises:
            MusicAssetsError: the page is gone.
        """
        with self._lock:
            path = processing_utils.save_bytes_to_cache(data, name, folder)
            self._own(page, Path(path))
            return path

    def take(self, page: str, path: Path) -> None:
        """A file was sent from a page. Raises MusicAssetsError if that is gone."""
        with self._lock:
            self._own(page, path)

    def _own(self, page: str, path: Path) -> None:
        if written := _written(path):
            file = self._files.setdefault(path, _File(written))
            file.written = written
            file.pages.add(page)
        if page in self._gone:
            self._release(page)
            raise MusicAssetsError(LOST)

    def _release(self, page: str) -> None:
        for path, file in [*self._files.items()]:
            written = _written(path)
            file.pages.discard(page)
            if not written or not file.pages:
                del self._files[path]
                # one that was written since is another's, of whom nothing is known yet
                if written == file.written:
                    path.unlink(missing_ok=True)


def _written(path: Path) -> int:
    """When a file was written; 0 where there is none any more: Gradio deletes old ones by itself."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
