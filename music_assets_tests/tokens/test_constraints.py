"""Random documents under random constraints: each goes on until it ends, and keeps what was asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.tokens.constraints import Constraints
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.remi import decode, encode, notes
from music_assets.tokens.vocabulary import DRUMS, RANGES, TEMPOS, TIME_SIGNATURES, TOKEN_TYPE, TOKEN_TYPES, Vocabulary

EOS, BAR = Vocabulary().eos, RANGES["Bar"].start
WEIGHTS = {"Bar": 6.0, "Position": 0.5, "Tempo": 0.02, "Special": 0.5}  # of each id of a type; else 1


def walk(grammar: Grammar, state: np.ndarray, random: np.random.Generator, wild: bool) -> list[int]:
    """One document, by allowed ids drawn at random, to its end; ``wild`` stays in a bar as long as it can."""
    weights = np.array([WEIGHTS.get(TOKEN_TYPES[kind], 1.0) for kind in TOKEN_TYPE])
    if wild:
        weights[[BAR, EOS]] = 1e-9
    ids: list[int] = []
    while not ids or ids[-1] != EOS:
        allowed = grammar.allowed(state)[0]
        assert allowed.any(), [Vocabulary().name(token) for token in ids[-12:]]
        chances = weights * allowed
        token = int(random.choice(len(chances), p=chances / chances.sum()))
        state = grammar.advance(state, np.array([token]))
        ids.append(token)
        assert len(ids) < 40_000
    return ids


programs = st.frozensets(st.integers(0, DRUMS), min_size=1, max_size=4)
common = {
    "time_signatures": st.none() | st.lists(st.integers(0, 23), min_size=1, max_size=6).map(tuple),
    "tempos": st.none() | st.frozensets(st.integers(0, len(TEMPOS) - 1), min_size=1, max_size=3),
    "instruments": st.none() | st.lists(programs, min_size=1, max_size=5).map(tuple),
    "optional": st.booleans(),
    "pitch_classes": st.none() | st.frozensets(st.integers(0, 11), min_size=1),
    "notes_in_bar": st.integers(1, 6),
}
by_bars = st.tuples(st.integers(1, 5), st.integers(0, 3)).flatmap(
    lambda bars: st.builds(Constraints, least_bars=st.just(bars[0]), most_bars=st.just(sum(bars)), **common)
)
by_notes = st.builds(Constraints, notes=st.integers(6, 90), **common)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(by_bars | by_notes, st.integers(0, 2**32), st.booleans())
def test_every_constraint_holds_and_every_document_ends(asked, seed, wild):
    grammar = Grammar(constraints=asked)
    ids = np.array(walk(grammar, grammar.initial_state(1), np.random.default_rng(seed), wild))
    assert Grammar().first_violation(ids) is None
    document = ids[:-1].astype(np.uint16)
    assert np.array_equal(encode(decode(document)), document)
    made = notes(document)
    if asked.most_bars is not None:
        assert asked.least_bars <= len(made.bar_starts) <= asked.most_bars
    if asked.notes is not None:
        assert len(made) == asked.notes
    if asked.time_signatures is not None:
        found = [TIME_SIGNATURES[i] for i in document[np.flatnonzero(document == BAR) + 1] - RANGES["TimeSig"].start]
        told = [TIME_SIGNATURES[i] for i in asked.time_signatures]
        assert found == [told[min(bar, len(told) - 1)] for bar in range(len(found))]
    if asked.tempos is not None:
        found = set((document[np.isin(document, RANGES["Tempo"])] - RANGES["Tempo"].start).tolist())
        assert found
        assert found <= asked.tempos
    if asked.instruments is not None:
        played = set(made.program.tolist())
        assert played <= frozenset().union(*asked.instruments)
        assert asked.optional or all(played & instrument for instrument in asked.instruments)
    if asked.pitch_classes is not None:
        assert {int(pitch) % 12 for pitch in made.pitch[made.program != DRUMS]} <= asked.pitch_classes
    counts = np.bincount(made.bar)
    assert wild or counts.max() < 129 * 128


def test_a_bar_in_the_middle_of_a_document_needs_no_tempo():
    asked = Constraints(least_bars=2, most_bars=2, tempos=frozenset())
    grammar = Grammar(constraints=asked)
    ids = walk(grammar, grammar.bar_state(1), np.random.default_rng(0), wild=False)
    assert ids.count(BAR) == 2
    assert not np.isin(ids, RANGES["Tempo"]).any()
    assert ids[0] == BAR


def test_constraints_begin_behind_a_prefix():
    document = np.array(walk(Grammar(), Grammar().initial_state(1), np.random.default_rng(3), wild=False)[:-1])
    asked = Constraints(least_bars=3, most_bars=3, instruments=(frozenset({DRUMS}),))
    grammar = Grammar(constraints=asked)
    ids = walk(grammar, grammar.state_after([document]), np.random.default_rng(4), wild=False)
    assert ids.count(BAR) == 3
    assert set(np.array(ids)[np.isin(ids, RANGES["Program"])].tolist()) == {RANGES["Program"][DRUMS]}
    assert Grammar().first_violation(np.concatenate([document, ids])) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"least_bars": 3, "most_bars": 2}, "At least 3"),
        ({"notes": 5, "most_bars": 2}, "Either"),
        ({"pitch_classes": frozenset()}, "no notes"),
    ],
)
def test_what_no_document_can_keep_is_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        Constraints(**fields)
