"""Copied music is found in any key and tempo; trills and repeated notes are not taken for it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_assets.evaluation.copying import BREAK, Melody, copy_report, longest_runs, melody
from music_assets.evaluation.features import excerpt
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.tokens.remi import NoteArray
from music_assets_tests.evaluation.note_arrays import DRUMS, notes, piece

CONFIG = EvaluationSettings(worst_copies=3)


def tune(seed: int, bars: int = 16, program: int = 0) -> NoteArray:
    rng = np.random.default_rng(seed)
    gaps = rng.choice([0.25, 0.5, 0.75, 1.0], 8 * bars)
    onsets = np.cumsum(gaps) - gaps[0]
    inside = onsets < 4 * bars
    pitches = rng.integers(55, 80, len(onsets))
    return notes([(on, 0.25, p, 64, program) for on, p in zip(onsets[inside], pitches[inside], strict=True)], bars)


def changed(found: NoteArray, semitones: int, stretch: float) -> NoteArray:
    return dataclasses.replace(
        found,
        pitch=(found.pitch + semitones).astype(np.int16),
        onset=found.onset * stretch,
        duration=found.duration * stretch,
    )


def symbols(*values: int) -> Melody:
    places = np.arange(len(values), dtype=np.float64)
    return Melody(np.array(values, np.int64), places, places)


def slow_longest(query: Melody, training: list[Melody]) -> int:
    def parts(lines: Melody, run: int) -> set[tuple[int, ...]]:
        found = (tuple(lines.symbols[i : i + run].tolist()) for i in range(len(lines) - run + 1))
        return {part for part in found if BREAK not in part}

    runs = [run for run in range(1, len(query) + 1) if any(parts(query, run) & parts(t, run) for t in training)]
    return max(runs, default=0)


SEQUENCES = st.lists(st.integers(0, 3), max_size=12).map(lambda values: symbols(*values))


@settings(max_examples=200)
@given(st.lists(SEQUENCES, min_size=1, max_size=4), st.lists(SEQUENCES, max_size=4))
def test_longest_runs_agree_with_exhaustive_search(queries: list[Melody], training: list[Melody]):
    assert longest_runs(queries, training).tolist() == [slow_longest(query, training) for query in queries]


@given(st.integers(0, 1000), st.integers(-12, 12), st.sampled_from([0.5, 0.75, 2.0, 3.0]))
def test_a_melody_is_the_same_in_every_key_and_tempo(seed: int, semitones: int, stretch: float):
    found = tune(seed, bars=4)
    assert np.array_equal(melody(changed(found, semitones, stretch)).symbols, melody(found).symbols)


def test_melody_takes_the_highest_line_of_every_program_and_no_drums():
    line = [(step, 1, 60 + step**2) for step in range(6)]
    below = [(step, 1, 40) for step in range(6)]
    drums = [(step / 2, 0.25, 36, 90, DRUMS) for step in range(12)]
    alone = melody(notes(line, bars=2)).symbols
    assert np.array_equal(melody(notes([*line, *below, *drums], bars=2)).symbols, alone)
    two = melody(notes([*line, *[(*row, 64, 40) for row in line]], bars=2)).symbols
    assert (two == BREAK).any()
    assert np.array_equal(two[: len(alone)], alone)
    assert np.array_equal(two[-len(alone) :], alone)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_notes_have_no_melody(count: int):
    assert len(melody(notes([(step, 1, 60) for step in range(count)]))) == 0


def test_trills_repeated_notes_and_broken_chords_shrink_to_a_few_steps():
    for pattern in ([60], [60, 62], [60, 64, 67], [60, 67, 64, 67]):
        rows = [(step / 4, 0.25, pattern[step % len(pattern)]) for step in range(128)]
        assert len(melody(notes(rows, bars=8))) <= 2 * len(pattern)


def test_a_planted_excerpt_is_found_in_another_key_and_tempo():
    training = [piece(tune(seed), name=f"training {seed}") for seed in range(30)]
    held_out = [piece(tune(seed), name=f"held out {seed}") for seed in range(100, 115)]
    own = [piece(tune(seed, bars=8), name=f"sample {seed}") for seed in range(200, 209)]
    planted = piece(changed(excerpt(training[7].notes, 8, 4), 5, 2.0), name="planted")
    report = copy_report(training, held_out, [*own, planted], CONFIG)
    worst = report.cases[0]
    assert (worst.sample, worst.piece_id) == ("planted", "training 7")
    source = melody(excerpt(training[7].notes, 8, 4))
    assert worst.run == len(source)
    assert worst.piece_beats == (source.begin[0] + 16, source.end[-1] + 16)
    assert worst.sample_beats == (source.begin[0] * 2, source.end[-1] * 2)
    (genre,) = report.genres
    assert genre.generated.max() == worst.run > 3 * genre.threshold
    assert report.share_above.value == pytest.approx(0.1, abs=0.11)
    assert report.share_above.low < report.share_above.value < report.share_above.high
    assert report.training_pieces == 30


def test_a_shared_trill_is_no_copy():
    trill = [(64 + step / 4, 0.25, 60 + 2 * (step % 2)) for step in range(64)]

    def with_trill(seed: int) -> NoteArray:
        plain = tune(seed)
        rows = list(zip(plain.onset, plain.duration, plain.pitch, strict=True))
        return notes([*rows, *trill], bars=20)

    training = [piece(with_trill(1), name="training")]
    report = copy_report(training, [piece(tune(2, bars=20))], [piece(with_trill(3))], CONFIG)
    assert report.genres[0].generated.max() < 8


def test_held_out_pieces_are_cut_to_the_length_of_the_samples():
    training = [piece(tune(seed)) for seed in range(5)]
    copied = piece(tune(0, bars=16))  # a held-out piece that stands in training: its run grows with its length
    short = copy_report(training, [copied], [piece(tune(50, bars=4))], CONFIG).genres[0]
    whole = copy_report(training, [copied], [piece(tune(50, bars=16))], CONFIG).genres[0]
    assert len(short.held_out) == 3
    assert len(whole.held_out) == 1
    assert short.held_out.max() < whole.held_out.max()


def test_empty_samples_share_nothing_and_a_genre_without_held_out_pieces_is_named():
    training, held_out = [piece(tune(1))], [piece(tune(2))]
    empty = piece(notes([], bars=4), name="empty")
    report = copy_report(training, held_out, [empty, piece(tune(3), genre="jig")], CONFIG)
    assert report.genres[0].generated.tolist() == [0]
    assert report.cases == ()
    assert report.left_out == ("jig",)
    with pytest.raises(NotMeasurable, match="test pieces of the samples' genres"):
        copy_report(training, [], [empty], CONFIG)
