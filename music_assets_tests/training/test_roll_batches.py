import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from music_assets.models.roll_rnn import NO_GENRE
from music_assets.tokens import remi
from music_assets.tokens import rolls as pianoroll
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training import roll_batches as rolls
from music_assets.training.batches import NoTrainingData
from music_assets.training.roll_batches import RollBatches, whole, window
from music_assets_tests.tokens.scores import scores
from music_assets_tests.training.corpus import shards

VOCABULARY = Vocabulary(("waltz", "reel"))


def batches(**other):
    return RollBatches(shards(), VOCABULARY, **({"batch_size": 8, "length": 40} | other))


def whole_roll(document, steps):
    """The roll of all bars, a silent step before and some after them; and the bars' first steps, the end too."""
    heard = remi.notes(document)
    starts = np.append(heard.bar_starts, heard.bar_starts[-1] + heard.bar_lengths[-1]) * pianoroll.STEPS_PER_QUARTER
    roll = pianoroll.encode(heard)
    after = max(int(starts[-1]) + steps - len(roll), 0)
    return np.pad(roll, ((1, after), (0, 0)), constant_values=pianoroll.SILENCE), starts.astype(int)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(scores(), st.data())
def test_a_window_is_part_of_the_whole_roll(score, data):
    document = remi.encode(score)
    assume(len(document))
    roll, starts = whole_roll(document, 200)
    assume(starts[-1] < 4000)
    for _ in range(5):
        bar, steps = data.draw(st.integers(0, len(starts) - 2)), data.draw(st.integers(1, 200))
        part, remaining = window(document, bar, steps)
        assert remaining == starts[-1] - starts[bar]
        np.testing.assert_array_equal(part, roll[starts[bar] : starts[bar] + steps + 1])


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(scores(), st.integers(1, 5))
def test_a_whole_roll_lasts_to_the_end_of_the_last_bar(score, bars_at_once):
    document = remi.encode(score)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rolls, "_BARS_AT_ONCE", bars_at_once)
        found = whole(document)
    if not len(document):
        assert found.shape == (1, pianoroll.KEYS)
        return
    roll, starts = whole_roll(document, 0)
    np.testing.assert_array_equal(found, roll[: starts[-1] + 1])
    assert not found[0].any()


def test_rows_are_windows_of_training_pieces():
    training = {
        VOCABULARY.genres.index(genre) + 1: [
            whole_roll(shard.document(row), 40)
            for shard in shards()
            if shard.genre == genre
            for row in shard.where("train")
        ]
        for genre in VOCABULARY.genres
    }
    for n in range(4):
        batch = batches()(n)
        assert batch.planes.shape == batch.targets.shape == (8, 40, 2 * pianoroll.KEYS)
        np.testing.assert_array_equal(batch.planes[:, 1:], batch.targets[:, :-1])
        for planes, targets, scored, genre in zip(*batch, strict=True):
            cells = pianoroll.from_planes(np.concatenate([planes[:1], targets]))
            end = int(scored.sum())
            assert scored[:end].all()
            assert any(
                (roll[start : start + 41] == cells).all() and min(starts[-1] - start, 40) == end
                for roll, starts in training[int(genre)]
                for start in starts[:-1]
            )


def test_a_batch_depends_on_seed_and_number_alone_and_processes_share_it():
    whole = batches(seed=3)(5)
    assert (whole.targets != batches(seed=3)(6).targets).any()
    assert (whole.targets != batches(seed=4)(5).targets).any()
    parts = [batches(seed=3).rows(5, rank, 3) for rank in range(3)]
    for field, expected in enumerate(whole):
        for row in range(8):
            np.testing.assert_array_equal(parts[row % 3][field][row // 3], expected[row])


def test_genres_are_left_out_at_times():
    genres = batches(batch_size=400, length=8, genre_dropout=0.25)(0).genres
    assert np.mean(genres == NO_GENRE) == pytest.approx(0.25, abs=0.07)
    assert set(genres.tolist()) == {NO_GENRE, 1, 2}


def test_no_training_piece_is_an_error():
    with pytest.raises(NoTrainingData):
        RollBatches([], VOCABULARY, batch_size=1, length=8)
