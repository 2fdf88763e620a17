import numpy as np
import pytest

from music_assets.tokens.shards import make_shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.batches import IGNORED, Batches, NoTrainingData
from music_assets_tests.training.corpus import shards

VOCABULARY = Vocabulary(("reel", "waltz"))
BAR = VOCABULARY.ranges["Bar"].start
GENRES = VOCABULARY.ranges["Genre"]


def batches(made=None, **other):
    return Batches(made or shards(), VOCABULARY, **({"batch_size": 32, "length": 48} | other))


@pytest.fixture(scope="module")
def drawn():
    make = batches(genre_dropout=0.25)
    return [make(n) for n in range(8)]


def test_every_row_begins_with_a_prompt_and_a_bar_line(drawn):
    for ids, _ in drawn:
        assert (ids[:, 0] == VOCABULARY.bos).all()
        named = np.isin(ids[:, 1], GENRES)
        first = np.where(named, ids[:, 2], ids[:, 1])
        assert (first == BAR).all()
        assert named.any()
        assert not named.all()


def test_targets_are_the_next_ids_except_for_prompts(drawn):
    for ids, targets in drawn:
        assert ids.dtype == targets.dtype == np.int64
        assert ids.shape == targets.shape == (32, 48)
        unscored = (ids[:, 1:] == VOCABULARY.bos) | np.isin(ids[:, 1:], GENRES)
        np.testing.assert_array_equal(targets[:, :-1], np.where(unscored, IGNORED, ids[:, 1:]))
        assert VOCABULARY.eos in targets


def test_rows_are_made_of_training_pieces_alone(drawn):
    training = [shard.document(row).tolist() for shard in shards() for row in shard.where("train")]
    for ids, _ in drawn:
        for row in ids.tolist():
            pieces = "|".join(map(str, row)).split(f"{VOCABULARY.bos}|")[1:]
            for number, piece in enumerate(pieces):
                tokens = [int(token) for token in piece.split("|") if token]
                tokens = [token for token in tokens if token not in GENRES]
                ended = tokens[-1:] == [VOCABULARY.eos]
                tokens = tokens[:-1] if ended else tokens
                sources = [document for document in training if _contains(document, tokens, number, ended)]
                assert sources, "a row holds something that is not a run of a training piece"


def _contains(document, tokens, number, ended):
    """Whether the tokens are a run of the document: its beginning after the first piece, its end before EOS."""
    if number and document[: len(tokens)] != tokens:
        return False
    if ended:
        return document[len(document) - len(tokens) :] == tokens
    starts = [place for place, token in enumerate(document) if token == BAR]
    return not tokens or any(document[start : start + len(tokens)] == tokens for start in starts)


def test_a_batch_depends_on_seed_and_number_alone():
    first, second = batches(seed=3), batches(seed=3)
    second(0)
    for mine, theirs in zip(first(7), second(7), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (first(7)[0] != first(8)[0]).any()
    assert (first(7)[0] != batches(seed=4)(7)[0]).any()


def test_the_order_of_the_shards_does_not_matter():
    np.testing.assert_array_equal(batches()(0)[0], batches(shards()[::-1])(0)[0])


def one_piece(genre, document):
    return make_shard(genre, "original", ["a"], ["a"], ["train"], [1], [1.0], [document])


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (2.0, 0.75), (1000.0, 0.5)])
def test_genres_are_drawn_by_temperature(temperature, share):
    make = batches(
        [
            one_piece("reel", np.full(9000, BAR, dtype=np.uint16)),
            one_piece("waltz", np.full(1000, BAR, dtype=np.uint16)),
        ],
        batch_size=4000,
        length=2,
        genre_temperature=temperature,
    )
    assert np.mean(make(0)[0][:, 1] == VOCABULARY.genre_id("reel")) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(("share", "names"), [(0.5, 3), (1.0, 3), (0.0, 3), (0.5, 1)])
def test_the_own_key_has_its_share_and_the_others_the_rest_evenly(share, names):
    sources = [
        make_shard("reel", name, ["a"], ["a"], ["train"], [1], [1.0], [np.full(50, BAR + index, np.uint16)])
        for index, name in enumerate(["original", "up1", "up2"][:names])
    ]
    make = batches(sources, batch_size=4000, length=3, original_share=share, genre_dropout=0.0)
    drawn = np.bincount(make(0)[0][:, 2] - BAR, minlength=3) / 4000
    expected = [share, (1 - share) / 2, (1 - share) / 2] if names > 1 else [1, 0, 0]
    np.testing.assert_allclose(drawn, expected, atol=0.03)


def test_without_an_original_shard_the_transpositions_are_even():
    moved = [shard for shard in shards(transpositions=("up1", "up2")) if shard.genre == "reel"]
    assert len(batches(moved)(0)[0]) == 32


def test_the_beginning_of_a_piece_is_as_likely_as_the_row_reaches_before_it():
    document = np.arange(BAR, BAR + 200, dtype=np.uint16)
    document[1:100] = BAR
    rows = batches([one_piece("reel", document)], batch_size=4000, length=150, genre_dropout=0.0)(0)[0]
    whole = (rows[:, 2:] == document[:148]).all(axis=1)
    assert whole.mean() == pytest.approx((150 + 1) / (150 + 200), abs=0.03)


def test_no_training_piece_is_an_error():
    document = np.array([BAR], dtype=np.uint16)
    shard = make_shard("reel", "original", ["a"], ["a"], ["valid"], [1], [1.0], [document])
    with pytest.raises(NoTrainingData, match="no training piece"):
        batches([shard])
    with pytest.raises(NoTrainingData):
        Batches([], VOCABULARY, batch_size=1, length=8)
