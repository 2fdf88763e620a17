import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from music_assets.generation.config import SamplingConfig
from music_assets.generation.sampling import Repeats, draw, keep_allowed, keep_likeliest, sample
from music_assets.models.network import TokenNetwork
from music_assets.models.registry import build, network_config
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.remi import canonical, decode, encode, notes
from music_assets.tokens.repeats import MATCH_LENGTHS, NO_CANDIDATE, repeat_candidates
from music_assets.tokens.vocabulary import UnknownGenre, Vocabulary
from music_assets_tests.midi_files import make_tune

VOCABULARY = Vocabulary(("reel", "jig"))
BAR = VOCABULARY.ranges["Bar"].start


def untrained(architecture="gpt", context=64):
    torch.manual_seed(0)
    sizes = {"layers": 1, "width": 32, "context": context}
    extra = {"heads": 2} if architecture == "gpt" else {"embedding": None}
    config = network_config(architecture, "tiny", sizes | extra)
    network = build(config, VOCABULARY.size)
    assert isinstance(network, TokenNetwork)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return network.eval()


logits = st.lists(st.floats(-8, 8), min_size=2, max_size=12).map(lambda row: torch.tensor([row]))


@given(logits, st.floats(0.05, 1.0), st.floats(0.3, 3.0))
def test_top_p_keeps_the_smallest_set_that_reaches_p(row, top_p, temperature):
    kept = torch.isfinite(keep_likeliest(row, temperature, 0, top_p))[0]
    probability = (row[0] / temperature).double().softmax(-1)
    assert kept.any()
    if top_p < 1:
        assert probability[kept].sum() >= top_p - 1e-5
        least = probability[kept].min()
        assert probability[kept].sum() - least < top_p + 1e-5
        assert (probability[~kept] <= least + 1e-9).all()


def test_the_token_that_crosses_p_stays():
    row = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert torch.isfinite(keep_likeliest(row, 1.0, 0, 0.6)).tolist() == [[True, True, False]]
    assert torch.isfinite(keep_likeliest(row, 1.0, 0, 0.01)).tolist() == [[True, False, False]]


@given(logits, st.integers(1, 20))
def test_top_k_keeps_the_k_likeliest(row, k):
    kept = torch.isfinite(keep_likeliest(row, 1.0, k, 1.0))[0]
    assert kept.sum() >= min(k, row.shape[1])
    assert row[0][kept].min() >= row[0].sort(descending=True).values[min(k, row.shape[1]) - 1]


def test_draw_follows_the_probabilities():
    row = torch.tensor([0.6, 0.3, 0.1, 0.0]).log().expand(40_000, -1)
    counts = torch.bincount(draw(row, torch.Generator().manual_seed(1)), minlength=4) / 40_000
    assert counts.tolist() == pytest.approx([0.6, 0.3, 0.1, 0], abs=0.012)
    assert counts[3] == 0


def test_the_mask_is_the_grammars_and_leaves_the_other_logits():
    prefixes = [encode(make_tune(style="band"))[:length] for length in (0, 1, 2, 5, 6, 30, 333)]
    row = torch.randn(len(prefixes), VOCABULARY.size, dtype=torch.bfloat16)
    grammar = Grammar(torch.as_tensor)
    masked = keep_allowed(row, grammar, grammar.state_after(prefixes))
    allowed = Grammar().allowed(Grammar().state_after(prefixes))
    assert masked.dtype == torch.float32
    assert masked.tolist() == np.where(allowed, row.float().numpy(), -np.inf).tolist()


@given(st.lists(st.lists(st.integers(10, 12), min_size=60, max_size=60), min_size=1, max_size=3), st.integers(0, 60))
def test_repeats_are_found_as_rows_grow(rows, length):
    repeats = Repeats(len(rows), 64, MATCH_LENGTHS, torch.device("cpu"))
    for place in range(length):
        repeats.append(torch.tensor([row[place] for row in rows]))
    for row, found in zip(rows, repeats.found, strict=True):
        np.testing.assert_array_equal(found[:length], repeat_candidates(np.array(row[:length])))
        assert (found[length:] == NO_CANDIDATE).all()


@pytest.mark.parametrize("architecture", ["gpt", "lstm", "gru"])
def test_even_an_untrained_network_writes_valid_documents(architecture):
    # 300 tokens at a context of 64: the network is prompted anew many times on the way.
    settings = SamplingConfig(count=6, max_tokens=300, max_bars=8, top_p=1.0, seed=3)
    drawn = sample(untrained(architecture), VOCABULARY, "jig", settings)
    grammar = Grammar()
    assert len(drawn) == 6
    for one in drawn:
        assert grammar.first_violation(one.ids) is None
        assert (one.ids == BAR).sum() <= 8
        ids = canonical(one.ids)
        assert np.array_equal(encode(decode(ids)), ids)
    assert sum(len(notes(canonical(one.ids))) for one in drawn) > 0


def test_the_seed_decides():
    network = untrained()

    def ids(seed):
        return [one.ids.tolist() for one in sample(network, VOCABULARY, "reel", settings(seed))]

    def settings(seed):
        return SamplingConfig(count=3, max_tokens=80, seed=seed)

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_progress_is_reported_and_the_genre_must_be_known():
    seen = []
    sample(
        untrained(),
        VOCABULARY,
        None,
        SamplingConfig(count=1, max_tokens=130),
        lambda *step: seen.append(step),
    )
    assert all(total == 130 for _, total in seen)
    with pytest.raises(UnknownGenre, match="polka"):
        sample(untrained(), VOCABULARY, "polka", SamplingConfig(count=1))
