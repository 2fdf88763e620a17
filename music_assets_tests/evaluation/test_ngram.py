from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.evaluation.ngram import NGram
from music_assets.tokens import vocabulary
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.remi import encode
from music_assets_tests.midi_files import make_tune

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


def test_an_ngram_goes_on_by_the_grammar_for_as_many_bars_as_asked():
    documents = [encode(make_tune(style=style, seed=seed, bars=8)) for seed in range(4) for style in ("reel", "band")]
    model = NGram(4, vocabulary.SIZE).fit(documents)
    lines = [np.flatnonzero(ids == vocabulary.RANGES["Bar"].start) for ids in documents]
    beginnings = [ids[: line[2] + 1] for ids, line in zip(documents, lines, strict=True)]
    bars = [1, 2, 3, 1, 2, 3, 1, 2]
    drawn = model.go_on(beginnings, bars, seed=0)
    for beginning, more, count in zip(beginnings, drawn, bars, strict=True):
        whole = np.concatenate([beginning, more])
        assert Grammar().first_violation(whole) is None
        assert (more == vocabulary.RANGES["Bar"].start).sum() <= count - 1
        assert len(more) > 4
    assert all(map(np.array_equal, drawn, model.go_on(beginnings, bars, seed=0)))
    assert not all(map(np.array_equal, drawn, model.go_on(beginnings, bars, seed=1)))
    assert model.go_on([], [], seed=0) == []


def test_an_ngram_of_one_document_that_knows_all_of_it_repeats_it():
    document = encode(make_tune(style="reel", seed=0, bars=8))
    line = np.flatnonzero(document == vocabulary.RANGES["Bar"].start)
    model = NGram(12, vocabulary.SIZE).fit([document] * 200)
    (drawn,) = model.go_on([document[: line[3] + 1]], [2], seed=0)
    true = document[line[3] + 1 : line[5]]
    assert np.array_equal(drawn, true)


@given(sequences, sequences)
def test_all_orders_in_one_pass_cost_what_each_does(train, held_out):
    longest = NGram(4, SIZE).fit(train)
    each = [sum(nats.sum() for nats in longest.shortened(order).nats(held_out)) for order in range(1, 5)]
    assert longest.nats_by_order(held_out) == pytest.approx(each)
