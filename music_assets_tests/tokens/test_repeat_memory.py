import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from music_assets.tokens.repeat_memory import RepeatMemory
from music_assets.tokens.repeats import MATCH_LENGTHS, repeat_candidates


@given(st.lists(st.integers(10, 12), max_size=120), st.lists(st.integers(0, 30), max_size=8))
def test_a_growing_piece_has_the_candidates_of_the_whole(ids, parts):
    ids = np.array(ids, dtype=np.int64)
    memory = RepeatMemory(MATCH_LENGTHS)
    done = 0
    for part in [*parts, len(ids)]:
        memory.extend(ids[done : done + part])
        done = min(done + part, len(ids))
        assert_array_equal(memory.ids, ids[:done])
        assert_array_equal(memory.candidates, repeat_candidates(ids[:done]))


def test_a_long_piece_and_a_copy_that_goes_on_alone():
    random = np.random.default_rng(0)
    ids = random.integers(0, 5, 30_000)
    memory = RepeatMemory((2, 8), ids[:20_000])
    other = memory.copy()
    memory.extend(ids[20_000:])
    other.extend(ids[:10_000])
    assert_array_equal(memory.candidates, repeat_candidates(ids, match_lengths=(2, 8)))
    again = np.concatenate([ids[:20_000], ids[:10_000]])
    assert_array_equal(other.candidates, repeat_candidates(again, match_lengths=(2, 8)))


def test_a_network_may_be_told_of_none():
    memory = RepeatMemory((), np.arange(5))
    assert memory.candidates.shape == (5, 0)
    assert len(memory) == 5
