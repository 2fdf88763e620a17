"""Where everything lies. No other module joins path strings."""

import os
from dataclasses import dataclass
from pathlib import Path

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest

_LONGEST_NAME = 200
"""Bytes; file systems take 255, a staged file's name is 20 longer than its target's, and MLflow's metrics take 250."""


@dataclass(frozen=True)
class DataPaths:
    """The layout under one data folder."""

    root: Path

    @classmethod
    def from_environment(cls) -> "DataPaths":
        """The folder named by ``MUSIC_ASSETS_DATA``, or ``data`` in the working directory; see :func:`named_folder`."""
        return cls(named_folder("MUSIC_ASSETS_DATA", "data"))

    @property
    def raw(self) -> Path:
        """Drop folder: one sub-folder a collection."""
        return self.root / "raw"

    @property
    def downloads(self) -> Path:
        """Archives as they were fetched, and what has come of them so far."""
        return self.root / "downloads"

    @property
    def labels(self) -> Path:
        """Label files that belong to no single collection, such as the Lakh md5 map."""
        return self.root / "labels"

    @property
    def files(self) -> Path:
        """One row a MIDI file with its verdict and musical facts (Parquet)."""
        return self.root / "index" / "files.parquet"

    @property
    def index(self) -> Path:
        """The corpus index (DuckDB)."""
        return self.root / "index" / "midi_index.duckdb"

    @property
    def index_settings(self) -> Path:
        """The settings that the index is built with (JSON); they outlive it."""
        return self.root / "index" / "settings.json"

    def genre_pieces(self, genre: str) -> Path:
        """The pieces of one genre (Parquet)."""
        return self.root / "index" / "genre_pieces" / f"{file_name(genre)}.parquet"

    def shard(self, genre: str, transposition: str) -> Path:
        """The token ids of one genre at one transposition (Arrow IPC)."""
        return self.root / "tokens" / file_name(genre) / f"{transposition}.arrow"

    def checkpoints(self, architecture: str) -> Path:
        """Folder of one architecture's checkpoints."""
        return self.root / "checkpoints" / architecture

    def samples(self, architecture: str, genre: str) -> Path:
        """Folder of generated samples."""
        return self.root / "samples" / architecture / file_name(genre)

    def evaluation(self, architecture: str) -> Path:
        """Folder of one architecture's evaluation results and its ``report.html``."""
        return self.root / "evaluation" / architecture

    def listening(self, architecture: str) -> Path:
        """Folder of one architecture's listening tests: what is heard, what it truly is, and the ratings."""
        return self.root / "listening" / architecture

    @property
    def comparison(self) -> Path:
        """The table that compares the architectures; a ``.json`` of the same name lies beside it."""
        return self.root / "evaluation" / "comparison.md"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"


@dataclass(frozen=True)
class ListeningFiles:
    """The layout of one architecture's folder of listening tests."""

    folder: Path

    def session(self, name: str) -> Path:
        """What a rater opens: nothing but 01.ogg, 02.ogg and so on."""
        return self.folder / name

    def material(self, name: str) -> Path:
        """The truth about it."""
        return self.folder / f"{name}.json"

    @property
    def ratings(self) -> Path:
        """All ratings, one a line."""
        return self.folder / "ratings.jsonl"


def named_folder(variable: str, default: str) -> Path:
    """The folder that an environment variable names, or ``default`` if that is unset or empty; absolute, without links.

    ``~`` is a home folder. Raises MusicAssetsError if nobody has that home.
    """
    named = os.environ.get(variable) or default
    try:
        return Path(os.path.realpath(Path(named).expanduser()))
    except RuntimeError:
        raise MusicAssetsError(f"{variable} is {named}, but nobody has that home folder: name another.") from None


def file_name(name: str) -> str:
    """A name as part of a file's name: as it is or, where a file system would refuse it with what is put before and
    after it, its beginning and a hash.
    """
    encoded = name.encode()
    if len(encoded) <= _LONGEST_NAME:
        return name
    digest = hexdigest(encoded, size=8)
    return f"{encoded[: _LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}-{digest}"
