"""A network over piano rolls, through the loop that all architectures share."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from music_assets.checkpoints.runs import CheckpointError
from music_assets.checkpoints.storage import load_checkpoint
from music_assets.models.registry import build, network_config
from music_assets.models.roll_rnn import PLANES, RollRNN
from music_assets.tokens import remi
from music_assets.tokens import rolls as pianoroll
from music_assets.tokens.vocabulary import UnknownGenre, Vocabulary
from music_assets.training import scoring
from music_assets.training.champion import challenge
from music_assets.training.loop import train
from music_assets.training.optimizer import Muon, build_optimizers
from music_assets.training.roll_batches import whole
from music_assets.training.scoring import roll_scores
from music_assets.training.validation import validate, validation_set
from music_assets_tests.training.corpus import shards, small_roll_config
from music_assets_tests.training.stopping import Stopped, until

pytestmark = pytest.mark.slow

VOCABULARY = Vocabulary(("reel", "waltz"))
KEYS = pianoroll.KEYS


@pytest.fixture
def full_precision(monkeypatch):
    monkeypatch.setattr(scoring, "autocast", lambda device, precision: torch.autocast(device.type, enabled=False))


def network(context=16):
    torch.manual_seed(1)
    made = build(network_config("pianoroll", "tiny", {"width": 24, "context": context, "dropout": 0.2}), 704)
    assert isinstance(made, RollRNN)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made.train()


def pieces(genre="reel", split="train"):
    (shard,) = (shard for shard in shards() if (shard.genre, shard.transposition) == (genre, "original"))
    return [shard.document(row) for row in shard.where(split)]


def planes_of(document):
    """Each step's planes from the first on, to the end of the last bar, by the notes one after the other."""
    heard = remi.notes(document)
    steps = round((heard.bar_starts[-1] + heard.bar_lengths[-1]) * 4)
    found = np.zeros((steps, PLANES), dtype=bool)
    spans = []
    for onset, duration, pitch in zip(heard.onset, heard.duration, heard.pitch, strict=True):
        first = math.floor(onset * 4 + 0.5)
        spans.append((first, max(math.floor((onset + duration) * 4 + 0.5), first + 1), int(pitch) - 21))
    for first, end, key in spans:
        found[first:end, KEYS + key] = True
    for first, _, key in spans:
        found[first, KEYS + key], found[first, key] = False, True
    return found


def by_hand(model, document, genre_number):
    """-ln p of each step of a roll, cell by cell, from one pass over all steps."""
    found = planes_of(document)
    before = np.concatenate([np.zeros((1, PLANES), dtype=bool), found[:-1]])
    with torch.no_grad():
        chances = model(torch.from_numpy(before)[None], torch.tensor([genre_number]))[0].double().sigmoid().numpy()
    total = np.zeros(len(found))
    for step, cells in enumerate(found):
        for key in range(KEYS):
            strike, hold = chances[step, key], chances[step, KEYS + key]
            cell = strike if cells[key] else (1 - strike) * (hold if cells[KEYS + key] else 1 - hold)
            total[step] -= math.log(cell)
    return total, chances, found


@pytest.mark.parametrize("context", [16, 1000])
@pytest.mark.parametrize("genre", [None, "waltz"])
def test_scores_are_those_of_every_cell_in_one_pass_over_the_piece(full_precision, genre, context):
    model = network(context)
    documents = [*pieces("reel")[:2], *pieces("waltz")[:2], np.empty(0, np.uint16)]
    documents[1] = documents[1][: len(documents[1]) // 3]
    scores = roll_scores(model, VOCABULARY, documents, genre)
    assert model.training
    model.eval()
    for document, score in zip(documents[:-1], scores[:-1], strict=True):
        total, chances, found = by_hand(model, document, 0 if genre is None else 2)
        assert score.nats.dtype == np.float32
        np.testing.assert_allclose(score.nats, total, rtol=1e-4)
        strike, hold = chances[:, :KEYS], chances[:, KEYS:]
        np.testing.assert_allclose(
            score.measures["density_expected"], (1 - (1 - strike) * (1 - hold)).sum(1), rtol=1e-4
        )
        np.testing.assert_array_equal(score.measures["density_found"], found.sum(1))
        assert score.notes == found[:, :KEYS].sum()
    assert len(scores[-1].nats) == scores[-1].notes == 0


def test_an_untrained_network_pays_the_same_in_every_step(full_precision):
    """Its chances are sigmoid(-4) everywhere, whatever came before: bits per note follow from the cells' counts."""
    made = validation_set(shards(), 60_000)
    score = validate(build(network_config("pianoroll"), 704), VOCABULARY, made)
    found = np.concatenate([planes_of(document) for of in made.documents.values() for document in of])
    struck, held = found[:, :KEYS].sum(), found[:, KEYS:].sum()
    silent = found.shape[0] * KEYS - struck - held
    rare, common = math.log1p(math.exp(4)), math.log1p(math.exp(-4))  # -ln of sigmoid(-4) and of its complement
    assert score
    assert score.bits_per_note == pytest.approx(
        (struck * rare + held * (common + rare) + silent * 2 * common) / math.log(2) / struck, rel=1e-5
    )
    assert score.measures["density_found"] == pytest.approx((struck + held) / len(found))
    assert score.measures["density_expected"] == pytest.approx(KEYS * (1 - math.exp(-2 * common)), rel=1e-5)
    assert set(score.by_genre) == {"reel", "waltz"}


def test_the_other_pieces_do_not_matter_and_an_unknown_genre_is_an_error(full_precision, monkeypatch):
    model, documents = network(), pieces()
    monkeypatch.setattr(scoring, "_BATCH_STEPS", 400)
    together = roll_scores(model, VOCABULARY, documents, "reel")
    for document, score in zip(documents, together, strict=True):
        (alone,) = roll_scores(model, VOCABULARY, [document], "reel")
        np.testing.assert_allclose(score.nats, alone.nats, rtol=1e-4)
        assert len(score.nats) == len(whole(document)) - 1
    with pytest.raises(UnknownGenre):
        roll_scores(model, VOCABULARY, documents, "polka")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, optimizer):
    config = small_roll_config(network={"layers": 2, "dropout": 0.2}, optimizer=optimizer, save_minutes=1e-9)
    whole_run, parts = [], []
    expected = train("pianoroll", config, shards(), tmp_path / "whole", report=until(None, whole_run))
    for step in (1, 5, 7):
        with pytest.raises(Stopped):
            train("pianoroll", config, shards(), tmp_path / "parts", report=until(step, parts))
    resumed = train("pianoroll", config, shards(), tmp_path / "parts", report=until(None, parts))
    assert expected.steps == resumed.steps == 12
    assert expected.tokens == 12 * 4 * 64
    assert dict(parts) == dict(whole_run)
    ours, theirs = (load_file(run.latest / "model.safetensors") for run in (resumed, expected))
    for name, tensor in theirs.items():
        assert torch.equal(tensor, ours[name]), name
    assert expected.facts.bits_per_note == resumed.facts.bits_per_note


def test_what_a_checkpoint_holds(tmp_path):
    result = train("pianoroll", small_roll_config(), shards(), tmp_path / "run", vocabulary=VOCABULARY)
    checkpoint = load_checkpoint(result.best)
    score = validate(checkpoint.network, checkpoint.vocabulary, result.validation)
    assert score
    assert score.bits_per_note == checkpoint.facts.bits_per_note
    assert score.measures == checkpoint.facts.measures
    assert not checkpoint.network.training
    assert checkpoint.network.config == network_config("pianoroll", "tiny", {"layers": 1, "width": 32, "context": 64})
    with pytest.raises(CheckpointError, match="is a pianoroll, which has no tokens: take one of gpt, lstm, gru"):
        _ = checkpoint.token_network


def independent_cells(split_documents):
    """Bits per note if every cell had its own chance in every step of a genre's training pieces, smoothed."""
    bits = notes = 0.0
    for genre, documents in split_documents.items():
        learned = np.concatenate([planes_of(document) for document in pieces(genre)])
        struck, held = learned[:, :KEYS], learned[:, KEYS:]
        strike = (struck.sum(0) + 0.5) / (len(learned) + 1)
        hold = (held.sum(0) + 0.5) / ((~struck).sum(0) + 1)
        for document in documents:
            found = planes_of(document)
            s, h = found[:, :KEYS], found[:, KEYS:]
            bits -= np.log2(np.where(s, strike, (1 - strike) * np.where(h, hold, 1 - hold))).sum()
            notes += s.sum()
    return bits / notes


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns_more_than_how_often_each_key_sounds(tmp_path, optimizer):
    config = small_roll_config(
        network={"width": 64}, optimizer=optimizer, tokens=4 * 64 * 300, learning_rate=0.01, report_every=10
    )
    reports = []
    result = train("pianoroll", config, shards(), tmp_path / "run", report=reports.append)
    assert result.first_loss
    assert result.last_loss
    assert result.last_loss < 0.5 * result.first_loss
    baseline = independent_cells(result.validation.documents)
    assert result.facts.bits_per_note
    assert result.facts.bits_per_note < 0.9 * baseline
    expected, found = (result.facts.measures[f"density_{name}"] for name in ("expected", "found"))
    assert expected == pytest.approx(found, rel=0.25)
    assert "roll steps" in reports[-1].line()


def test_the_better_of_two_is_champion(tmp_path):
    made = shards()
    won = []
    for name, steps in (("short", 2), ("long", 60), ("shorter", 1)):
        config = small_roll_config(tokens=256 * steps, learning_rate=0.01)
        result = train("pianoroll", config, made, tmp_path / name)
        won.append(challenge(tmp_path, result.best, result.validation).won)
    assert won == [True, True, False]
    other = challenge(tmp_path, tmp_path / "short" / "best", validation_set(made, 100))  # other pieces: scored again
    assert not other.won
    assert other.champion is not None
    assert other.champion is not None
    assert other.champion.bits is not None
    assert other.challenger.bits is not None
    assert other.champion.bits < other.challenger.bits


def test_muon_moves_the_matrices_inside_the_layers():
    muon, adamw = build_optimizers(network(), small_roll_config(optimizer="muon"))
    assert isinstance(muon, Muon)
    assert len(muon.param_groups[0]["params"]) == 2 * 2  # of two layers, from below and from the step before
    assert {tuple(p.shape) for p in adamw.param_groups[0]["params"] if p.ndim == 2} == {(65, PLANES), (PLANES, 24)}
