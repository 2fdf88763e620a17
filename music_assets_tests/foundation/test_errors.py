"""What a user can mend, in words and on its way between processes."""

import pickle
from typing import Any

import pytest
from pydantic import Field, ValidationError, model_validator

from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.settings import InvalidSettings, Settings, invalid_settings


class Range(Settings):
    low: float = Field(default=0, le=10)
    high: float = 10

    @model_validator(mode="after")
    def _rises(self) -> "Range":
        if self.low > self.high:
            raise ValueError("A range must rise: give low at most what high is.")
        return self


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"low": 11}, "low cannot be 11: input should be less than or equal to 10."),
        ({"low": "nan"}, "low cannot be 'nan': input should be a finite number."),
        ({"low": 2, "high": 1}, "A range must rise: give low at most what high is."),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(given: dict[str, Any], sentence: str):
    with pytest.raises(ValidationError) as caught:
        Range.model_validate(given)
    error = invalid_settings(caught.value)
    assert (type(error), str(error)) == (InvalidSettings, sentence)


def test_a_verdict_on_a_file_comes_back_from_a_worker():
    again = pickle.loads(pickle.dumps(BadMidi("truncated", "The file ends inside its header.")))
    assert (type(again), again.verdict, again.detail) == (BadMidi, "truncated", "The file ends inside its header.")
