from functools import cache

import numpy as np
import pytest

from music_assets.models.registry import build, network_config
from music_assets.tokens.controls import control_class, controls
from music_assets.tokens.infill import join
from music_assets.tokens.memory import COLUMNS, NO_CANDIDATE, candidates_of
from music_assets.tokens.remi import encode
from music_assets.tokens.shards import make_shard
from music_assets.tokens.vocabulary import CONTROL_RANGES, CONTROLS, Vocabulary
from music_assets.training.batches import IGNORED, PASSAGES, Batches, NoTrainingData
from music_assets.training.representation import representation
from music_assets.training.settings import TrainingSettings
from music_assets_tests.architectures import TOKEN_ARCHITECTURES
from music_assets_tests.midi_files import make_tune
from music_assets_tests.training.corpus import shards

VOCABULARY = Vocabulary(("reel", "waltz"))
BAR = VOCABULARY.ranges["Bar"].start
GENRES, CONTROL, PROGRAM = (VOCABULARY.ranges[name] for name in ("Genre", "Control", "Program"))


def batches(made=None, **other):
    return Batches(made or shards(), VOCABULARY, **({"batch_size": 32, "length": 48, "columns": COLUMNS} | other))


@pytest.fixture(scope="module")
def drawn():
    make = batches(genre_dropout=0.25)
    return [make(n) for n in range(8)]


@cache
def with_bands():
    """Waltzes, and pieces of several programs."""
    documents = [encode(make_tune(style="band", seed=seed, bars=12)) for seed in range(6)]
    names, numbers = [f"band {seed}" for seed in range(6)], [1] * 6
    waltzes = [shard for shard in shards() if shard.genre == "waltz"]
    return [*waltzes, make_shard("reel", "original", names, names, ["train"] * 6, numbers, numbers, documents)]


@pytest.fixture(scope="module")
def presented():
    """With controls and infills, in rows long enough for both."""
    make = batches(
        with_bands(),
        length=900,
        batch_size=12,
        genre_dropout=0.25,
        control_share=0.5,
        control_dropout=0.3,
        infill_share=0.4,
    )
    return [make(n) for n in range(8)]


def pieces_of(batch):
    """Of every piece in a batch: place in its row, prompt, ids, and whether EOS is there."""
    for ids, documents in zip(batch.ids, batch.segment_ids, strict=True):
        for number in range(documents[-1] + 1):
            tokens = ids[documents == number].tolist()
            body = next(
                (i for i, token in enumerate(tokens) if i and token not in GENRES and token not in CONTROL), len(tokens)
            )
            ended = tokens[-1] == VOCABULARY.eos
            yield number, tokens[:body], tokens[body : len(tokens) - ended], ended


def test_every_row_begins_with_a_prompt_and_a_bar_line(drawn):
    for ids, *_ in drawn:
        assert (ids[:, 0] == VOCABULARY.bos).all()
        named = np.isin(ids[:, 1], GENRES)
        first = np.where(named, ids[:, 2], ids[:, 1])
        assert (first == BAR).all()
        assert named.any()
        assert not named.all()


def test_pieces_are_numbered_from_bos_to_bos(presented):
    for batch in presented:
        assert batch.segment_ids.dtype == np.int64
        np.testing.assert_array_equal(batch.segment_ids, np.cumsum(batch.ids == VOCABULARY.bos, axis=1) - 1)
        assert batch.segment_ids.any()


def test_targets_are_the_next_ids_except_for_what_nobody_could_know(presented):
    unknown = {VOCABULARY.bos, VOCABULARY.mask, VOCABULARY.fill, *GENRES, *CONTROL}
    for ids, targets, _, _ in presented:
        assert ids.dtype == targets.dtype == np.int64
        assert ids.shape == targets.shape == (12, 900)
        for row, wanted in zip(ids.tolist(), targets.tolist(), strict=True):
            for before, token, target in zip(row, row[1:], wanted, strict=False):
                asked = before == VOCABULARY.mask and token in PROGRAM
                assert target == (IGNORED if token in unknown or asked else token)
        assert VOCABULARY.eos in targets


def test_rows_are_made_of_training_pieces_alone(drawn):
    training = [shard.document(row).tolist() for shard in shards() for row in shard.where("train")]
    for batch in drawn:
        for number, _, tokens, ended in pieces_of(batch):
            sources = [document for document in training if _contains(document, tokens, number, ended)]
            assert sources, "a row holds something that is not a run of a training piece"


def _contains(document, tokens, number, ended):
    """Whether the tokens are a run of the document: its beginning after the first piece, its end before EOS."""
    if number and document[: len(tokens)] != tokens:
        return False
    if ended:
        return document[len(document) - len(tokens) :] == tokens
    starts = [place for place, token in enumerate(document) if token == BAR]
    return not tokens or any(document[start : start + len(tokens)] == tokens for start in starts)


def test_infills_join_to_whole_bars_of_training_pieces(presented):
    training = [shard.document(row).tolist() for shard in with_bands() for row in shard.where("train")]
    found = {"all": 0, "program": 0}
    for batch in presented:
        for number, _, tokens, ended in pieces_of(batch):
            if VOCABULARY.fill not in tokens or not ended:
                continue
            marked = tokens[tokens.index(VOCABULARY.mask) + 1] in PROGRAM
            found["program" if marked else "all"] += 1
            whole = join(np.array(tokens)).tolist()
            assert any(
                document[start : start + len(whole)] == whole
                and document[start + len(whole) :][:1] in ([], [BAR])
                and not (number and start)
                for document in training
                for start in (place for place, token in enumerate(document) if token == BAR)
            )
    assert min(found.values()) > 10, found


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_infills_have_their_share_where_there_is_room(share):
    make = batches(length=300, batch_size=200, infill_share=share)
    filled = [VOCABULARY.fill in ids for number, _, ids, _ in pieces_of(make(0)) if number == 0]
    # The last bar of a piece cannot be one.
    assert np.mean(filled) == pytest.approx(share, abs=0.12)


def test_controls_are_those_of_the_next_bars():
    make = batches(length=300, control_share=1.0)
    training = [shard.document(row) for shard in shards() for row in shard.where("train")]
    seen = 0
    for number, prompt, tokens, _ in pieces_of(make(0)):
        starts = [
            (document, start)
            for document in training
            for start in np.flatnonzero(document == BAR)
            if not (number and start) and document[start : start + len(tokens)].tolist() == tokens
        ]
        if len(tokens) < 40:  # too short to know which piece it is of
            continue
        shown = [token for token in prompt if token in CONTROL]
        assert shown in [VOCABULARY.control_ids(of) for place in starts for of in passages(*place)]
        seen += 1
    assert seen > 30


def passages(document, start):
    """The controls of so many bars from a bar line on, with the bars to the end and the tempo of the whole piece."""
    lines = [*(start + np.flatnonzero(document[start:] == BAR)), len(document)]
    whole = {"bars": control_class("bars", len(lines) - 1), "tempo": controls(document).tempo}
    return [controls(document[start : lines[min(bars, len(lines) - 1)]])._replace(**whole) for bars in PASSAGES]


def test_controls_are_of_passages_of_several_lengths():
    """Of a piece in which another instrument plays from bars 4, 8, 16 and 32 on."""
    parts = []
    for program, bars in zip((0, 24, 40, 56, 72), np.diff([0, *PASSAGES]), strict=True):
        ids = encode(make_tune(style="reel", seed=program, bars=int(bars)))
        parts.append(np.where((ids >= PROGRAM.start) & (ids < PROGRAM.stop), PROGRAM.start + program, ids))
    document = np.concatenate(parts).astype(np.uint16)
    assert (document == BAR).sum() == PASSAGES[-1]
    shard = make_shard("reel", "original", ["one"], ["one"], ["train"], [1], [1], [document])
    make = batches([shard], length=64, batch_size=600, beginning_share=1.0, control_share=1.0)
    shown = [len(set(prompt) & set(CONTROL_RANGES["instrument"])) for _, prompt, _, _ in pieces_of(make(0))]
    np.testing.assert_allclose(np.bincount(shown) / len(shown), [0, 0.2, 0.2, 0.2, 0.2, 0.2], atol=0.06)


def test_each_control_is_left_out_on_its_own():
    make = batches(length=64, batch_size=2000, control_share=0.6, control_dropout=0.25)
    prompts = [set(prompt) for _, prompt, _, _ in pieces_of(make(0))]
    shown = {name: np.array([bool(prompt & set(CONTROL_RANGES[name])) for prompt in prompts]) for name in CONTROLS}
    for name in CONTROLS:
        assert shown[name].mean() == pytest.approx(0.6 * 0.75, abs=0.04), name
    assert (shown["tempo"] & shown["bars"]).mean() == pytest.approx(0.6 * 0.75**2, abs=0.04)
    assert np.mean([not prompt & set(CONTROL) for prompt in prompts]) == pytest.approx(0.4 + 0.6 * 0.25**4, abs=0.04)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_processes_of_a_run_share_the_rows_of_its_batches(world):
    make = batches(batch_size=8)
    whole = make(5)
    parts = [batches(batch_size=8).rows(5, rank, world) for rank in range(world)]
    for field, expected in enumerate(whole):
        for row in range(8):
            np.testing.assert_array_equal(parts[row % world][field][row // world], expected[row])
    assert sum(len(part.ids) for part in parts) == 8


def test_a_batch_depends_on_seed_and_number_alone():
    first, second = batches(seed=3), batches(seed=3)
    second(0)
    for mine, theirs in zip(first(7), second(7), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (first(7).ids != first(8).ids).any()
    assert (first(7).ids != batches(seed=4)(7).ids).any()
    assert (first(7).ids[0] != first(7).ids[1]).any()


def test_the_order_of_the_shards_does_not_matter():
    np.testing.assert_array_equal(batches()(0).ids, batches(shards()[::-1])(0).ids)


def one_piece(genre, document):
    return make_shard(genre, "original", ["a"], ["a"], ["train"], [1], [1.0], [document])


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (2.0, 0.75), (1000.0, 0.5)])
def test_genres_are_drawn_by_temperature(temperature, share):
    make = batches(
        [
            one_piece("reel", np.full(9000, BAR, dtype=np.uint16)),
            one_piece("waltz", np.full(1000, BAR, dtype=np.uint16)),
        ],
        batch_size=4000,
        length=2,
        genre_temperature=temperature,
    )
    assert np.mean(make(0).ids[:, 1] == VOCABULARY.genre_id("reel")) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(("share", "names"), [(0.5, 3), (1.0, 3), (0.0, 3), (0.5, 1)])
def test_the_own_key_has_its_share_and_the_others_the_rest_evenly(share, names):
    sources = [
        make_shard("reel", name, ["a"], ["a"], ["train"], [1], [1.0], [np.full(50, BAR + index, np.uint16)])
        for index, name in enumerate(["original", "up1", "up2"][:names])
    ]
    make = batches(sources, batch_size=4000, length=3, original_share=share, genre_dropout=0.0)
    drawn = np.bincount(make(0).ids[:, 2] - BAR, minlength=3) / 4000
    expected = [share, (1 - share) / 2, (1 - share) / 2] if names > 1 else [1, 0, 0]
    np.testing.assert_allclose(drawn, expected, atol=0.03)


def test_without_an_original_shard_the_transpositions_are_even():
    moved = [shard for shard in shards(transpositions=("up1", "up2")) if shard.genre == "reel"]
    assert len(batches(moved)(0).ids) == 32


@pytest.mark.slow
def test_the_beginning_of_a_piece_is_as_likely_as_the_row_reaches_before_it():
    document = np.arange(BAR, BAR + 200, dtype=np.uint16)
    document[1:100] = BAR
    rows = batches([one_piece("reel", document)], batch_size=4000, length=150, genre_dropout=0.0)(0).ids
    whole = (rows[:, 2:] == document[:148]).all(axis=1)
    assert whole.mean() == pytest.approx((150 + 1) / (150 + 200), abs=0.03)


def test_no_training_piece_is_an_error():
    document = np.array([BAR], dtype=np.uint16)
    shard = make_shard("reel", "original", ["a"], ["a"], ["valid"], [1], [1.0], [document])
    with pytest.raises(NoTrainingData, match="no training piece"):
        batches([shard])
    with pytest.raises(NoTrainingData):
        Batches([], VOCABULARY, batch_size=1, length=8)


def test_memory_is_that_of_the_piece_from_its_beginning_on(drawn):
    known = [shard.document(row).tolist() for shard in shards() for row in shard.where("train")]
    earlier = 0
    for batch in drawn:
        for ids, documents, candidates in zip(batch.ids, batch.segment_ids, batch.candidates, strict=True):
            for number in range(documents[-1] + 1):
                own = documents == number
                tokens = ids[own].tolist()
                prompt = 2 if tokens[1:2] and tokens[1] in GENRES else 1
                assert (candidates[own][:prompt] == NO_CANDIDATE).all()
                body = tokens[prompt:]
                expected = {
                    candidates_of(np.array([*piece, VOCABULARY.eos])[: start + len(body)], start).tobytes(): start
                    for piece in known
                    for start in ([i for i, token in enumerate(piece) if token == BAR] if number == 0 else [0])
                    if [*piece, VOCABULARY.eos][start : start + len(body)] == body
                }
                assert not body or candidates[own][prompt:].tobytes() in expected
                earlier += bool(body) and expected[candidates[own][prompt:].tobytes()] > 0
    assert earlier


def test_memory_is_hidden_from_a_share_of_the_pieces():
    def known(**shares: float) -> int:
        made = batches(**shares)
        return sum(int((made(number).candidates != NO_CANDIDATE).sum()) for number in range(4))

    whole = known()
    assert known(memory_dropout=1.0) == 0
    assert 0.3 * whole < known(memory_dropout=0.5) < 0.7 * whole


def test_rows_may_begin_where_their_pieces_do():
    known = [shard.document(row) for shard in shards() for row in shard.where("train")]

    def begun(share: float) -> float:
        made, found = batches(beginning_share=share, genre_dropout=1.0), []
        for number in range(8):
            for ids in made(number).ids:
                found.append(any(np.array_equal(ids[1:17], document[:16]) for document in known))
        return float(np.mean(found))

    assert begun(1.0) == 1
    assert begun(0.0) < begun(0.5) < 1


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_network_is_told_of_memory_if_it_has_one(architecture, memory):
    network = build(network_config(architecture, overrides={"memory": memory}), VOCABULARY.size)
    made = representation(architecture).batches(network, TrainingSettings(), shards(), VOCABULARY)
    assert isinstance(made, Batches)
    told = made(0).candidates
    assert told.shape == (*made(0).ids.shape, COLUMNS if memory else 0)
    assert (told != NO_CANDIDATE).any() == memory
