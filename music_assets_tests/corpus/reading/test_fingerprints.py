"""What a fingerprint does not see, what it does, and its estimate against sets counted in plain Python."""

import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from symusic.core import NoteTick, ScoreTick, TrackTick

from music_assets.corpus.reading.fingerprints import (
    INTERVALS,
    MINIMUM_SHINGLES,
    VALUES,
    WORDS,
    fingerprint,
    shingles,
    similarity,
    sketch,
)
from music_assets_tests.midi_edits import humanised, retimed, stretched, transposed, with_velocities, without_track
from music_assets_tests.midi_files import STYLES, make_tune

Notes = list[tuple[int, int, int]]
"""Onset and duration in ticks, pitch."""

NOTES = st.lists(
    st.tuples(st.integers(0, 40).map(lambda step: step * 60), st.integers(0, 600), st.integers(30, 90)),
    max_size=80,
)


def score_of(*tracks: Notes, drums: bool = False, tpq: int = 480) -> ScoreTick:
    score = ScoreTick(tpq)
    for notes in tracks:
        track = TrackTick("", 0, drums)
        for note in notes:
            track.notes.append(NoteTick(*note, 80))
        score.tracks.append(track)
    return score


def line(pitches: list[int], step: int = 240) -> Notes:
    return [(number * step, step, pitch) for number, pitch in enumerate(pitches)]


def walk(seed: int, length: int = 200) -> list[int]:
    """Pitches of a melody like no other, none twice in a row."""
    chance = random.Random(seed)
    pitches = [60]
    while len(pitches) < length:
        pitches.append(chance.choice([pitch for pitch in range(48, 84) if pitch != pitches[-1]]))
    return pitches


def plain_shingles(tracks: list[Notes]) -> set[tuple[int, ...]]:
    """The definition in words, note by note."""
    found = set()
    for notes in tracks:
        notes = sorted(notes)
        if not notes:
            continue
        mean_duration = Fraction(sum(duration for _, duration, _ in notes), len(notes))
        mean_distance = Fraction(notes[-1][0] - notes[0][0], max(len(notes) - 1, 1))
        together = min(mean_duration / 4, mean_distance * 3 / 4)
        chords: list[list[int]] = []
        before = None
        for onset, _, pitch in notes:
            if before is not None and onset - before <= together:
                chords[-1].append(pitch)
            else:
                chords.append([pitch])
            before = onset
        top = [max(chord) for chord in chords]
        top = [pitch for number, pitch in enumerate(top) if number == 0 or pitch != top[number - 1]]
        intervals = [after - before for before, after in pairwise(top)]
        for start in range(len(intervals) - INTERVALS + 1):
            run = tuple(intervals[start : start + INTERVALS])
            if not any(run[period:] == run[:-period] for period in (1, 2, 3, 4)):
                found.add(run)
    return found


def same(left: ScoreTick, right: ScoreTick) -> bool:
    return shingles(left).tolist() == shingles(right).tolist()


@settings(deadline=None)
@given(st.lists(NOTES, max_size=4))
def test_shingles_are_those_of_the_definition(tracks: list[Notes]) -> None:
    expected = len(plain_shingles(tracks))
    assert len(shingles(score_of(*tracks))) == (expected if expected >= MINIMUM_SHINGLES else 0)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(NOTES, min_size=1, max_size=3), st.integers(-30, 30), st.integers(2, 9), st.randoms())
def test_key_time_scale_and_order_change_no_shingle(
    tracks: list[Notes], semitones: int, factor: int, chance: random.Random
) -> None:
    melody = line(walk(1))
    score = score_of(melody, *tracks)
    assert len(shingles(score))
    assert same(score, transposed(score, semitones))
    assert same(score, stretched(score, factor))
    assert same(score, stretched(score, factor, tpq=480 * factor))
    shuffled = [chance.sample(notes, len(notes)) for notes in (melody, *tracks)]
    chance.shuffle(shuffled)
    assert same(score, score_of(*shuffled))


@pytest.mark.parametrize("style", STYLES)
def test_tempo_velocity_and_instrument_change_no_fingerprint(style: str) -> None:
    score = make_tune(style=style, bars=32)
    expected = fingerprint(score)
    assert expected.shape == (WORDS,)
    assert expected.dtype == np.uint32
    edited = with_velocities(retimed(score, 1.37), seed=1)
    for number, track in enumerate(edited.tracks):
        track.program = 0 if track.is_drum else number + 3
        track.name = "another"
    assert fingerprint(edited).tolist() == expected.tolist()


def test_a_rolled_chord_and_unsteady_playing_are_the_chord() -> None:
    tops = walk(2)
    block = [(number * 480, 400, pitch - third) for number, pitch in enumerate(tops) for third in (0, 4, 9)]
    rolled = [(onset + 12 * (number % 3), 400, pitch) for number, (onset, _, pitch) in enumerate(block)]
    assert same(score_of(block), score_of(rolled))
    assert same(score_of(block), score_of(line(tops, 480)))
    assert similarity(fingerprint(score_of(block)), fingerprint(humanised(score_of(block), 10, seed=1))) > 0.9


def test_a_held_pedal_does_not_turn_a_melody_into_one_chord() -> None:
    tops = walk(3)
    assert same(score_of([(240 * number, 9_000, pitch) for number, pitch in enumerate(tops)]), score_of(line(tops)))


def test_a_track_less_takes_its_shingles_and_no_others() -> None:
    one, other = line(walk(4)), line(walk(5))
    both = score_of(one, other)
    assert set(shingles(both)) == set(shingles(score_of(one))) | set(shingles(score_of(other)))
    assert same(without_track(both, 1), score_of(one))


def test_no_shingle_spans_two_tracks() -> None:
    pitches = walk(6, 2 * INTERVALS)
    assert len(shingles(score_of(line(pitches)))) == 0  # fewer than the minimum
    assert len(shingles(score_of(line(walk(7, INTERVALS + 1)), line(walk(8, INTERVALS + 1))))) == 0


@pytest.mark.parametrize(
    "pitches",
    [[60] * 99, [60, 62] * 50, [60, 64, 67] * 40, [60, 67, 64, 67] * 30, list(range(10, 110))],
    ids=["repeated note", "trill", "arpeggio", "alberti bass", "chromatic scale"],
)
def test_patterns_that_any_piece_may_have_are_no_fingerprint(pitches: list[int]) -> None:
    assert fingerprint(score_of(line(pitches))).tolist() == []


def test_music_without_notes_or_with_hardly_any_has_no_fingerprint() -> None:
    assert fingerprint(ScoreTick(480)).tolist() == []
    assert fingerprint(score_of([])).tolist() == []
    assert fingerprint(score_of([(0, 480, 60)])).tolist() == []
    short = line(walk(9, INTERVALS + MINIMUM_SHINGLES))
    assert len(shingles(score_of(short))) == MINIMUM_SHINGLES
    assert len(fingerprint(score_of(short))) == WORDS
    assert fingerprint(score_of(short[:-1])).tolist() == []


def test_drums_count_only_where_there_is_too_little_else() -> None:
    chance = random.Random(1)
    groove = line([chance.choice((36, 38, 42, 46, 49)) for _ in range(300)], 120)
    drums = score_of(groove, drums=True)
    assert len(fingerprint(drums)) == WORDS
    assert same(drums, transposed(drums, 3))
    assert fingerprint(score_of(line([36, 42, 38, 42] * 50), drums=True)).tolist() == []
    song = score_of(line(walk(10)))
    expected = shingles(song).tolist()
    song.tracks.append(drums.tracks[0])
    assert shingles(song).tolist() == expected


def test_times_at_both_ends_of_their_range_are_read() -> None:
    pitches = walk(11)
    far = [((1 << 31) - 1 - 240 * number, 1, pitch) for number, pitch in enumerate(pitches)]
    score = score_of(line(pitches), [(0, 1, 60), *far], [(-(1 << 31), (1 << 31) - 1, 40), *line(pitches)])
    assert len(fingerprint(score)) == WORDS


def jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    common = set(left.tolist()) & set(right.tolist())
    return len(common) / len(set(left.tolist()) | set(right.tolist()))


@pytest.mark.parametrize("size", [16, 100, 400, 3000])
@pytest.mark.parametrize("overlap", [0.1, 0.4, 0.7, 0.95])
def test_similarity_estimates_the_jaccard_index_with_the_stated_error(size: int, overlap: float) -> None:
    chance = np.random.default_rng(size)
    common = int(overlap * size)
    exact, errors = common / (2 * size - common), []
    for _ in range(300):
        hashes = chance.integers(0, 1 << 64, 2 * size, dtype=np.uint64)
        left, right = np.sort(hashes[:size]), np.sort(hashes[size - common : 2 * size - common])
        assert jaccard(left, right) == exact
        errors.append(similarity(sketch(left), sketch(right)) - exact)
    stated = np.sqrt(exact * (1 - exact) / VALUES)
    assert abs(np.mean(errors)) < 4 * stated / np.sqrt(len(errors))
    assert np.std(errors) < (1.35 if size < 100 else 1.15) * stated


def test_similarity_of_scores_is_near_their_exact_jaccard_index() -> None:
    melodies = [line(walk(seed)) for seed in range(5)]
    base = score_of(*melodies[:3])
    for others in ([3], [3, 0], [1, 2], [0, 1, 2], [0, 1, 2, 3, 4]):
        other = score_of(*(melodies[number] for number in others))
        exact = len(set(others) & {0, 1, 2}) / len(set(others) | {0, 1, 2})
        assert jaccard(shingles(base), shingles(other)) == pytest.approx(exact, abs=0.01)
        assert similarity(fingerprint(base), fingerprint(other)) == pytest.approx(exact, abs=0.12)


def test_similarity_of_a_fingerprint_with_itself_and_with_none() -> None:
    one, none = fingerprint(score_of(line(walk(12)))), fingerprint(ScoreTick(480))
    assert similarity(one, one) == 1.0
    assert similarity(one, none) == similarity(none, one) == similarity(none, none) == 0.0


def test_an_empty_bin_takes_the_value_of_a_full_one() -> None:
    few = np.sort(np.random.default_rng(1).integers(0, 1 << 64, 20, dtype=np.uint64))
    values = set(sketch(few).view("<u2").tolist())
    assert values <= set((few & np.uint64(0xFFFF)).tolist())
    assert len(values) > 10


def test_the_layout_is_the_one_that_tables_on_disk_have() -> None:
    # another one needs another READER_VERSION
    pitches = [60 + number * number % 23 for number in range(64)]
    assert fingerprint(score_of(line(pitches)))[:4].tolist() == [709941976, 2085043717, 3092594208, 1042300448]
