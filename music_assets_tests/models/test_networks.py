import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from music_assets.foundation.settings import InvalidSettings
from music_assets.models.gpt import attend
from music_assets.models.memory_embedding import ROWS
from music_assets.models.network import IGNORED, CapacityExceeded, TokenNetwork
from music_assets.models.registry import ARCHITECTURES, build, network_config, read_config
from music_assets.tokens.memory import COLUMNS, LEVELS, NO_CANDIDATE
from music_assets.tokens.vocabulary import Vocabulary
from music_assets_tests.architectures import TOKEN_ARCHITECTURES, fields

VOCABULARY_SIZE = Vocabulary().size
SMALL = {"layers": 2, "width": 32, "context": 64}


def small(architecture, **overrides):
    torch.manual_seed(0)
    extra = fields(architecture, heads=2, embedding=16)
    network = build(network_config(architecture, "tiny", SMALL | extra | overrides), VOCABULARY_SIZE)
    with torch.no_grad():
        assert isinstance(network, TokenNetwork)
        for parameter in network.parameters():  # what starts at zero would hide mistakes
            parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_decoding_in_pieces_gives_the_logits_of_one_pass(architecture, tied):
    network = small(architecture, **(fields(architecture, tied=True, embedding=None) if tied else {}))
    ids = torch.randint(VOCABULARY_SIZE, (3, 24))
    expected = network(ids)
    state = network.initial_state(3, 24)
    pieces = []
    for part in ids.split([7, 1, 1, 5, *[1] * 10], dim=1):
        assert state.fits(part.shape[1])
        logits, state = network.decode(part, state)
        pieces.append(logits)
    assert state.lengths.tolist() == [24] * 3
    torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=1e-4, atol=1e-5)


def test_a_decoding_state_may_be_longer_than_a_rows_context():
    ids = torch.randint(VOCABULARY_SIZE, (2, 40))
    network = small("gpt", context=8)
    state, pieces = network.initial_state(2, 40), []
    for part in ids.split([5, 1, 4, 20, 10], dim=1):
        logits, state = network.decode(part, state)
        pieces.append(logits)
    expected = small("gpt", context=64)(ids)  # the same weights
    torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_decoding_agrees_under_autocast(architecture):
    network = small(architecture)
    ids = torch.randint(VOCABULARY_SIZE, (2, 16))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = network(ids)
        state = network.initial_state(2, 16)
        first, state = network.decode(ids[:, :9], state)
        rest = [first]
        for step in range(9, 16):
            logits, state = network.decode(ids[:, step : step + 1], state)
            rest.append(logits)
    torch.testing.assert_close(torch.cat(rest, 1), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_no_token_sees_what_follows_it(architecture):
    network = small(architecture)
    ids = torch.randint(VOCABULARY_SIZE, (1, 20))
    changed = ids.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % VOCABULARY_SIZE
    before, after = network(ids), network(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_what_is_not_asked_for_is_left_out(architecture):
    network = small(architecture)
    ids = torch.randint(VOCABULARY_SIZE, (3, 20))
    for skip in (1, 11, 19):
        torch.testing.assert_close(network(ids, skip=skip), network(ids)[:, skip:])


def test_a_gpt_refuses_more_tokens_than_its_state_holds():
    network = small("gpt")
    _, state = network.decode(torch.zeros(1, 6, dtype=torch.int64), network.initial_state(1, 8))
    assert state.fits(2)
    assert not state.fits(3)
    with pytest.raises(CapacityExceeded, match="room for 8 tokens, not for 9"):
        network.decode(torch.zeros(1, 3, dtype=torch.int64), state)


@pytest.mark.parametrize("architecture", ["lstm", "gru"])
def test_a_recurrent_state_has_no_limit(architecture):
    network = small(architecture)
    _, state = network.decode(torch.zeros(1, 100, dtype=torch.int64), network.initial_state(1, 8))
    assert state.fits(10**9)


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_network_makes_use_of_memory_also_when_it_decodes_in_pieces(architecture):
    network = small(architecture, memory=True)
    ids, candidates = (
        torch.randint(1, VOCABULARY_SIZE, (2, 24)),
        torch.randint(1, VOCABULARY_SIZE * LEVELS, (2, 24, COLUMNS)),
    )
    candidates[:, ::3, 1] = NO_CANDIDATE
    expected = network(ids, candidates=candidates)
    assert not torch.allclose(expected, network(ids), rtol=1e-2, atol=1e-2)
    state, pieces, place = network.initial_state(2, 24), [], 0
    for part in ids.split([7, 1, 1, 5, *[1] * 10], dim=1):
        logits, state = network.decode(part, state, candidates[:, place : place + part.shape[1]])
        pieces.append(logits)
        place += part.shape[1]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_no_candidate_is_the_same_as_none_given(architecture):
    network = small(architecture)
    ids = torch.randint(VOCABULARY_SIZE, (2, 10))
    nothing = torch.full((2, 10, COLUMNS), NO_CANDIDATE)
    torch.testing.assert_close(network(ids, candidates=nothing), network(ids))


LENGTHS = ([20], [7, 13], [1, 1, 18], [9, 4, 6, 1])


def packed():
    """Rows of several pieces: ids, segment_ids, and the pieces themselves."""
    random = torch.Generator().manual_seed(2)
    pieces = [torch.randint(VOCABULARY_SIZE, (length,), generator=random) for row in LENGTHS for length in row]
    segment_ids = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in LENGTHS])
    return torch.cat(pieces).view(segment_ids.shape), segment_ids, pieces


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_packed_row_gives_the_logits_of_each_piece_alone(architecture):
    network = small(architecture)
    ids, segment_ids, pieces = packed()
    expected = torch.cat([network(piece[None])[0] for piece in pieces])
    torch.testing.assert_close(network(ids, segment_ids).flatten(0, 1), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(ids).flatten(0, 1), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_packed_row_gives_the_gradients_of_each_piece_alone(architecture):
    network = small(architecture)
    ids, segment_ids, pieces = packed()
    together = torch.autograd.grad(
        network(ids, segment_ids).square().sum(), list(network.parameters()), materialize_grads=True
    )
    losses = torch.stack([network(piece[None]).square().sum() for piece in pieces])
    alone = torch.autograd.grad(losses.sum(), list(network.parameters()), materialize_grads=True)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_packed_row_gives_the_logits_of_each_piece_under_autocast(architecture):
    network = small(architecture)
    ids, segment_ids, pieces = packed()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = torch.cat([network(piece[None])[0] for piece in pieces])
        torch.testing.assert_close(network(ids, segment_ids).flatten(0, 1), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_rows_of_one_piece_need_no_segment_ids(architecture):
    network = small(architecture)
    ids = torch.randint(VOCABULARY_SIZE, (2, 20))
    torch.testing.assert_close(network(ids, torch.zeros_like(ids)), network(ids))


@pytest.mark.parametrize("t", [9, 600])  # beyond 512 PyTorch's own attention is taken
@pytest.mark.parametrize("seen", [0, 5])
def test_attention_on_the_cpu_equals_torchs_own(seen, t):
    q, k, v = (torch.randn(2, 3, length, 8) for length in (t, t + seen, t + seen))
    allowed = torch.ones(t, t + seen, dtype=torch.bool).tril(seen)
    expected = F.scaled_dot_product_attention(q, k, v, allowed)
    hidden = torch.zeros(1, 1, t, t + seen).masked_fill(~allowed, -torch.inf)
    torch.testing.assert_close(attend(q, k, v, hidden), expected)
    fast = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), hidden.bfloat16())
    torch.testing.assert_close(fast.float(), expected, rtol=0.03, atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_it_learns_a_few_rows_by_heart(architecture):
    network = small(architecture, width=64).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    ids = torch.randint(VOCABULARY_SIZE, (4, 17))
    loss = torch.tensor(torch.inf)
    for _ in range(100):
        loss = F.cross_entropy(network(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.3


def test_an_untrained_gpt_is_undecided():
    network = build(network_config("gpt", "tiny", SMALL | {"heads": 2}), VOCABULARY_SIZE)
    assert not network(torch.zeros(1, 4, dtype=torch.int64)).any()


@pytest.mark.parametrize(
    ("architecture", "preset", "low", "high"),
    [
        ("gpt", "tiny", 6e6, 7.5e6),
        ("gpt", "small", 16e6, 18e6),
        ("gpt", "base", 44e6, 48e6),
        ("lstm", "tiny", 5e6, 6e6),
        ("gru", "tiny", 4.5e6, 5.5e6),
        ("lstm", "small", 25e6, 29e6),
        ("lstm", "base", 70e6, 78e6),
        ("pianoroll", "tiny", 0.9e6, 1.2e6),
        ("pianoroll", "small", 3e6, 4e6),
        ("pianoroll", "base", 20e6, 25e6),
    ],
)
def test_presets_have_the_size_they_promise(architecture, preset, low, high):
    with torch.device("meta"):
        assert low < build(network_config(architecture, preset), Vocabulary().size).parameter_count < high


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gtp",), "No architecture 'gtp'"),
        (("gpt", "huge"), "No preset 'huge' for gpt: choose one of tiny, small, base"),
        (("gpt", "tiny", {"layer": 3}), "layer"),
        (("gpt", "tiny", {"width": 100, "heads": 3}), "choose a multiple of 6"),
        (("gpt", "tiny", {"embedding": 64}), "embedding cannot be 64: extra inputs"),
        (("gru", "tiny", {"heads": 2}), "heads cannot be 2"),
        (("lstm", "tiny", {"prompt_everywhere": True}), "prompt_everywhere"),
        (("lstm", "tiny", {"tied": True, "embedding": 64}), "tied weights need"),
        (("pianoroll", "tiny", {"heads": 2}), "heads"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        network_config(*arguments)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_preset_is_read_back_as_it_was_written(architecture):
    for name in ARCHITECTURES[architecture].presets:
        config = network_config(architecture, name)
        again = read_config(config.model_dump_json())
        assert (type(again), again) == (type(config), config)
        assert again.architecture == architecture


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_configuration_says_whether_a_network_is_told_of_memory(architecture):
    assert "memory" in json.loads(network_config(architecture).model_dump_json())
    told = small(architecture, memory=True)
    assert told.columns == COLUMNS
    deaf = small(architecture, memory=False)
    assert deaf.columns == 0
    ids, candidates = torch.randint(1, VOCABULARY_SIZE, (2, 24)), torch.empty(2, 24, 0, dtype=torch.long)
    assert torch.equal(deaf(ids, candidates=candidates), deaf(ids))
    assert deaf.parameter_count == told.parameter_count - ROWS * told.embedding.embedding_dim


def test_the_registry_is_read_without_torch():
    code = "import sys, music_assets.models.registry; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_loss_counts_what_it_scores():
    network = small("gpt")
    ids, segment_ids, _ = packed()
    targets = ids.roll(-1, 1)
    targets[:, 10:13] = IGNORED
    nats, scored = network.loss(ids, targets, segment_ids)
    chances = network(ids, segment_ids).log_softmax(-1)
    expected = -sum(
        chances[row, place, targets[row, place]]
        for row in range(len(ids))
        for place in range(ids.shape[1])
        if not 10 <= place < 13
    )
    assert scored == len(ids) * (ids.shape[1] - 3)
    torch.testing.assert_close(nats, expected)
