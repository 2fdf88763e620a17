"""Tokens and pieces beside those of their kind: numbers with closed forms, networks, and the section of the report."""

from copy import deepcopy
from itertools import permutations
from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from music_assets.checkpoints.storage import load_checkpoint
from music_assets.evaluation.embeddings import (
    ATTRIBUTES,
    EmbeddingReport,
    agreement,
    chance_agreement,
    choose_pieces,
    embedding_report,
    heard_tokens,
    neighbour_weights,
    piece_vectors,
    planes,
)
from music_assets.evaluation.pieces import Piece, sampled_piece
from music_assets.evaluation.report import embeddings as section
from music_assets.evaluation.report.page import FILTERS
from music_assets.evaluation.results import NotMeasurable, StoredResult, load_result, save_result
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.tokens.memory import NO_CANDIDATE, candidates_of
from music_assets.tokens.remi import encode
from music_assets.tokens.shards import make_shard
from music_assets.tokens.vocabulary import RANGES
from music_assets.training.loop import train
from music_assets_tests.architectures import TOKEN_ARCHITECTURES
from music_assets_tests.evaluation.note_arrays import notes, piece
from music_assets_tests.generation.checkpoints import VOCABULARY, untrained
from music_assets_tests.midi_files import make_tune
from music_assets_tests.training.corpus import small_config

SETTINGS = EvaluationSettings(bootstrap_rounds=100)


def tune(style: str, seed: int) -> Piece:
    return sampled_piece(f"{style} {seed}", style, encode(make_tune(style=style, seed=seed, bars=8)))


TUNES = [tune(style, seed) for seed in range(8) for style in ("reel", "jig")]


def attribute(name: str):
    return next(one for one in ATTRIBUTES if one.name == name)


def label(name: str, *tokens: int) -> list[str]:
    one = attribute(name)
    return [one.classes[one.labels[token]] for token in tokens]


@pytest.fixture(scope="module")
def report() -> EmbeddingReport:
    return embedding_report(untrained(), TUNES, SETTINGS)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.integers(0, 99))
def test_chance_is_the_mean_over_all_ways_to_deal_out_the_labels(labels, seed):
    """Whatever the vectors are: counted over every order of the labels."""
    weights = neighbour_weights(np.random.default_rng(seed).normal(size=(len(labels), 3)), 2)
    shares = [
        (weights * (np.array(order)[:, None] == np.array(order))).sum() / len(order) for order in permutations(labels)
    ]
    assert np.mean(shares) == pytest.approx(chance_agreement(np.array(labels)))


def test_chance_of_few_labels():
    assert chance_agreement(np.array([0, 0, 1, 1])) == pytest.approx(1 / 3)
    assert chance_agreement(np.zeros(4, int)) == 1
    assert chance_agreement(np.arange(4)) == 0
    assert np.isnan(chance_agreement(np.zeros(1, int)))


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 99))
def test_neighbours_are_the_nearest_by_cosine(n, nearest, seed):
    vectors = np.random.default_rng(seed).normal(size=(n, 4))
    weights = neighbour_weights(vectors, nearest)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, of in enumerate(weights):
        others = [other for other in np.argsort(-(unit @ unit[row])).tolist() if other != row]
        expected = others[: min(nearest, n - 1)]
        assert set(np.flatnonzero(of).tolist()) == set(expected)
        assert of[expected] == pytest.approx(1 / len(expected))


def test_those_that_are_equally_near_share_the_places():
    weights = neighbour_weights(np.array([[1.0, 0], [2, 0], [0, 1], [0, -1], [0, 0]]), 2)
    assert weights[0] == pytest.approx([0, 1 / 2, 1 / 6, 1 / 6, 1 / 6])
    with pytest.raises(ValueError, match="2 vectors"):
        neighbour_weights(np.ones((1, 3)))


def test_clusters_apart_are_told_apart_whatever_their_length():
    labels = np.repeat(np.arange(4), 6)
    random = np.random.default_rng(0)
    vectors = (np.eye(8)[labels] + random.normal(scale=0.01, size=(24, 8))) * random.uniform(0.1, 9, size=(24, 1))
    found = agreement(vectors, labels, SETTINGS)
    assert found.share == pytest.approx(1)
    assert found.chance.value == pytest.approx(5 / 23)
    assert found.is_beyond_chance
    assert found.p_value == pytest.approx(1 / 101)
    assert found == agreement(vectors, labels, SETTINGS)
    crossed = agreement(vectors, np.tile(np.arange(6), 4), SETTINGS)
    assert crossed.share == pytest.approx(0)
    assert crossed.p_value == 1


def test_labels_all_alike_or_all_different_say_nothing():
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    for labels, share in ((np.zeros(9, int), 1), (np.arange(9), 0)):
        found = agreement(vectors, labels, SETTINGS)
        assert (found.share, found.chance.value, found.chance.low, found.chance.high) == pytest.approx((share,) * 4)
        assert found.p_value == 1
        assert not found.is_beyond_chance


def test_random_vectors_lie_within_chance():
    """In about 95 of 100 cases: of 40 all but a few."""
    labels = np.arange(60) % 5
    inside = 0
    for seed in range(40):
        found = agreement(np.random.default_rng(seed).normal(size=(60, 16)), labels, SETTINGS)
        inside += found.chance.low <= found.share <= found.chance.high
        assert found.chance.low < found.chance.value < found.chance.high
    assert inside >= 34


def test_fewer_than_three_vectors_say_nothing():
    found = agreement(np.eye(2), np.array([0, 0]), SETTINGS)
    assert np.isnan([found.share, found.chance.value, found.chance.low, found.p_value]).all()
    with pytest.raises(ValueError, match="3 vectors"):
        planes(np.eye(2), 0)


@pytest.mark.parametrize("shape", [(3, 4), (4, 1), (40, 2), (130, 16)])
def test_planes_have_a_point_a_vector(shape):
    vectors = np.random.default_rng(0).normal(size=shape)
    components, variance, tsne = planes(vectors, 0)
    assert components.shape == tsne.shape == (shape[0], 2)
    assert np.isfinite(tsne).all()
    assert 0 <= variance[1] <= variance[0] <= 1 + 1e-9
    again = planes(vectors, 0)
    assert np.array_equal(components, again[0])
    assert np.array_equal(tsne, again[2])


def test_directions_that_are_all_one_lie_on_one_point():
    components, variance, tsne = planes(np.outer(np.arange(1, 6), [1.0, 2, 3]), 0)
    assert not components.any()
    assert not tsne.any()
    assert np.isnan(variance).all()


def test_what_tokens_are_told_apart_by():
    assert label("pitch class", 60, 73) == ["C", "Db"]
    assert label("octave", 0, 60, 71, 127) == ["C-1 to B-1", "C4 to B4", "C4 to B4", "C9 to B9"]
    assert label("duration", 0, 11, -1) == ["1/16 to 1/8 beats", "1 to 2 beats", "8 to 16 beats"]
    assert label("velocity", 0, 7, 8, 31) == ["3 to 31", "3 to 31", "35 to 63", "99 to 127"]
    assert label("subdivision", 0, 18, 9, 28, 13) == [
        "on the beat", "half beat", "quarter beat", "third of a beat", "else"
    ]  # fmt: skip
    assert label("instrument family", 0, 40, 127, 128) == ["piano", "strings", "sound effects", "drums"]
    for one in ATTRIBUTES:
        assert len(one.labels) == len(RANGES[one.kind])
        assert set(one.labels.tolist()) == set(range(len(one.classes)))


def test_tokens_that_no_piece_has_are_left_out(report: EmbeddingReport):
    heard = np.unique(np.concatenate([one.ids for one in TUNES]))
    for picture in report.tokens:
        ids = RANGES[picture.kind]
        assert len(picture.names) == np.isin(heard, ids).sum()
        assert len(picture.names) + picture.left_out == len(ids)
        assert len(picture.labels) == len(picture.components) == len(picture.tsne) == len(picture.names)
    assert report.picture("pitch class").names[0].startswith("Pitch_")
    assert set(report.too_few) == {one.name for one in ATTRIBUTES} - {one.attribute for one in report.tokens} | {
        "genre"
    }
    assert heard_tokens(TUNES, VOCABULARY)[RANGES["Genre"].start + 1]
    assert not heard_tokens(TUNES[:1], VOCABULARY)[RANGES["Genre"].start + 1]


def test_embeddings_laid_out_by_octave_are_seen_as_such():
    """The rows of the network's own table are read: an octave's pitches get one direction, and no two octaves one."""
    checkpoint = deepcopy(untrained("gpt", width=16))
    with torch.no_grad():
        pitches = checkpoint.token_network.embedding.weight[RANGES["Pitch"].start : RANGES["Pitch"].stop]
        pitches.mul_(0.01).add_(torch.eye(16)[torch.arange(128) // 12])
    scale = sampled_piece("scale", "reel", np.array([RANGES["Bar"].start, *RANGES["Pitch"]], np.uint16))
    found = embedding_report(checkpoint, [*TUNES[:1], Piece(*_with_notes(scale))], SETTINGS)
    octave, pitch_class = (found.picture(name).neighbours for name in ("octave", "pitch class"))
    assert octave is not None
    assert pitch_class is not None
    assert octave.share == pytest.approx(1)
    assert octave.is_beyond_chance
    assert pitch_class.share == pytest.approx(0)
    assert found.pieces is None
    assert found.without_network is None


def _with_notes(one: Piece):
    return one.name, one.group, one.genre, one.ids, TUNES[0].notes, 1.0


def test_pieces_are_one_a_song_and_of_all_genres():
    def made(genre: str, group: str, count: int) -> list[Piece]:
        found = notes([(0, 1, 60)])
        return [piece(found, genre, f"{genre} {group} {number}", group) for number in range(count)]

    pieces = [*made("reel", "a", 3), *made("reel", "b", 1), *made("jig", "c", 2), piece(notes([]), "jig", "silent")]
    assert [one.name for one in choose_pieces(pieces, ["reel", "jig"])] == ["reel a 0", "jig c 0", "reel b 0"]
    assert len(choose_pieces(pieces, ["reel", "jig"], 2)) == 2


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_piece_is_the_mean_of_what_the_output_layer_reads(architecture):
    """The mean, through the output layer, is the mean of the logits; neighbours in a batch change nothing."""
    network = untrained(architecture).token_network
    documents = [TUNES[0].ids, TUNES[1].ids[:7]]
    found = piece_vectors(network, VOCABULARY, documents)
    assert found.shape == (2, network.head.in_features)
    for vector, document in zip(found, documents, strict=True):
        ids = np.array([VOCABULARY.bos, *document.tolist()])[: network.config.context]
        told = np.full((1, len(ids), network.columns), NO_CANDIDATE)
        told[0, 1:] = candidates_of(ids[1:])[:, : network.columns]
        with torch.no_grad():
            logits = network(torch.from_numpy(ids)[None], candidates=torch.from_numpy(told))[0, 1:].mean(0)
        read = network.head.weight.detach().double().numpy() @ vector
        assert read == pytest.approx(logits.double().numpy(), abs=0.05 * logits.abs().max().item())
    assert not network.head._forward_pre_hooks


@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_every_token_network_can_be_looked_into(architecture):
    found = embedding_report(untrained(architecture), TUNES, SETTINGS)
    assert found.pieces is not None
    assert found.without_network is not None
    assert found.pieces.classes == ("reel", "jig")
    assert found.pieces.names.tolist() == [one.name for one in choose_pieces(TUNES, ["reel", "jig"])]
    assert found.first_tokens == 95  # of a context of 96 beside BOS


def test_what_cannot_be_looked_into():
    with pytest.raises(NotMeasurable, match="pianoroll has no token"):
        embedding_report(untrained("pianoroll", width=64), TUNES, SETTINGS)
    with pytest.raises(NotMeasurable, match="no tokens to look at"):
        embedding_report(untrained(), [tune("waltz", 0)], SETTINGS)


def test_what_is_saved_is_loaded(report: EmbeddingReport, tmp_path: Path):
    save_result(tmp_path / "embedding_report.json", "gpt/1", SETTINGS, report)
    loaded = load_result(tmp_path / "embedding_report.json", "gpt/1", EmbeddingReport).found
    assert (loaded.too_few, loaded.without_network) == (report.too_few, report.without_network)
    assert report.pieces is not None
    assert loaded.pieces is not None
    for found, saved in zip([*loaded.tokens, loaded.pieces], [*report.tokens, report.pieces], strict=True):
        for name in ("names", "labels", "components", "tsne"):
            np.testing.assert_array_equal(getattr(found, name), getattr(saved, name))
            assert getattr(found, name).dtype.kind == getattr(saved, name).dtype.kind
        assert (found.classes, found.variance, found.neighbours) == (saved.classes, saved.variance, saved.neighbours)


def rendered(report: EmbeddingReport) -> str:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(FILTERS)
    content = section.show(StoredResult("gpt/1", SETTINGS, report))
    assert content.headline is None
    return environment.from_string(section.SECTION.template).render(content.values)


def test_the_section_has_a_light_figure_a_picture(report: EmbeddingReport):
    text = rendered(report)
    assert text.count('class="plotly-graph-div"') == len(report.tokens) + 1
    assert "nearest neighbours of a Pitch token" in " ".join(text.split())
    assert "Pieces by genre" in text
    assert f"there is no picture: {', '.join(report.too_few)}." in " ".join(text.split())
    assert len(text) / (len(report.tokens) + 1) < 20_000


def test_a_section_without_pieces():
    few = [tune("reel", 0), tune("jig", 0)]
    text = rendered(embedding_report(untrained(), few, SETTINGS))
    assert "Pieces by genre" not in text


@pytest.mark.slow
def test_a_trained_network_keeps_alike_tokens_together_and_hears_genres(tmp_path):
    """What an untrained one does not, of tokens; pieces are told apart even by what random layers make of them."""
    styles = ("reel", "jig", "band")
    pieces = [tune(style, seed) for seed in range(30) for style in styles]
    shards = []
    for style in styles:
        some = [one for one in pieces if one.genre == style]
        names, splits = [one.name for one in some], ["valid" if n < 4 else "train" for n in range(len(some))]
        lengths, seconds = [len(one.notes) for one in some], [one.seconds for one in some]
        shards.append(make_shard(style, "original", names, names, splits, lengths, seconds, [one.ids for one in some]))
    config = small_config(
        tokens=100_000, learning_rate=0.01, batch_size=16, network={"width": 32, "context": 64},
        infill_share=0.0, samples=0, report_every=50,
    )  # fmt: skip
    checkpoint = load_checkpoint(train("gpt", config, shards, tmp_path / "run").best)
    held_out = [tune(style, seed) for seed in range(100, 110) for style in styles]
    found = embedding_report(checkpoint, held_out, SETTINGS)
    genres = found.picture("genre")
    assert genres.neighbours is None
    assert len(genres.names) == 3
    beyond = {one.attribute for one in found.tokens if one.neighbours and one.neighbours.is_beyond_chance}
    assert beyond & {"octave", "subdivision", "duration"}, beyond
    assert found.pieces is not None
    assert found.pieces.neighbours is not None
    assert found.pieces.neighbours.is_beyond_chance
    assert "a class of its own" in rendered(found)
