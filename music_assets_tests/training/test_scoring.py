import math

import numpy as np
import pytest
import torch

from music_assets.models.network import TokenNetwork
from music_assets.models.registry import build, network_config
from music_assets.tokens.memory import COLUMNS, NO_CANDIDATE, candidates_of
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training import scoring
from music_assets.training.scoring import bits_per_note, token_nats
from music_assets_tests.architectures import TOKEN_ARCHITECTURES, fields

VOCABULARY = Vocabulary(("reel",))
CONTEXT = 16


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(scoring, "autocast", lambda device, precision: torch.autocast(device.type, enabled=False))


def network(architecture):
    torch.manual_seed(1)
    extra = fields(architecture, heads=2, embedding=16)
    config = network_config(architecture, "tiny", {"layers": 1, "width": 16, "context": CONTEXT} | extra)
    made = build(config, VOCABULARY.size)
    assert isinstance(made, TokenNetwork)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn_like(parameter)
    return made


def documents(*lengths):
    random = np.random.default_rng(0)
    return [random.integers(1, 300, length).astype(np.uint16) for length in lengths]


def one_window_a_token(model, document, genre):
    """Each token from its own window: the prompt and what its turn in the strided scheme lets it see."""
    prompt = VOCABULARY.prompt(genre)
    body = [*document.tolist(), VOCABULARY.eos]
    reach, stride = CONTEXT - len(prompt) + 1, CONTEXT // 2
    nats = []
    for place, token in enumerate(body):
        start = 0 if place < reach else stride * math.ceil((place - reach + 1) / stride)
        with torch.no_grad():
            found = candidates_of(np.array(body[:place], dtype=np.uint16), start)
            candidates = np.concatenate([np.full((len(prompt), COLUMNS), NO_CANDIDATE), found])[None]
            logits = model(torch.tensor([prompt + body[start:place]]), candidates=torch.from_numpy(candidates))[0, -1]
        nats.append(-logits.log_softmax(-1)[token].item())
    return np.array(nats)


@pytest.mark.parametrize("tokens", [16, 64, 2048])  # of a batch: a window alone, some, all
@pytest.mark.parametrize("genre", [None, "reel"])
@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_scores_equal_a_window_a_token(architecture, genre, tokens, monkeypatch):
    monkeypatch.setattr(scoring, "_CPU_BATCH_TOKENS", tokens)
    model = network(architecture).eval()
    pieces = documents(0, 1, 5, 13, 14, 15, 16, 17, 40, 65)
    scores = token_nats(model, VOCABULARY, pieces, genre)
    for piece, nats in zip(pieces, scores, strict=True):
        assert nats.dtype == np.float32
        assert len(nats) == len(piece) + 1
        np.testing.assert_allclose(nats, one_window_a_token(model, piece, genre), rtol=1e-4, atol=1e-4)


def test_the_other_documents_do_not_matter():
    model = network("gpt")
    pieces = documents(30, 7, 90)
    together = token_nats(model, VOCABULARY, pieces)
    for piece, nats in zip(pieces, together, strict=True):
        np.testing.assert_allclose(token_nats(model, VOCABULARY, [piece])[0], nats, rtol=1e-4, atol=1e-5)


def test_an_undecided_network_pays_the_logarithm_of_the_vocabulary():
    config = network_config("gpt", "tiny", {"layers": 1, "width": 16, "heads": 2, "context": CONTEXT})
    model = build(config, VOCABULARY.size)
    assert isinstance(model, TokenNetwork)
    (nats,) = token_nats(model, VOCABULARY, documents(50))
    np.testing.assert_allclose(nats, math.log(VOCABULARY.size), rtol=1e-5)


def test_scoring_leaves_the_networks_mode_alone():
    model = network("gpt").train()
    assert token_nats(model, VOCABULARY, []) == []
    assert model.training


def test_bits_per_note_is_micro_averaged():
    nats = [np.full(3, math.log(2)), np.full(9, math.log(2))]
    assert bits_per_note(nats, [1, 2]) == pytest.approx(4.0)
    assert bits_per_note(nats, [0, 2]) == pytest.approx(6.0)
    assert math.isnan(bits_per_note(nats, [0, 0]))
    assert math.isnan(bits_per_note([], []))
