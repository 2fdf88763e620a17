import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symusic.core import ScoreTick

from music_assets.tokens import remi
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.vocabulary import TOKEN_TYPE, Vocabulary
from music_assets_tests.midi_files import STYLES, make_tune
from music_assets_tests.tokens.scores import scores

GRAMMAR = Grammar()
EOS = Vocabulary().eos


def walk(seed: int, batch: int, steps: int) -> np.ndarray:
    """Random allowed ids, each type equally likely; int64[batch, steps]."""
    random = np.random.default_rng(seed)
    weight = 1 / np.bincount(TOKEN_TYPE)[TOKEN_TYPE]
    state, columns = GRAMMAR.initial_state(batch), []
    for _ in range(steps):
        allowed = GRAMMAR.allowed(state)
        assert allowed.any(axis=1).all()
        # The smallest of exponential variables with these rates
        waits = np.where(allowed, random.exponential(size=allowed.shape) / weight, np.inf)
        columns.append(waits.argmin(axis=1))
        state = GRAMMAR.advance(state, columns[-1])
    return np.stack(columns, axis=1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_every_walk_is_a_canonical_document(seed: int) -> None:
    for row in walk(seed, batch=8, steps=150):
        ends = np.flatnonzero(row == EOS)
        if len(ends):
            document = row[: ends[0]]
            np.testing.assert_array_equal(remi.canonical(document), document)
            assert (row[ends[0] + 1 :] == Vocabulary().pad).all()
        else:
            remi.canonical(row)


@settings(max_examples=100, deadline=None)
@given(scores())
def test_every_encoding_is_accepted(score: ScoreTick) -> None:
    ids = remi.encode(score)
    if len(ids):
        assert GRAMMAR.first_violation(np.append(ids, EOS)) is None


@pytest.mark.parametrize("style", STYLES)
def test_tunes_are_accepted(style: str) -> None:
    assert GRAMMAR.first_violation(np.append(remi.encode(make_tune(style=style)), EOS)) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 10_000), st.integers(0, Vocabulary().size - 1))
def test_a_changed_document_is_accepted_only_if_it_is_canonical(seed: int, place: int, token: int) -> None:
    document = remi.encode(make_tune(style=STYLES[seed % len(STYLES)], seed=seed, bars=4))
    document[place % len(document)] = token
    accepted = GRAMMAR.first_violation(np.append(document, EOS)) is None
    assert accepted == np.array_equal(remi.canonical(document), document)


def test_torch_gives_the_same_masks() -> None:
    torch = pytest.importorskip("torch")
    grammar = Grammar(torch.as_tensor)
    rows = walk(1, batch=4, steps=60)
    ours, theirs = GRAMMAR.initial_state(4), grammar.initial_state(4)
    for tokens in rows.T:
        np.testing.assert_array_equal(GRAMMAR.allowed(ours), grammar.allowed(theirs).numpy())
        ours = GRAMMAR.advance(ours, tokens)
        theirs = grammar.advance(theirs, torch.as_tensor(tokens))
