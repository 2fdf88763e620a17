import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from music_assets.tokens.repeats import MATCH_LENGTHS, NO_CANDIDATE, repeat_candidates
from music_assets.tokens.transposition import TRANSPOSITIONS, shift
from music_assets_tests.training.corpus import shards


def slow(ids: list[int]) -> list[list[int]]:
    """By the definition: look back from every place, one place after the other."""
    found = []
    for place in range(len(ids)):
        row = []
        for order in MATCH_LENGTHS:
            last = ids[place - order + 1 : place + 1] if place + 1 >= order else None
            ends = (end for end in range(place - 1, order - 2, -1) if ids[end - order + 1 : end + 1] == last)
            end = next(ends, None)
            row.append(NO_CANDIDATE if end is None else ids[end + 1])
        found.append(row)
    return found


ids = st.integers(1, 4).flatmap(lambda most: st.lists(st.integers(10, 10 + most), max_size=70))


@given(ids, st.data())
def test_it_is_what_looking_back_finds(given_ids: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(given_ids)))
    found = repeat_candidates(np.array(given_ids, dtype=np.uint16), first)
    assert found.shape == (len(given_ids) - first, len(MATCH_LENGTHS))
    assert found.tolist() == slow(given_ids)[first:]


@given(ids, st.data())
def test_nothing_is_known_of_what_follows(given_ids: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(given_ids)))
    whole = repeat_candidates(np.array(given_ids, dtype=np.uint16))
    np.testing.assert_array_equal(repeat_candidates(np.array(given_ids[:cut], dtype=np.uint16)), whole[:cut])


def test_a_repeated_tune_is_foretold() -> None:
    tune = np.arange(100, 140)
    found = repeat_candidates(np.concatenate([tune, tune]))
    assert (found[: len(tune)] == NO_CANDIDATE).all()
    for column, order in enumerate(MATCH_LENGTHS):
        known = slice(len(tune) + order - 1, 2 * len(tune) - 1)
        np.testing.assert_array_equal(
            found[known, column], np.concatenate([tune, tune])[known.start + 1 : known.stop + 1]
        )


def test_the_latest_occurrence_counts() -> None:
    assert repeat_candidates(np.array([1, 2, 3, 4, 50, 1, 2, 3, 4, 60, 1, 2, 3, 4]))[-1].tolist() == [
        60,
        NO_CANDIDATE,
        NO_CANDIDATE,
        NO_CANDIDATE,
    ]


@pytest.mark.parametrize("name", TRANSPOSITIONS)
def test_a_transposed_piece_repeats_itself_at_the_same_places(name: str) -> None:
    original = shards(pieces=1, bars=16, transpositions=("original",))[0].document(0)
    found = repeat_candidates(original).astype(np.uint16)
    semitones = TRANSPOSITIONS[name]
    moved = repeat_candidates(shift(original, semitones))
    np.testing.assert_array_equal(moved, shift(found.ravel(), semitones).reshape(found.shape))
