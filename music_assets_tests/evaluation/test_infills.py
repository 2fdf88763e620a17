import numpy as np
import pytest

from music_assets.checkpoints.storage import load_checkpoint
from music_assets.evaluation.infills import (
    ALL,
    LENGTHS,
    ONE,
    choose_spans,
    groove_distance,
    infill_report,
    note_f1,
    pitch_class_distance,
)
from music_assets.evaluation.pieces import Piece, sampled_piece
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.tokens.remi import encode
from music_assets.tokens.shards import make_shard
from music_assets.tokens.vocabulary import DRUMS, RANGES
from music_assets.training.loop import train
from music_assets_tests.generation.checkpoints import PROGRAMS, untrained
from music_assets_tests.midi_files import make_tune
from music_assets_tests.training.corpus import small_config

SETTINGS = EvaluationSettings(infill_spans=8, bootstrap_rounds=50)
C, E, KICK = (0, 0, 60, 0), (0, 12, 64, 0), (0, 0, 36, DRUMS)


def tune(style: str, seed: int, bars: int = 8) -> Piece:
    return sampled_piece(f"{style} {seed}", "reel", encode(make_tune(style=style, seed=seed, bars=bars)))


TRAINING = [tune(style, seed) for seed in range(50, 56) for style in ("reel", "band")]


def ostinato(bars: int) -> Piece:
    """The second bar of a tune, again and again."""
    ids = tune("reel", 0).ids
    lines = np.flatnonzero(ids == RANGES["Bar"].start)
    first, second = ids[: lines[1]], ids[lines[1] : lines[2]]
    return sampled_piece("ostinato", "reel", np.concatenate([first, *[second] * (bars - 1)]))


def test_note_f1():
    assert note_f1({C, E}, {C, E}) == 1
    assert note_f1({C, E}, {C, (0, 13, 64, 0), KICK}) == pytest.approx(2 / 5)
    assert note_f1({C}, set()) == 0
    assert np.isnan(note_f1(set(), {C}))


def test_pitch_class_distance():
    assert pitch_class_distance({C, KICK}, {(1, 3, 48, 40)}) == 0
    assert pitch_class_distance({C}, {E}) == 1
    assert pitch_class_distance({C}, {KICK}) == 1
    assert np.isnan(pitch_class_distance({KICK}, {C}))


def test_groove_distance():
    assert groove_distance({C, E}, {(0, 1, 50, 3), (0, 14, 50, 3)}) == 0  # in the same sixteenths
    assert groove_distance({C, E}, {C}) == 0.5
    assert groove_distance({C}, set()) == 1
    assert np.isnan(groove_distance(set(), {C}))


def test_spans_have_music_on_both_sides():
    pieces = [tune(style, seed, bars) for seed in range(4) for style in ("reel", "band") for bars in (2, 3, 12)]
    spans = choose_spans(pieces, ["reel"], PROGRAMS, 12, 0)
    assert len(spans) == 12
    assert {span.bars for span in spans} == {1, *LENGTHS}
    assert any(span.program is not None for span in spans)
    for span in spans:
        assert span.first >= 1
        assert span.first + span.bars < len(span.piece.notes.bar_lengths)


@pytest.mark.parametrize("style", ["reel", "band"])
def test_what_is_around_stays_and_nothing_has_its_floor(style):
    report = infill_report(untrained(), TRAINING, [tune(style, seed) for seed in range(8)], SETTINGS)
    assert report.context_notes > 100
    assert (report.context_lost, report.context_added) == (0, 0)
    assert report.row(ALL, "note F1", "nothing").estimate.value == 0
    assert report.row(ALL, "note F1", "network").estimate.value < 0.2
    assert 0 < report.row(ALL, "note F1", "n-gram").estimate.value < 0.5
    assert any(row.spans == ONE for row in report.rows) == (style == "band")


def test_the_bar_before_is_all_there_is_to_an_ostinato():
    report = infill_report(untrained(), TRAINING, [ostinato(9)], SETTINGS)
    for filling in ("bar before", "bar after"):
        assert report.row(ALL, "note F1", filling).estimate.value == 1
        assert report.row(ALL, "groove distance", filling).estimate.value == 0


def test_what_has_no_three_bars_cannot_be_filled():
    with pytest.raises(NotMeasurable, match="nothing to fill"):
        infill_report(untrained(), TRAINING, [tune("reel", 0, bars=2)], SETTINGS)
    with pytest.raises(NotMeasurable, match="pianoroll"):
        infill_report(untrained("pianoroll", width=64), TRAINING, [ostinato(9)], SETTINGS)


@pytest.mark.slow
def test_a_trained_network_fills_better_between_its_sides_than_an_untrained_one(tmp_path):
    """Each piece repeats a bar of its own: who reads what is around knows what is missing."""
    pieces = [
        sampled_piece(f"{seed}", "reel", np.concatenate([first, *[second] * 7]))
        for seed in range(40)
        for ids in [tune("reel", seed).ids]
        for lines in [np.flatnonzero(ids == RANGES["Bar"].start)]
        for first, second in [(ids[: lines[1]], ids[lines[1] : lines[2]])]
    ]
    training, held_out = pieces[:32], pieces[32:]
    names, splits = [piece.name for piece in training], ["valid" if n < 4 else "train" for n in range(len(training))]
    notes, seconds = [len(piece.notes) for piece in training], [piece.seconds for piece in training]
    shard = make_shard("reel", "original", names, names, splits, notes, seconds, [piece.ids for piece in training])
    config = small_config(
        tokens=400_000, learning_rate=0.01, batch_size=16, network={"width": 64, "context": 256, "memory": True},
        infill_share=0.8, memory_dropout=0.1, samples=0, report_every=50,
    )  # fmt: skip
    checkpoint = load_checkpoint(train("gpt", config, [shard], tmp_path / "run").best)
    report = infill_report(checkpoint, training, held_out, SETTINGS)
    # where each bar is another piece's, what is around says nothing of what is missing
    bars = [piece.ids[np.flatnonzero(piece.ids == RANGES["Bar"].start)[1] :] for piece in held_out]
    length = [len(bar) // 7 for bar in bars]
    mixed = [
        sampled_piece(
            f"mixed {index}",
            "reel",
            np.concatenate(
                [held_out[index].ids[: -7 * length[index]]]
                + [bars[(index + step) % 8][: length[(index + step) % 8]] for step in range(7)]
            ),
        )
        for index in range(8)
    ]
    for floor in (
        infill_report(checkpoint, training, mixed, SETTINGS),
        infill_report(untrained(), training, held_out, SETTINGS),
    ):
        assert report.row(ALL, "note F1", "network").estimate.low > floor.row(ALL, "note F1", "network").estimate.high
