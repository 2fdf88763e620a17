import re

import pytest

from music_assets.training.champion import Heard, Standing, compare


def standing(bits: float | None, *heard: float) -> Standing:
    return Standing(bits, Heard(share=heard[0], low=heard[1], high=heard[2]) if heard else None)


KNOWS_AND_PLAYS_BADLY = standing(4.03, 0.11, 0.05, 0.17)  # measured, as the next
KNOWS_LESS_AND_PLAYS = standing(5.53, 0.36, 0.28, 0.45)
PLAYS_ALIKE = standing(5.4, 0.29, 0.22, 0.37)


@pytest.mark.parametrize(
    ("challenger", "champion", "won", "words"),
    [
        (KNOWS_AND_PLAYS_BADLY, KNOWS_LESS_AND_PLAYS, False, "heard less well, 11% [5%, 17%]"),
        (KNOWS_LESS_AND_PLAYS, KNOWS_AND_PLAYS_BADLY, True, "heard better, 36% [28%, 45%]"),
        (
            PLAYS_ALIKE,
            KNOWS_LESS_AND_PLAYS,
            True,
            "5.400 bits per note on held-out pieces, fewer than the champion's 5.530",
        ),
        (
            KNOWS_LESS_AND_PLAYS,
            PLAYS_ALIKE,
            False,
            "not fewer than the champion's 5.400. The genre .* is heard alike, 36%",
        ),
        (standing(3.0), standing(4.0), True, "fewer than the champion's 4.000.$"),
        (standing(4.0), standing(4.0), False, "not fewer than"),
        (standing(4.0, 0.1, 0.0, 0.1), standing(5.0), True, "fewer than"),  # only one could be judged
        (standing(None, 0.9, 0.8, 1.0), standing(None, 0.1, 0.0, 0.2), True, "that goes before bits per note.$"),
        (standing(None), standing(4.0), True, "no held-out piece"),
    ],
)
def test_what_is_heard_goes_before_bits_per_note(challenger, champion, won, words):
    decided, reason = compare(challenger, champion)
    assert decided == won
    assert re.search(words.replace("[", r"\["), reason)
