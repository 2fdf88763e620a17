import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from music_assets.checkpoints.storage import load_checkpoint
from music_assets.evaluation.controls import CORRELATION, MEASURES, Facts, control_report, f1, pearson, share_in_scale
from music_assets.evaluation.pieces import Piece, sampled_piece
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.keys import KEYS
from music_assets.generation.request import make_request
from music_assets.tokens.remi import encode
from music_assets.tokens.shards import make_shard
from music_assets.tokens.vocabulary import DRUMS
from music_assets.training.loop import train
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune
from music_assets_tests.training.corpus import small_config

SETTINGS = EvaluationSettings(control_requests=6, bootstrap_rounds=50)


def tune(style: str, seed: int, genre: str = "reel") -> Piece:
    return sampled_piece(f"{style} {seed}", genre, encode(make_tune(style=style, seed=seed, bars=8)))


def test_f1_of_instruments():
    assert f1(frozenset({0, 33}), frozenset({0, 33})) == 1
    assert f1(frozenset({0, 33}), frozenset({0, 40, 73})) == pytest.approx(2 * 1 / 5)
    assert f1(frozenset({0}), frozenset()) == 0
    assert f1(frozenset(), frozenset()) == 1


def test_share_in_scale():
    notes = np.zeros(12, np.int64)
    notes[[0, 4, 7, 6]] = 3, 2, 1, 2  # of C major all but the F sharp
    assert share_in_scale(KEYS.index("C major"), notes) == pytest.approx(6 / 8)
    assert np.isnan(share_in_scale(None, notes))
    assert np.isnan(share_in_scale(0, np.zeros(12, np.int64)))


pairs = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.integers(0, 3)), min_size=3, max_size=20)


@given(pairs)
def test_a_weighted_correlation_is_that_of_repeated_pairs(rows):
    x, y, weights = map(np.array, zip(*rows, strict=True))
    repeated = np.repeat(x, weights), np.repeat(y, weights)
    if len(repeated[0]) < 2 or min(map(np.std, repeated)) < 1e-3:
        return
    assert pearson(x, y, weights.astype(float)) == pytest.approx(np.corrcoef(*repeated)[0, 1], abs=1e-6)


def test_a_correlation_with_what_does_not_vary_is_not_defined():
    assert np.isnan(pearson(np.ones(4), np.arange(4.0), np.ones(4)))


def test_the_facts_of_music_are_what_would_make_it():
    found = Facts.of(tune("band", 3), bars=4)
    assert found.bars == 4
    assert DRUMS in found.instruments
    assert found.time_signatures == ("4/4",) * 4
    asked = make_request(**{name: value for wish in found.wishes.values() for name, value in wish.items()})
    assert frozenset[int]().union(*asked.instrument_sets) == found.instruments
    assert asked.bars == 4
    assert asked.density == pytest.approx(found.density)


def test_what_cannot_be_disobeyed_is_obeyed():
    report = control_report(untrained(), [tune("reel", seed) for seed in range(6)], SETTINGS)
    assert [row.measure for row in report.rows] == [*(measure.name for measure in MEASURES), CORRELATION]
    for row in report.rows:
        assert row.requests
        assert (row.alone is None) == row.always
        if row.always:
            assert row.together.value == 1, row
            assert (row.together.low, row.together.high) == (1, 1)
    assert report.row("F1 of the instruments").without.value < 0.9
    assert report.row("bars in the time signature").without.value < 0.9


def test_without_held_out_pieces_there_is_nothing_to_ask_for():
    with pytest.raises(NotMeasurable, match="nothing to ask for"):
        control_report(untrained(), [], SETTINGS)


def test_a_piano_roll_has_no_controls():
    with pytest.raises(NotMeasurable, match="pianoroll"):
        control_report(untrained("pianoroll", width=64), [tune("reel", 0)], SETTINGS)


@pytest.mark.slow
def test_a_trained_network_obeys_and_falls_to_the_floor_where_the_wish_is_withheld(tmp_path):
    """Half of the pieces of the one genre are single lines, half are bands, which play far more notes."""
    pieces = [tune(style, seed) for seed in range(30) for style in ("reel", "band")]
    names, splits = [piece.name for piece in pieces], ["valid" if n < 4 else "train" for n in range(len(pieces))]
    notes, seconds = [len(piece.notes) for piece in pieces], [piece.seconds for piece in pieces]
    shard = make_shard("reel", "original", names, names, splits, notes, seconds, [piece.ids for piece in pieces])
    config = small_config(
        tokens=300_000, learning_rate=0.01, batch_size=16, network={"width": 64, "context": 128},
        control_share=0.8, control_dropout=0.5, infill_share=0.0, memory_dropout=1.0, samples=0, report_every=50,
    )  # fmt: skip
    run = train("gpt", config, [shard], tmp_path / "run")
    held_out = [tune(style, seed) for seed in range(100, 116) for style in ("reel", "band")]
    settings = EvaluationSettings(control_requests=32, bootstrap_rounds=50)
    report = control_report(load_checkpoint(run.best), held_out, settings)
    for measure in (CORRELATION, "within one class"):
        row = report.row(measure)
        assert row.alone is not None
        assert row.alone.low > row.without.value, row
