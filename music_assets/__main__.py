"""``python -m music_assets``: the command line."""

from music_assets.cli import main

main()
