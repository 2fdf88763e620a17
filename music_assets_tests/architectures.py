"""Which architectures a test is for, as the registry says."""

from music_assets.models.registry import ARCHITECTURES

TOKEN_ARCHITECTURES = [name for name, one in ARCHITECTURES.items() if one.reads == "tokens"]
