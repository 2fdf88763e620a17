import math

import pytest
import torch

from music_assets.models.registry import build, network_config, read_config
from music_assets.models.roll_rnn import PLANES, RollRNN, RollRNNConfig, density, expected_density, nats
from music_assets.tokens.rolls import KEYS

SMALL = network_config("pianoroll", "small", {"width": 24, "context": 32})


def small(**other):
    torch.manual_seed(0)
    network = RollRNN(RollRNNConfig.model_validate(SMALL.model_dump() | other), 704)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def rolls(*shape, share=0.1):
    """Planes [..., 176] in which no key is both struck and held."""
    struck, held = (torch.rand(*shape, KEYS) < share for _ in range(2))
    return torch.cat([struck, held & ~struck], -1)


def test_decoding_in_parts_gives_the_logits_of_one_pass():
    network, planes, genres = small(), rolls(3, 20), torch.tensor([0, 1, 64])
    state, parts = network.initial_state(3, 20), []
    for part in planes.split([7, 1, 1, 11], dim=1):
        logits, state = network.decode(part, state, genres)
        parts.append(logits)
    assert state.lengths.tolist() == [20] * 3
    assert state.fits(10**9)
    torch.testing.assert_close(torch.cat(parts, 1), network(planes, genres), rtol=1e-4, atol=1e-5)


def test_no_step_sees_what_follows_it_and_the_genre_tells():
    network, planes = small(), rolls(2, 20)
    changed = planes.clone()
    changed[:, 12:] = ~changed[:, 12:]
    torch.testing.assert_close(network(planes)[:, :12], network(changed)[:, :12])
    assert not torch.allclose(network(planes)[:, 12:], network(changed)[:, 12:])
    assert not torch.allclose(network(planes), network(planes, torch.tensor([3, 3])))
    torch.testing.assert_close(network(planes), network(planes, torch.tensor([0, 0])))


def test_the_likelihood_is_that_of_each_cell_silent_held_or_struck():
    logits, planes = torch.randn(2, 5, PLANES, dtype=torch.float64), rolls(2, 5, share=0.3)
    strike, hold = logits.sigmoid().split(KEYS, -1)
    chances = torch.stack([(1 - strike) * (1 - hold), (1 - strike) * hold, strike], -1)
    torch.testing.assert_close(chances.sum(-1), torch.ones_like(strike))
    cells = 2 * planes[..., :KEYS].long() + planes[..., KEYS:].long()
    expected = -chances.gather(-1, cells[..., None]).squeeze(-1).log().sum(-1)
    torch.testing.assert_close(nats(logits, planes), expected.float())


def test_a_weight_on_what_sounds_leaves_the_chances_true():
    planes = rolls(1, 1000, share=0.05)
    logits = torch.zeros(PLANES, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(150):
        nats(logits.expand(1, 1000, -1), planes, positive_weight=5.0).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    struck = planes[..., :KEYS].float()
    torch.testing.assert_close(logits.sigmoid()[:KEYS], struck.mean((0, 1)), rtol=0.02, atol=2e-3)
    held = planes[..., KEYS:].float().sum((0, 1)) / (1 - struck).sum((0, 1))
    torch.testing.assert_close(logits.sigmoid()[KEYS:], held, rtol=0.02, atol=2e-3)
    weighted, plain = (nats(logits.detach().expand(1, 1000, -1), planes, w).mean() for w in (5.0, 1.0))
    assert weighted > plain


def test_the_loss_is_the_weighted_one_of_the_scored_steps():
    network, planes, genres = small(positive_weight=3.0), rolls(3, 12), torch.tensor([0, 1, 2])
    scored = torch.arange(11) < torch.tensor([[11], [4], [0]])
    summed, count = network.loss(planes[:, :-1], planes[:, 1:], scored, genres)
    each = nats(network(planes[:, :-1], genres), planes[:, 1:], 3.0)
    assert count == 15
    torch.testing.assert_close(summed, each[0].sum() + each[1, :4].sum())


def test_density_counts_the_keys_that_sound():
    planes = rolls(2, 6)
    torch.testing.assert_close(density(planes), (planes[..., :KEYS] | planes[..., KEYS:]).sum(-1).float())
    certain = torch.where(planes, 50.0, -50.0)
    torch.testing.assert_close(expected_density(certain), density(planes))
    even = torch.zeros(1, PLANES)
    assert expected_density(even).item() == pytest.approx(KEYS * 0.75)


@pytest.mark.slow
def test_it_learns_a_few_rolls_by_heart():
    network = small(width=64, dropout=0.0).train()
    planes = rolls(4, 25, share=0.03)
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    first = nats(network(planes[:, :-1]), planes[:, 1:]).mean().item()
    loss = torch.tensor(torch.inf)
    for _ in range(150):
        loss = nats(network(planes[:, :-1]), planes[:, 1:], 2.0).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.3 * first


def test_an_untrained_network_expects_few_keys_and_the_preset_its_size():
    network = build(network_config("pianoroll", "small"), 704)
    assert isinstance(network, RollRNN)
    logits = network.eval()(torch.zeros(1, 3, PLANES))
    assert expected_density(logits).max().item() == pytest.approx(KEYS * (1 - (1 - 1 / (1 + math.exp(4))) ** 2))
    assert 3e6 < network.parameter_count < 4e6
    assert network.cells.num_layers == 2
    assert network.cells.hidden_size == 512


def test_a_network_is_its_configuration_and_its_weights():
    network, planes = small(), rolls(1, 8)
    again = build(read_config(network.config.model_dump_json()), 704)
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.eval()(planes), network(planes))
