"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that a person may give, in Dagster's launchpad, on the command line or in Python: numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)
