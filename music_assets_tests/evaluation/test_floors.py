"""What is measured of a trained network falls to its floor where the prompt is withheld or another's."""

from dataclasses import replace

import pytest

from music_assets.checkpoints.storage import Checkpoint, load_checkpoint
from music_assets.evaluation.classifier import generated_excerpts, genre_consistency, real_excerpts
from music_assets.evaluation.pieces import Piece, sampled_piece
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.generation.generate import generate
from music_assets.generation.request import make_request
from music_assets.tokens.remi import encode
from music_assets.tokens.shards import make_shard
from music_assets.training.loop import train
from music_assets_tests.midi_files import make_tune
from music_assets_tests.training.corpus import small_config

SETTINGS = EvaluationSettings(excerpt_bars=4, classifier_trees=50, bootstrap_rounds=100)
STYLES = {"jig": "band", "reel": "reel"}
OTHER = {"jig": "reel", "reel": "jig"}
COUNT = 12

pytestmark = pytest.mark.slow


def tunes(genre: str, seeds: range) -> list[Piece]:
    return [
        sampled_piece(f"{genre} {seed}", genre, encode(make_tune(style=STYLES[genre], seed=seed, bars=6)))
        for seed in seeds
    ]


def samples(checkpoint: Checkpoint, **wishes: float) -> list[Piece]:
    return [
        sampled_piece(f"{genre}-{one.index}", genre, one.ids)
        for genre in STYLES
        for one in generate(checkpoint, make_request(genre=genre, count=COUNT, max_bars=4, **wishes))
    ]


def test_genre_consistency(tmp_path):
    shards = []
    for genre in STYLES:
        pieces = tunes(genre, range(30))
        names = [piece.name for piece in pieces]
        splits = ["valid" if n < 3 else "train" for n in range(len(pieces))]
        notes, seconds = [len(piece.notes) for piece in pieces], [piece.seconds for piece in pieces]
        ids = [piece.ids for piece in pieces]
        shards.append(make_shard(genre, "original", names, names, splits, notes, seconds, ids))
    config = small_config(
        tokens=300_000, learning_rate=0.01, batch_size=16, network={"width": 64, "context": 128},
        control_share=0.0, infill_share=0.0, memory_dropout=1.0, genre_dropout=0.3, samples=0, report_every=50,
    )  # fmt: skip
    checkpoint = load_checkpoint(train("gpt", config, shards, tmp_path / "run").best)
    training, held_out = (
        real_excerpts([piece for genre in STYLES for piece in tunes(genre, seeds)], 4)
        for seeds in (range(30), range(30, 50))
    )

    def score(made: list[Piece]):
        return genre_consistency(training, held_out, generated_excerpts(made, 4), SETTINGS)

    asked = samples(checkpoint)
    found = score(asked)
    assert found.is_above_floor
    assert found.permuted.low <= found.floor <= found.permuted.high
    withheld = score(samples(checkpoint, guidance=0))
    assert not withheld.is_above_floor
    another = score([replace(piece, genre=OTHER[piece.genre]) for piece in asked])
    assert another.score.high < found.floor
