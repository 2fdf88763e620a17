from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.evaluation.ngram import CachedNGram, NGram

SIZE = 5
sequences = st.lists(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=12).map(np.array), min_size=1, max_size=5)


def slow_probability(train, order, history, token):
    """The recursion as it is written in the docstring, on dictionaries."""
    probability = 1 / SIZE
    for length in range(order):
        after = Counter()
        padded = [None] * length + list(history)
        context = tuple(padded[len(padded) - length :])
        for sequence in train:
            line = [None] * length + list(sequence)
            for i in range(length, len(line)):
                if tuple(line[i - length : i]) == context:
                    after[line[i]] += 1
        if after:
            n, t = after.total(), len(after)
            probability = (after[token] + t * probability) / (n + t)
    return probability


@given(train=sequences, test=sequences, order=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_equals_the_recursion(train, test, order):
    nats = NGram(order, SIZE).fit(train).nats(test)
    for sequence, scored in zip(test, nats, strict=True):
        expected = [-np.log(slow_probability(train, order, sequence[:i], token)) for i, token in enumerate(sequence)]
        assert scored == pytest.approx(expected)


@given(train=sequences, history=st.lists(st.integers(0, SIZE - 1), max_size=4), order=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_probabilities_sum_to_one(train, history, order):
    model = NGram(order, SIZE).fit(train)
    endings = [np.array([*history, token]) for token in range(SIZE)]
    assert sum(np.exp(-scored[-1]) for scored in model.nats(endings)) == pytest.approx(1)


def test_a_repeated_line_becomes_certain():
    line = np.tile(np.arange(SIZE), 200)
    scored = NGram(3, SIZE).fit([line]).nats([line])[0]
    assert scored[10:].mean() < 0.03


def test_an_unseen_token_gets_the_share_of_the_uniform_distribution():
    scored = NGram(1, SIZE).fit([np.array([0])]).nats([np.array([1])])[0]
    assert scored == pytest.approx([-np.log((0 + 1 / SIZE) / (1 + 1))])


def slow_cached(model, order, weight, history, token):
    """The formula as it is written in the docstring, on dictionaries."""
    fixed = float(np.exp(-model.nats([np.array([*history, token])])[0][-1]))
    probability = fixed
    for length in range(order):
        line = [None] * length + list(history)
        context = tuple(line[len(line) - length :])
        places = [i for i in range(length, len(line)) if tuple(line[i - length : i]) == context]
        after = Counter(line[i] for i in places)
        if after:
            n, d = after.total(), len(after)
            probability = (after[token] + d * probability) / (n + d)
    return (1 - weight) * fixed + weight * probability


@given(train=sequences, test=sequences, order=st.integers(1, 4), weight=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_cache_equals_its_formula(train, test, order, weight):
    model = NGram(3, SIZE).fit(train)
    for sequence, scored in zip(test, CachedNGram(model, order, weight).nats(test), strict=True):
        expected = [-np.log(slow_cached(model, order, weight, sequence[:i], x)) for i, x in enumerate(sequence)]
        assert scored == pytest.approx(expected)


@given(train=sequences, history=st.lists(st.integers(0, SIZE - 1), max_size=8), order=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_probabilities_with_a_cache_sum_to_one(train, history, order):
    model = CachedNGram(NGram(2, SIZE).fit(train), order, 0.6)
    endings = [np.array([*history, token]) for token in range(SIZE)]
    assert sum(np.exp(-scored[-1]) for scored in model.nats(endings)) == pytest.approx(1)


def test_a_cache_by_hand():
    # The unigram of one 0 gives it (1 + 1/5) / 2; before the third token the piece has had two: (2 + 0.6) / (2 + 1).
    unigram = NGram(1, SIZE).fit([np.array([0])])
    scored = CachedNGram(unigram, 1, 0.5).nats([np.array([0, 0, 0])])[0]
    assert np.exp(-scored) == pytest.approx([0.6, 0.3 + 0.5 * (1 + 0.6) / 2, 0.3 + 0.5 * (2 + 0.6) / 3])


def test_a_cache_forgets_between_pieces_and_learns_within():
    model = NGram(2, SIZE).fit([np.arange(SIZE)])
    piece = np.tile([4, 1, 3, 0], 30)
    cached = CachedNGram(model, 4, 0.9)
    together, alone = cached.nats([piece, piece])[1], cached.nats([piece])[0]
    assert together == pytest.approx(alone)
    assert alone[60:].sum() < 0.3 * model.nats([piece])[0][60:].sum()


def test_a_weight_is_a_share():
    with pytest.raises(ValueError, match="choose one from 0 to 1"):
        CachedNGram(NGram(1, SIZE), 1, 1.5)
