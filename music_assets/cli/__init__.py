"""The command line: ``music-assets ...``."""

from music_assets.cli.commands import main

__all__ = ["main"]
