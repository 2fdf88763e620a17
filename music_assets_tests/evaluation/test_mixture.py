import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from music_assets.evaluation.mixture import WEIGHTS, ContextMixture
from music_assets.evaluation.ngram import NGram
from music_assets.tokens.memory import CONTEXTS, NO_CANDIDATE, candidates_of
from music_assets.tokens.vocabulary import RANGES, SIZE, TOKEN_TYPE
from music_assets_tests.tokens.test_memory import FEW

TUNE = [
    token
    for beat in range(4)
    for token in (
        RANGES["Position"][12 * beat], RANGES["Program"][0], RANGES["Pitch"][60 + beat], RANGES["Velocity"][9],
        RANGES["Duration"][3],
    )
]  # fmt: skip
BAR = [RANGES["Bar"][0], RANGES["TimeSig"][3], *TUNE]
sequences = st.lists(FEW, min_size=1, max_size=40).map(np.array)


def weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, WEIGHTS)


def slow_distribution(model: ContextMixture, history: list[int]) -> np.ndarray:
    """The formula as it is written in the docstring, over the whole vocabulary."""
    chances = model.ngram.chances([np.array([*history, 0])], np.full(SIZE, len(history)), np.arange(SIZE))
    scores = np.zeros(SIZE)
    if history:
        for column, code in enumerate(candidates_of(np.array(history))[-1, :CONTEXTS].tolist()):
            if code != NO_CANDIDATE:
                scores[code % SIZE] += model.weights[TOKEN_TYPE[history[-1]], column, code // SIZE]
    raised = chances * np.exp(scores)
    return raised / raised.sum()


@given(sequences, st.lists(FEW, max_size=30), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_it_is_its_formula_and_sums_to_one(train, history, seed):
    model = ContextMixture(NGram(3, SIZE).fit([train]), weights(seed))
    expected = slow_distribution(model, history)
    found = [np.exp(-model.nats([np.array([*history, token])])[0][-1]) for token in range(0, SIZE, 37)]
    assert_allclose(found, expected[::37], rtol=1e-6)


@given(st.lists(sequences, min_size=1, max_size=3), st.lists(sequences, max_size=3))
def test_without_weights_it_is_the_ngram(train, test):
    ngram = NGram(3, SIZE).fit(train)
    for found, expected in zip(ContextMixture(ngram).nats(test), ngram.nats(test), strict=True):
        assert_allclose(found, expected)


def test_a_piece_depends_on_itself_alone():
    model = ContextMixture(NGram(3, SIZE).fit([np.array(BAR)]), weights(0))
    pieces = [np.array(3 * BAR), np.array(TUNE), np.array(2 * BAR)]
    for together, piece in zip(model.nats(pieces), pieces, strict=True):
        assert_allclose(together, model.nats([piece])[0])


def test_it_learns_how_far_memory_can_be_trusted():
    random = np.random.default_rng(0)
    ngram = NGram(2, SIZE).fit([random.integers(1, 400, 3000)])
    moved = [
        np.array([token + shift if token in RANGES["Pitch"] else token for token in 6 * BAR]) for shift in range(5)
    ]
    fitted = ContextMixture(ngram).fit(moved[:4])
    before, after = (model.nats(moved[4:])[0] for model in (ContextMixture(ngram), fitted))
    assert after.sum() < 0.5 * before.sum()
    assert after[-len(BAR) :].mean() < 0.1  # the sixth time
    assert_allclose(ContextMixture(ngram).fit(moved[:4]).weights, fitted.weights)  # nothing is left to chance


def test_memory_that_is_wrong_is_not_trusted():
    random = np.random.default_rng(1)
    noise = [random.integers(1, 6, 2000) for _ in range(2)]
    ngram = NGram(1, SIZE).fit([random.integers(1, 6, 4000)])
    fitted = ContextMixture(ngram).fit(noise[:1])
    before, after = (model.nats(noise[1:])[0].sum() for model in (ContextMixture(ngram), fitted))
    assert after < 1.02 * before


def test_nothing_to_fit_on_leaves_the_ngram():
    ngram = NGram(2, SIZE).fit([np.array(BAR)])
    assert not ContextMixture(ngram).fit([]).weights.any()
    assert ContextMixture(ngram).nats([]) == []
    assert ContextMixture(ngram).name == "2-gram with memory"


def test_chances_of_other_tokens_are_those_of_the_ngram():
    ngram = NGram(3, SIZE).fit([np.array(3 * BAR)])
    piece = np.array(BAR)
    for place in (0, 1, 5, len(piece) - 1):
        other = np.append(piece[:place], 77)
        expected = np.exp(-ngram.nats([other])[0][-1])
        assert ngram.chances([piece[:2], piece], np.array([2 + place]), np.array([77]))[0] == pytest.approx(expected)
