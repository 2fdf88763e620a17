"""The genre classifier on genres that are apart by construction."""

import numpy as np
import pytest

from music_assets.evaluation.classifier import (
    Consistency,
    TooFewGenres,
    generated_excerpts,
    genre_consistency,
    real_excerpts,
)
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.settings import EvaluationSettings
from music_assets_tests.evaluation.note_arrays import notes, piece

CONFIG = EvaluationSettings(excerpt_bars=4, classifier_trees=60, bootstrap_rounds=200)
RHYTHMS = {"march": (0, 1, 2, 3), "stream": tuple(step / 2 for step in range(8)), "waltz-like": (0, 1.5, 3)}


def music(genre: str, count: int, seed: int, program: int = 0, bars: int = 8) -> list[Piece]:
    rng = np.random.default_rng(seed)
    pieces = []
    for number in range(count):
        rows = [
            (bar * 4 + on, 0.5, int(rng.integers(60, 72)), 64, program)
            for bar in range(bars)
            for on in RHYTHMS[genre]
            if rng.random() < 0.9
        ]
        pieces.append(piece(notes(rows, bars), genre, f"{genre}-{seed}-{number}"))
    return pieces


def everything(count: int, seed: int) -> list[Piece]:
    return [found for genre in RHYTHMS for found in music(genre, count, seed)]


TRAIN = real_excerpts(everything(20, 1), 4, most=2)
TEST = real_excerpts(everything(15, 2), 4)


def judge(samples: list[Piece], **options: bool) -> Consistency:
    return genre_consistency(TRAIN, TEST, generated_excerpts(samples, 4), CONFIG, **options)


def test_music_of_the_prompted_genres_reaches_the_ceiling():
    found = judge(everything(12, 3))
    assert found.floor == pytest.approx(1 / 3)
    assert found.ceiling.value > 0.9
    assert found.score.low > 0.8
    assert found.headline.value > 0.85
    assert found.is_above_floor
    assert found.p_value < 0.01
    assert found.macro_f1 > 0.9
    assert found.real_confusion.sum() == 45
    assert found.generated_confusion.shape == (3, 4)
    assert found.training_excerpts == 120


def test_shuffled_prompts_fall_to_the_floor():
    found = judge(everything(12, 3))
    assert found.permuted.value == pytest.approx(found.floor, abs=0.03)
    samples = everything(12, 3)
    prompts = np.random.default_rng(5).permutation([sample.genre for sample in samples])
    shuffled = judge([piece(s.notes, str(g), s.name) for s, g in zip(samples, prompts, strict=True)])
    assert shuffled.score.low < shuffled.floor < shuffled.score.high
    assert abs(shuffled.headline.value) < 0.35
    assert not shuffled.is_above_floor


def test_one_kind_of_music_for_every_prompt_scores_the_floor():
    found = judge([piece(s.notes, genre, s.name) for s in music("march", 10, 4) for genre in RHYTHMS])
    assert found.score.value == pytest.approx(found.floor, abs=0.05)


def test_an_empty_sample_counts_as_wrong():
    full = judge(everything(12, 3))
    empty = [piece(notes([], bars=4), genre, f"empty {n}") for genre in RHYTHMS for n in range(12)]
    half = judge([*everything(12, 3), *empty])
    assert half.score.value == pytest.approx(full.score.value / 2)
    assert half.generated_confusion[:, -1].tolist() == [12, 12, 12]
    nothing = judge(empty)
    assert nothing.score.value == 0
    assert nothing.headline.value < 0


def test_short_samples_stay():
    short = generated_excerpts(music("march", 3, 1, bars=2), 4)
    assert len(short) == 3
    assert len(real_excerpts(music("march", 3, 1, bars=2), 4)) == 0


def test_without_programs_the_classifier_cannot_tell_genres_by_instrument():
    def alike(count: int, seed: int) -> list[Piece]:
        return [
            piece(s.notes, genre, s.name)
            for genre, program, offset in (("flute", 73, 0), ("organ", 19, 50))
            for s in music("march", count, seed + offset, program)
        ]

    train, test, made = real_excerpts(alike(25, 1), 4), real_excerpts(alike(20, 2), 4), alike(12, 3)
    seen = genre_consistency(train, test, generated_excerpts(made, 4), CONFIG)
    blind = genre_consistency(train, test, generated_excerpts(made, 4), CONFIG, with_programs=False)
    assert seen.ceiling.value == 1
    assert blind.ceiling.value < 0.75


def test_the_same_seed_gives_the_same_result():
    assert repr(judge(everything(4, 3))) == repr(judge(everything(4, 3)))


def test_genres_that_lack_a_set_are_named_and_one_genre_is_refused():
    found = judge(music("march", 4, 3) + music("stream", 4, 3))
    assert found.genres == ("march", "stream")
    assert found.left_out == ("waltz-like",)
    with pytest.raises(TooFewGenres, match="two genres"):
        judge(music("march", 4, 3))


def test_a_genre_gives_no_more_training_excerpts_than_allowed():
    config = CONFIG.model_copy(update={"train_excerpts_per_genre": 10})
    made = generated_excerpts(everything(2, 3), 4)
    assert genre_consistency(TRAIN, TEST, made, config).training_excerpts == 30
