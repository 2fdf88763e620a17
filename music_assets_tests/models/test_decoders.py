"""Decoders against the network's forward pass, and a row against the same row among others."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from music_assets.models.decoding import TorchDecoder
from music_assets.models.gpt_decoder import GPTDecoder, _packed, exponentiate, forget
from music_assets.models.network import CapacityExceeded, TokenNetwork
from music_assets.models.registry import build, network_config
from music_assets.tokens.memory import LEVELS, NO_CANDIDATE
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.optimizer import build_optimizers
from music_assets.training.settings import TrainingSettings
from music_assets_tests import architectures

SIZE, CAPACITY = Vocabulary().size, 48


def network_of(architecture, **fields) -> TokenNetwork:
    torch.manual_seed(0)
    sizes = {"layers": 2, "width": 32, "context": CAPACITY} | architectures.fields(architecture, heads=2) | fields
    network = build(network_config(architecture, "tiny", sizes), SIZE)
    assert isinstance(network, TokenNetwork)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def decoders(architecture, rows, capacity=CAPACITY, **fields):
    network = network_of(architecture, **fields)
    yield network, TorchDecoder(network, rows, capacity)
    if architecture == "gpt":
        yield network, network.decoder(rows, capacity)  # compiled


def random_rows(network, rows, length):
    random = np.random.default_rng(1)
    ids = random.integers(0, SIZE, (rows, length))
    candidates = random.integers(0, SIZE * LEVELS, (rows, length, network.columns))
    candidates[random.random(candidates.shape) < 0.5] = NO_CANDIDATE
    return ids, candidates


def one_by_one(decoder, row, ids, candidates):
    return [
        decoder.advance(np.array([row]), np.array([1]), ids[place : place + 1], candidates[place : place + 1])[0]
        for place in range(len(ids))
    ]


@pytest.mark.parametrize("fields", [{}, {"tied": True}, {"memory": False}, {"heads": 1, "layers": 1}])
def test_logits_are_those_of_the_whole_row(fields):
    for network, decoder in decoders("gpt", 3, **fields):
        ids, candidates = random_rows(network, 3, 40)
        with torch.inference_mode():
            expected = network(torch.from_numpy(ids), None, torch.from_numpy(candidates)).numpy()
        counts = np.array([40, 1, 17])
        parts = list(zip(ids, candidates, counts, strict=True))
        found = decoder.advance(
            np.arange(3),
            counts,
            np.concatenate([row[:count] for row, _, count in parts]),
            np.concatenate([row[:count] for _, row, count in parts]),
        )
        assert_allclose(found, [row[count - 1] for row, count in zip(expected, counts, strict=True)], atol=2e-5)
        assert_array_equal(decoder.lengths, counts)
        # The second row goes on alone.
        assert_allclose(one_by_one(decoder, 1, ids[1, 1:], candidates[1, 1:]), expected[1, 1:], atol=2e-5)


def step_by_step(decoder, rows, ids, candidates):
    """The logits of the first row after each token, where all rows go on together."""
    return [
        decoder.advance(np.arange(rows), np.ones(rows, np.int64), ids[:rows, place], candidates[:rows, place])[0]
        for place in range(ids.shape[1])
    ]


@pytest.mark.parametrize("architecture", ["gpt", "lstm", "gru"])
def test_a_row_is_the_same_among_any_others(architecture):
    network = network_of(architecture)
    ids, candidates = random_rows(network, 9, 30)
    alone = [step_by_step(decoder, 1, ids, candidates) for _, decoder in decoders(architecture, 1)]
    for rows in (2, 5, 9):
        among = [step_by_step(decoder, rows, ids, candidates) for _, decoder in decoders(architecture, rows)]
        assert_array_equal(among, alone)


def test_a_compiled_row_is_the_same_in_any_parts():
    network = network_of("gpt")
    ids, candidates = random_rows(network, 1, 30)
    decoder = network.decoder(1, CAPACITY)
    assert isinstance(decoder, GPTDecoder)
    apart = one_by_one(decoder, 0, ids[0], candidates[0])
    decoder.begin(0)
    decoder.advance(np.array([0]), np.array([11]), ids[0, :11], candidates[0, :11])
    rest = decoder.advance(np.array([0]), np.array([19]), ids[0, 11:], candidates[0, 11:])
    assert_array_equal(rest[0], apart[-1])


@pytest.mark.parametrize("architecture", ["gpt", "lstm", "gru"])
def test_rows_begin_are_copied_and_wait_on_their_own(architecture):
    for network, decoder in decoders(architecture, 3):
        ids, candidates = random_rows(network, 1, 20)
        ids, candidates = ids[0], candidates[0]
        expected = one_by_one(decoder, 0, ids, candidates)
        decoder.begin(0)
        one_by_one(decoder, 1, ids[:12][::-1], candidates[:12])  # another row, copied over below
        decoder.advance(np.array([0]), np.array([12]), ids[:12], candidates[:12])
        decoder.copy(0, 1)
        assert decoder.lengths.tolist() == [12, 12, 0]
        one_by_one(decoder, 2, ids[:5], candidates[:5])  # while the others wait
        for row in (0, 1):
            assert_allclose(one_by_one(decoder, row, ids[12:], candidates[12:]), expected[12:], atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_decoder_has_the_weights_of_when_it_is_made(optimizer):
    """The compiled one keeps them packed between decoders, and no optimiser may write past it."""
    network = network_of("gpt")
    ids, candidates = random_rows(network, 1, 20)
    before = network.decoder(1, CAPACITY).advance(np.array([0]), np.array([20]), ids[0], candidates[0])
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    for step in build_optimizers(network, TrainingSettings(optimizer=optimizer)):
        step.step()
    with torch.inference_mode():
        expected = network(torch.from_numpy(ids), None, torch.from_numpy(candidates))[:, -1].numpy()
    again = network.decoder(1, CAPACITY).advance(np.array([0]), np.array([20]), ids[0], candidates[0])
    assert abs(again - before).max() > 1e-3
    assert_allclose(again, expected, atol=2e-5)


def test_a_full_row_says_so():
    for network, decoder in decoders("gpt", 1, capacity=8):
        ids, candidates = random_rows(network, 1, 9)
        with pytest.raises(CapacityExceeded, match="8 tokens"):
            decoder.advance(np.array([0]), np.array([9]), ids[0], candidates[0])


def test_a_row_may_be_longer_than_those_that_were_trained_on():
    for network, decoder in decoders("gpt", 1, capacity=100):
        ids, candidates = random_rows(network, 1, 100)
        with torch.inference_mode():
            expected = network(torch.from_numpy(ids), None, torch.from_numpy(candidates)).numpy()[0, -1]
        found = decoder.advance(np.array([0]), np.array([100]), ids[0], candidates[0])
        assert_allclose(found[0], expected, atol=2e-5)


def test_exponentials_are_numpys():
    x = np.concatenate([[0, -1e-9, -0.5, -200], -np.geomspace(1e-6, 87, 500)]).astype(np.float32)
    expected = np.exp(x.astype(np.float64))
    found = x.copy()
    total = exponentiate(found, len(x), np.empty(len(x), np.int32))
    assert_allclose(found, expected, rtol=1e-6 + 87 * 2**-23, atol=1e-37)
    assert total == pytest.approx(found.sum(), rel=1e-5)


def test_what_is_packed_of_a_network_can_be_forgotten():
    network = network_of("gpt")
    ids, candidates = random_rows(network, 1, 5)
    decoder = network.decoder(1, CAPACITY)
    before = decoder.advance(np.array([0]), np.array([5]), ids[0], candidates[0])
    assert network in _packed
    forget(network)
    forget(network_of("lstm"))
    assert network not in _packed
    again = network.decoder(1, CAPACITY).advance(np.array([0]), np.array([5]), ids[0], candidates[0])
    assert_allclose(again, before)
