"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict, ValidationError

from music_assets.foundation.errors import MusicAssetsError


class Settings(BaseModel):
    """Settings that a person may give, in Dagster's launchpad, on the command line or in Python: numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class InvalidSettings(MusicAssetsError):
    """Settings that a person gave cannot be."""


def invalid_settings(error: ValidationError) -> InvalidSettings:
    """What is wrong with the first setting that cannot be, in one sentence."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    if name := ".".join(map(str, first["loc"])):
        reason = f"{name} cannot be {first['input']!r}: {reason[:1].lower()}{reason[1:]}."
    return InvalidSettings(reason)
