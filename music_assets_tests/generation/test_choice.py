"""The compiled choice against the same rules in plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.generation.choice import Filters, choose
from music_assets.tokens.constraints import Constraints
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.remi import encode
from music_assets.tokens.vocabulary import RANGES, SIZE, Vocabulary
from music_assets_tests.midi_files import make_tune

BAR, EOS = RANGES["Bar"].start, Vocabulary().eos
DOCUMENT = encode(make_tune(style="band"))[:400]
PLAYED = DOCUMENT[np.isin(DOCUMENT, RANGES["Program"])] - RANGES["Program"].start
HEARD = (frozenset({*PLAYED.tolist(), 3, 70, 71}),)
NOTHING = np.empty((0, SIZE), np.float32)
PROGRAM = np.isin(np.arange(SIZE), RANGES["Program"])
TIME = np.isin(np.arange(SIZE), [BAR, EOS, *RANGES["Position"]])
NUMBER = np.arange(SIZE) - RANGES["Program"].start
"""Of a program, for its token."""


def slow(logits, unconditional, scale, legal, allowed, playing, filters, penalised, penalty):
    """Probabilities of one row, float64[V]."""
    score = logits.astype(np.float64)
    if unconditional is not None:
        score = unconditional + scale * (score - unconditional)
    score[[token for token in penalised if token >= 0]] -= np.log(penalty)
    if allowed[BAR] != allowed[EOS]:
        score[[BAR, EOS]] = np.logaddexp(score[BAR], score[EOS])
        legal = np.where(np.isin(np.arange(SIZE), [BAR, EOS]), allowed, legal)
    score = left_to_nearest(np.where(legal, score, -np.inf), allowed, playing)
    score = np.where(allowed, score, -np.inf) / filters.temperature
    probability = np.exp(score - score.max())
    probability /= probability.sum()
    if filters.top_k:
        kth = np.sort(probability)[::-1][min(filters.top_k, SIZE) - 1]
        probability[probability < kth] = 0
        probability /= probability.sum()
    whole = probability.copy()
    if filters.top_p < 1:
        order = np.argsort(-probability, kind="stable")
        before = np.cumsum(probability[order]) - probability[order]
        probability[order[before >= filters.top_p]] = 0
    if filters.min_p:
        probability[whole < filters.min_p * whole.max()] = 0
    return probability / probability.sum()


def left_to_nearest(score, allowed, playing):
    """Logits, float64[V], where a constraint's forbidden tokens have left their probability to others."""
    chance = np.exp(score - score.max())
    result, left = np.where(allowed, chance, 0), np.where(allowed, 0, chance)
    joining = PROGRAM & (playing < NUMBER)
    for family in range(17):
        of_family = joining & (family == NUMBER // 8)
        if result[of_family].any():
            result[of_family] *= 1 + left[of_family].sum() / result[of_family].sum()
            left[of_family] = 0
    for nearest in (TIME, joining):
        if result[nearest].any():
            result[nearest] *= 1 + left.sum() / result[nearest].sum()
            break
    with np.errstate(divide="ignore"):
        return np.log(result)


def playing_after(prefix):
    """The program that played last at the position, -1 for none."""
    since = prefix[np.flatnonzero(TIME[prefix])[-1] :] if TIME[prefix].any() else prefix
    return int(NUMBER[since[PROGRAM[since]]][-1]) if PROGRAM[since].any() else -1


def after(grammar, prefix):
    state = grammar.initial_state(1)
    for token in prefix:
        state = grammar.advance(state, np.array([token]))
    return state


filters = st.builds(
    Filters,
    temperature=st.floats(0.3, 2),
    top_k=st.sampled_from([0, 0, 1, 3, 20, 5000]),
    top_p=st.sampled_from([1.0, 1.0, 0.5, 0.9, 0.98]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
)


@settings(deadline=None, max_examples=60)
@given(
    filters,
    st.integers(0, 2**31),
    st.floats(0, 4),
    st.booleans(),
    st.lists(st.integers(0, len(DOCUMENT)), min_size=3, max_size=3),
)
def test_the_draw_falls_where_the_rules_say(filters, seed, scale, guided, places):
    random = np.random.default_rng(seed)
    grammar = Grammar(constraints=Constraints(least_bars=2, most_bars=40, instruments=HEARD, optional=True))
    logits, other = random.normal(0, 4, (2, 3, SIZE)).astype(np.float32)
    penalised = random.integers(-1, SIZE, (3, 4))
    penalised[:, 1] = -1
    penalised = np.array([[token if token not in row[:i] else -1 for i, token in enumerate(row)] for row in penalised])
    uniform = random.random(3)
    states = np.concatenate([after(grammar, DOCUMENT[:place]) for place in places], axis=1)
    legal = Grammar().allowed(np.concatenate([after(Grammar(), DOCUMENT[:place]) for place in places], axis=1))
    allowed, expected = grammar.allowed(states), states.copy()
    tokens = choose(
        logits, other if guided else NOTHING, np.full(3, scale), grammar, states, filters, penalised, 3.0, uniform
    )
    for row, token in enumerate(tokens):
        chance = slow(
            logits[row], other[row] if guided else None, scale, legal[row], allowed[row],
            playing_after(DOCUMENT[: places[row]]), filters, penalised[row], 3.0,
        )  # fmt: skip
        assert chance[token] > 0
        # Ranked by chance where anything is left out, else by id: the draw is where the sum passes the uniform number.
        plain = not filters.top_k and filters.top_p == 1 and not filters.min_p
        order = np.arange(SIZE) if plain else np.argsort(-chance, kind="stable")
        sums = np.cumsum(chance[order])
        place = int(np.flatnonzero(order == token)[0])
        assert sums[place] - chance[token] - 1e-5 <= uniform[row] <= sums[place] + 1e-5
    assert np.array_equal(states, grammar.advance(expected, tokens))


def test_the_token_that_crosses_p_stays():
    grammar = Grammar()
    pitches = np.array(RANGES["Pitch"])[:3]
    logits = np.full((1, SIZE), -50, np.float32)
    logits[0, pitches] = np.log([0.5, 0.3, 0.2])
    prefix = DOCUMENT[: np.flatnonzero(np.isin(DOCUMENT, RANGES["Pitch"]))[0]]

    def drawn(top_p):
        state = grammar.state_after([prefix])
        return {
            int(
                choose(
                    logits, NOTHING, np.ones(1), grammar, state.copy(), Filters(top_p=top_p),
                    np.full((1, 0), -1), 1.0, np.array([uniform]),
                )[0]
            )
            for uniform in np.linspace(0, 0.999, 50)
        }  # fmt: skip

    assert drawn(0.6) == set(pitches[:2].tolist())
    assert drawn(0.01) == set(pitches[:1].tolist())
    assert drawn(1.0) == set(pitches.tolist())


@pytest.mark.parametrize(("least", "most", "expected"), [(9, 9, BAR), (1, 1, EOS)])
def test_the_bar_line_stands_for_the_end_where_only_it_may_come(least, most, expected):
    grammar = Grammar(constraints=Constraints(least_bars=least, most_bars=most))
    logits = np.zeros((1, SIZE), np.float32)
    logits[0, BAR if expected == EOS else EOS] = 30
    state = after(grammar, DOCUMENT[: np.flatnonzero(np.isin(DOCUMENT, RANGES["Duration"]))[0] + 1])
    token = choose(logits, NOTHING, np.ones(1), grammar, state, Filters(), np.full((1, 0), -1), 1.0, np.array([0.5]))
    assert token[0] == expected


def test_an_instrument_that_may_not_play_is_no_reason_for_another_note_of_the_one_that_does():
    """Asked for an electric bass and drums: what the network gives other basses is the asked one's, and other
    instruments are not played instead of the bass going on upwards."""
    bass, other_bass, trumpet = (RANGES["Program"][program] for program in (33, 34, 56))
    grammar = Grammar(constraints=Constraints(instruments=(frozenset({33}), frozenset({128}))))
    place = RANGES["Position"][8]
    start = [BAR, RANGES["TimeSig"][0], RANGES["Position"][0], RANGES["Tempo"][20]]
    note = [bass, RANGES["Pitch"][40], RANGES["Velocity"][10], RANGES["Duration"][3]]

    def drawn(prefix, chances):
        logits = np.full((1, SIZE), -50, np.float32)
        for token, chance in chances.items():
            logits[0, token] = np.log(chance)
        tokens = [
            int(
                choose(
                    logits, NOTHING, np.ones(1), grammar, after(grammar, np.array(prefix)), Filters(),
                    np.full((1, 0), -1), 1.0, np.array([uniform]),
                )[0]
            )
            for uniform in np.linspace(0.005, 0.995, 100)
        ]  # fmt: skip
        return {token: tokens.count(token) / 100 for token in set(tokens)}

    assert drawn([*start, *note, place], {other_bass: 0.6, trumpet: 0.3, RANGES["Program"][128]: 0.1}) == pytest.approx(
        {bass: 0.86, RANGES["Program"][128]: 0.14}, abs=0.02
    )
    assert drawn([*start, *note], {bass: 0.1, other_bass: 0.3, trumpet: 0.4, place: 0.2}) == pytest.approx(
        {bass: 0.1, place: 0.9}, abs=0.02
    )
