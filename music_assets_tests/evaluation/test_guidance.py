import numpy as np
import pytest

from music_assets.evaluation.classifier import Listener, generated_excerpts, real_excerpts
from music_assets.evaluation.guidance import (
    CONSISTENCY,
    DISTINCT,
    MEASURES,
    SHARED,
    GuidanceReport,
    distinct_share,
    guidance_report,
    pitch_runs,
    shared_share,
    variety,
)
from music_assets.evaluation.pieces import Piece, sampled_piece
from music_assets.evaluation.results import NotMeasurable, load_result, save_result
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.generation.request import Wishes
from music_assets.tokens.remi import encode
from music_assets_tests.evaluation.note_arrays import notes, piece
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune

SETTINGS = EvaluationSettings(
    guidance_samples=2, bootstrap_rounds=50, floor_rounds=10, classifier_trees=20, excerpt_bars=4
)


def line(*pitches: int, program: int = 0) -> list[tuple[float, ...]]:
    return [(step, 1, pitch, 64, program) for step, pitch in enumerate(pitches)]


def tune(style: str, seed: int, genre: str) -> Piece:
    return sampled_piece(f"{style} {seed}", genre, encode(make_tune(style=style, seed=seed, bars=8)))


def test_runs_are_of_one_instrument():
    found = pitch_runs(notes([*line(1, 2, 3, 4, 5), *line(9, 8, 7, 6, program=40), *line(1, 1, 1, program=41)], bars=2))
    assert sorted(found.tolist()) == sorted(
        sum(pitch * 128**place for place, pitch in enumerate(run)) for run in ((1, 2, 3, 4), (2, 3, 4, 5), (9, 8, 7, 6))
    )
    assert pitch_runs(notes([])).tolist() == []


def test_distinct_runs():
    assert distinct_share(np.array([5, 5, 5, 7])) == 2 / 4
    assert distinct_share(np.array([3])) == 1
    assert np.isnan(distinct_share(np.zeros(0, np.int64)))


def test_shared_runs():
    assert shared_share(np.array([1, 1, 2, 3]), [np.array([2]), np.array([3, 4])]) == pytest.approx(2 / 3)
    assert shared_share(np.array([1]), []) == 0
    assert np.isnan(shared_share(np.zeros(0, np.int64), [np.array([2])]))


def test_variety_is_within_a_genre():
    same = [piece(notes(line(60, 62, 64, 65, 67), bars=2), genre="reel", name=name) for name in "ab"]
    other = piece(notes(line(60, 62, 64, 65, 67), bars=2), genre="jig", name="c")
    found = variety([*same, other], SETTINGS)
    assert found[DISTINCT].value == 1
    assert found[SHARED].value == pytest.approx(2 / 3)  # the two reels share all with each other, the jig nothing


def test_the_curves_of_an_untrained_network(tmp_path):
    pieces = [tune(style, seed, genre) for seed in range(8) for style, genre in (("reel", "reel"), ("band", "jig"))]
    checkpoint = untrained()
    report = guidance_report(checkpoint, pieces[:8], pieces[8:], SETTINGS)
    usual = Wishes()
    for varied, default in (("guidance", usual.guidance), ("temperature", usual.temperature)):
        for measure in MEASURES:
            curve = report.curve(varied, measure)
            assert len(curve) == 4
            assert sum(reading.value == default for reading in curve) == 1
    # an untrained network knows no genre: its samples are heard as genres by chance
    assert all(row.estimate.low <= 0.5 for row in report.rows if row.measure == CONSISTENCY)
    save_result(tmp_path / "guidance.json", "run", SETTINGS, report)
    found = load_result(tmp_path / "guidance.json", "run", GuidanceReport).found
    assert repr(found) == repr(report)  # a share that nothing defines is no number, and equals no other


def test_one_classifier_for_all_judges_like_one_for_each():
    train, test, made = (
        [tune(style, seed, genre) for seed in seeds for style, genre in (("reel", "reel"), ("band", "jig"))]
        for seeds in (range(6), range(6, 9), range(9, 12))
    )
    excerpts = real_excerpts(train, 4), real_excerpts(test, 4)
    listener = Listener(*excerpts, ("jig", "reel"), SETTINGS)
    generated = generated_excerpts(made, 4)
    first, again = listener.judge(generated), listener.judge(generated)
    assert first.score == again.score
    assert first.score.value == 1
    swapped = [
        Piece(one.name, one.group, {"jig": "reel", "reel": "jig"}[one.genre], one.ids, one.notes, 1.0) for one in made
    ]
    assert listener.judge(generated_excerpts(swapped, 4)).score.value == 0


def test_what_has_no_guidance_and_what_has_one_genre():
    with pytest.raises(NotMeasurable, match="pianoroll"):
        guidance_report(untrained("pianoroll", width=64), [], [], SETTINGS)
    with pytest.raises(NotMeasurable, match="two genres"):
        guidance_report(untrained(), [tune("reel", 0, "reel")], [tune("reel", 1, "reel")], SETTINGS)
