"""Which architectures a test is for, and the fields of small ones, as the registry says."""

from typing import Any

from music_assets.models.registry import ARCHITECTURES, network_config

TOKEN_ARCHITECTURES = [name for name, one in ARCHITECTURES.items() if one.reads == "tokens"]


def fields(architecture: str, **values: Any) -> dict[str, Any]:
    """Those of some values that the network's configuration has a field for."""
    known = type(network_config(architecture)).model_fields
    return {name: value for name, value in values.items() if name in known}
