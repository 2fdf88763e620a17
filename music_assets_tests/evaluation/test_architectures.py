"""The table that puts networks beside each other, without training long."""

import json
import math

import numpy as np
import pytest

from music_assets.checkpoints.storage import load_checkpoint
from music_assets.evaluation.architectures import (
    as_json,
    compare_architectures,
    markdown,
    require_comparable,
)
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.tokens import remi
from music_assets.tokens import rolls as pianoroll
from music_assets.tokens.remi import encode
from music_assets.tokens.shards import make_shard
from music_assets.training.loop import train
from music_assets.training.representation import representation
from music_assets.training.scoring import roll_scores, token_nats
from music_assets_tests.midi_files import make_tune
from music_assets_tests.training.corpus import shards, small_config, small_roll_config

pytestmark = pytest.mark.slow

CONFIG = EvaluationSettings.model_validate({"bootstrap_rounds": 50})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("runs"), shards()
    config = {"gpt": small_config(), "pianoroll": small_roll_config()}
    return [
        (load_checkpoint(train(name, config[name], made, folder / name).best), speed)
        for name, speed in (("pianoroll", 5000.0), ("gpt", 2000.0))
    ]


@pytest.fixture(scope="module")
def rows(trained):
    originals = [shard for shard in shards() if shard.transposition == "original"]
    return compare_architectures(trained, originals, CONFIG)


def held_out():
    return {
        shard.genre: [shard.document(row) for row in shard.where("test")]
        for shard in shards()
        if shard.transposition == "original"
    }


def test_all_models_are_scored_on_the_same_test_pieces(trained, rows):
    by_model = {row.model: row for row in rows}
    (rolls, _), (gpt, _) = trained
    nats = [n.sum() for genre, of in held_out().items() for n in token_nats(gpt.network, gpt.vocabulary, of, genre)]
    notes = sum(len(remi.notes(one)) for of in held_out().values() for one in of)
    assert by_model["gpt"].bits_per_note == pytest.approx(float(np.sum(nats)) / math.log(2) / notes)
    scores = [s for genre, of in held_out().items() for s in roll_scores(rolls.network, rolls.vocabulary, of, genre)]
    struck = sum(
        (pianoroll.encode(remi.notes(one)) == pianoroll.ONSET).sum() for of in held_out().values() for one in of
    )
    bits = float(sum(score.nats.sum() for score in scores)) / math.log(2) / struck
    assert by_model["pianoroll"].bits_per_roll_note == pytest.approx(bits)
    for row in rows:
        value = row.bits_per_roll_note if row.model == "pianoroll" else row.bits_per_note
        assert value is not None
        assert row.low <= value <= row.high
    assert [row.model for row in rows][-1] == "pianoroll"


def test_the_table_keeps_apart_what_does_not_compare(rows):
    *lines, empty, remark = markdown(rows).splitlines()
    assert (empty, remark) == ("", representation("pianoroll").remark)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head, _, *body = cells
    assert {len(line) for line in cells} == {7}
    of = {line[0]: dict(zip(head, line, strict=True)) for line in body}
    assert of["pianoroll"]["bits per note (95%)"] == ""
    assert "to" in of["pianoroll"]["bits per note of the roll (95%)"]
    assert of["pianoroll"]["training tokens/s"] == "5,000 roll steps/s"
    assert of["pianoroll"]["training tokens"] == "3,072 roll steps"
    assert of["gpt"]["bits per note of the roll (95%)"] == ""
    assert of["gpt"]["training tokens/s"] == "2,000"
    without = markdown([row for row in rows if row.model != "pianoroll"])
    assert "roll" not in without
    stored = json.loads(as_json(rows, EvaluationSettings(seed=7)))
    assert stored["settings"]["seed"] == 7
    (roll,) = (row for row in stored["rows"] if row["model"] == "pianoroll")
    assert roll["bits_per_note"] is None
    assert roll["remark"] == remark


def test_test_pieces_of_drums_alone_are_an_error(trained):
    score = make_tune(seed=1, bars=4)
    for track in score.tracks:
        track.is_drum = True
    drums, tune = encode(score), encode(make_tune(seed=2, bars=4))
    names, splits = ("a", "b", "c"), ("train", "valid", "test")
    shard = make_shard("reel", "original", names, names, splits, (8, 8, 8), (1.0, 1.0, 1.0), [tune, tune, drums])
    with pytest.raises(NotMeasurable, match="No test piece has a note on the 88 keys"):
        compare_architectures(trained[:1], [shard], CONFIG)
    require_comparable(["gpt"], [shard])
    with pytest.raises(NotMeasurable, match="leave pianoroll out"):
        require_comparable(["gpt", "pianoroll"], [shard])
    untested = make_shard("reel", "original", names, names, ("train",) * 3, (8, 8, 8), (1.0, 1.0, 1.0), [tune] * 3)
    with pytest.raises(NotMeasurable, match="There is no test piece"):
        require_comparable(["gpt"], [untested])
