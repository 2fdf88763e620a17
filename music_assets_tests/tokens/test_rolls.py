from collections import Counter
from dataclasses import astuple

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from symusic.core import NoteTick, ScoreTick, TrackTick

from music_assets.tokens import remi
from music_assets.tokens import rolls as pianoroll
from music_assets.tokens.remi import TooLong
from music_assets.tokens.rolls import HOLD, KEYS, LOWEST_PITCH, ONSET, SILENCE, RollLoss
from music_assets_tests.midi_files import STYLES, make_tune
from music_assets_tests.tokens.scores import scores

rolls = arrays.arrays(np.uint8, st.tuples(st.integers(0, 12), st.just(KEYS)), elements=st.integers(0, 2))


@st.composite
def grid_scores(draw: st.DrawFn, overlaps: bool) -> ScoreTick:
    """Tracks of notes on the grid; without ``overlaps`` one piano on which no key is struck while it sounds."""
    programs = [(0, False), (40, False), (0, True)] if overlaps else [(0, False)]
    score = ScoreTick(draw(st.sampled_from([4, 8, 96, 480])))
    step = score.tpq // 4
    for program, is_drum in programs:
        track, ends = TrackTick("", program, is_drum), Counter()
        for begin, length, pitch in sorted(
            draw(
                st.lists(
                    st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from([20, 21, 60, 61, 108, 109])),
                    max_size=20,
                )
            )
        ):
            if overlaps or (begin >= ends[pitch] and 21 <= pitch <= 108):
                track.notes.append(NoteTick(begin * step, length * step, pitch, pianoroll.VELOCITY))
                ends[pitch] = begin + length
        score.tracks.append(track)
    return score


def notes(score: ScoreTick) -> list[tuple]:
    """Notes that are not drums, times in quarters."""
    return sorted(
        (note.time / score.tpq, note.duration / score.tpq, note.pitch, note.velocity, track.program)
        for track in score.tracks
        for note in track.notes
        if not track.is_drum
    )


def slow_roll(score: ScoreTick) -> tuple[np.ndarray, dict[tuple, list[NoteTick]]]:
    """The roll by the words of its documentation, a note at a time, and the notes that begin in each cell."""
    steps = max([8 * note.end + 16 * score.tpq for track in score.tracks for note in track.notes], default=0)
    sounds, cells = np.zeros((steps // (2 * score.tpq) + 1, KEYS), np.uint8), {}
    for track in score.tracks:
        for note in track.notes:
            key = note.pitch - LOWEST_PITCH
            if track.is_drum or not 0 <= key < KEYS:
                continue
            begin, end = (int(np.floor(4 * ticks / score.tpq + 0.5)) for ticks in (note.start, note.end))
            cells.setdefault((begin, key), []).append(note)
            sounds[begin : max(end, begin + 1), key] = HOLD
    for cell in cells:
        sounds[cell] = ONSET
    length = int(np.flatnonzero(sounds.any(axis=1)).max(initial=-1)) + 1
    return sounds[:length], cells


@settings(max_examples=100, deadline=None)
@given(grid_scores(overlaps=False))
def test_a_piano_piece_on_the_grid_comes_back_exactly(score: ScoreTick) -> None:
    roll = pianoroll.encode(score)
    assert notes(pianoroll.decode(roll)) == notes(score)
    lost = pianoroll.roll_loss(score)
    assert lost == RollLoss(len(notes(score)), len(notes(score)), 0, 0, 0, 0, 0, 0.0, 0.0)


@settings(max_examples=100, deadline=None)
@given(grid_scores(overlaps=True))
def test_sounding_cells_are_pretty_midis(score: ScoreTick) -> None:
    midi = pretty_midi.PrettyMIDI()
    for track in score.tracks:
        instrument = pretty_midi.Instrument(track.program, track.is_drum)
        instrument.notes = [
            pretty_midi.Note(note.velocity, note.pitch, note.start / score.tpq / 2, note.end / score.tpq / 2)
            for note in track.notes
        ]
        midi.instruments.append(instrument)
    # At 120 quarters a minute a step takes an eighth of a second, which floats hold exactly.
    expected = midi.get_piano_roll(fs=8).T[:, LOWEST_PITCH : LOWEST_PITCH + KEYS] > 0
    roll = pianoroll.encode(score)
    np.testing.assert_array_equal(roll != SILENCE, expected[: len(roll)])
    assert not expected[len(roll) :].any()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(scores())
def test_any_score_is_drawn_and_its_losses_counted_as_documented(score: ScoreTick) -> None:
    expected, cells = slow_roll(score)
    roll = pianoroll.encode(score)
    np.testing.assert_array_equal(roll, expected)

    lost = pianoroll.roll_loss(score)
    every = [(track, note) for track in score.tracks for note in track.notes]
    assert lost.notes == len(every) == lost.kept + lost.merged + lost.drums + lost.out_of_range
    assert lost.drums == sum(track.is_drum for track, _ in every)
    assert lost.kept == len(cells) == (roll == ONSET).sum() == pianoroll.decode(roll).note_num()
    onset_error = duration_error = 0.0
    shortened = lengthened = 0
    for (begin, key), begun in cells.items():
        length = 1
        while begin + length < len(roll) and roll[begin + length, key] == HOLD:
            length += 1
        for note in begun:
            own = max(int(np.floor(4 * note.end / score.tpq + 0.5)) - begin, 1)
            shortened += length < own
            lengthened += length > own
            onset_error += abs(begin / 4 - note.start / score.tpq)
            duration_error += abs(length / 4 - note.duration / score.tpq)
    assert (lost.shortened, lost.lengthened) == (shortened, lengthened)
    assert lost.onset_error == pytest.approx(onset_error)
    assert lost.duration_error == pytest.approx(duration_error)
    assert lost.mean_onset_error <= 1 / 8


@settings(max_examples=100, deadline=None)
@given(rolls)
def test_any_roll_comes_back_without_what_cannot_sound(roll: np.ndarray) -> None:
    expected = roll.copy()
    for step in range(len(roll)):
        before = expected[step - 1] if step else np.zeros(KEYS)
        expected[step, (roll[step] == HOLD) & (before == SILENCE)] = SILENCE
    while len(expected) and not expected[-1].any():
        expected = expected[:-1]
    again = pianoroll.encode(pianoroll.decode(roll))
    assert (again.dtype, again.shape) == (np.uint8, expected.shape)
    np.testing.assert_array_equal(again, expected)


@settings(max_examples=50, deadline=None)
@given(scores())
def test_a_documents_notes_and_its_score_give_the_same_roll(score: ScoreTick) -> None:
    ids = remi.encode(score)
    heard, decoded = remi.notes(ids), remi.decode(ids)
    np.testing.assert_array_equal(pianoroll.encode(heard), pianoroll.encode(decoded))
    ours, theirs = pianoroll.roll_loss(heard), pianoroll.roll_loss(decoded)
    assert astuple(ours) == pytest.approx(astuple(theirs))


def test_what_is_dropped_merged_and_cut() -> None:
    score = ScoreTick(480)
    for program, is_drum in ((0, False), (40, False), (0, True)):
        score.tracks.append(TrackTick("", program, is_drum))
    piano, violin, drums = score.tracks
    piano.notes.append(NoteTick(0, 960, 60, 90))  # eight steps, struck again after two
    violin.notes.append(NoteTick(10, 230, 60, 50))  # begins in the same step, and lasts two
    violin.notes.append(NoteTick(240, 120, 60, 50))  # goes on as long as the first
    piano.notes.append(NoteTick(60, 10, 20, 90))  # below A0
    piano.notes.append(NoteTick(60, 10, 108, 90))  # half a step late, goes up
    drums.notes.append(NoteTick(0, 120, 38, 90))
    roll = pianoroll.encode(score)
    assert roll[:, 60 - LOWEST_PITCH].tolist() == [ONSET, HOLD, ONSET, *[HOLD] * 5]
    assert roll[:, 108 - LOWEST_PITCH].tolist() == [SILENCE, ONSET, *[SILENCE] * 6]
    assert (roll != SILENCE).sum() == 9
    lost = pianoroll.roll_loss(score)
    assert astuple(lost)[:7] == (6, 3, 1, 1, 1, 1, 1)
    assert lost.onset_error == pytest.approx((10 + 60) / 480)
    assert lost.duration_error == pytest.approx((720 + 10 + 600 + 110) / 480)
    assert lost.mean_onset_error == pytest.approx(lost.onset_error / 4)
    assert lost.mean_duration_error == pytest.approx(lost.duration_error / 4)
    assert astuple(lost + lost) == tuple(2 * value for value in astuple(lost))


def test_decoded_notes_have_the_tempo_and_velocity_that_were_promised() -> None:
    roll = np.zeros((3, KEYS), np.uint8)
    roll[1:, [0, 87]] = [[ONSET], [HOLD]]
    score = pianoroll.decode(roll, tempo=90)
    assert [(tempo.time, tempo.qpm) for tempo in score.tempos] == [(0, pytest.approx(90))]
    assert notes(score) == [(0.25, 0.5, 21, 80, 0), (0.25, 0.5, 108, 80, 0)]


@given(rolls)
def test_planes_hold_the_roll(roll: np.ndarray) -> None:
    chosen = pianoroll.planes(roll)
    assert (chosen.dtype, chosen.shape) == (bool, (len(roll), 2 * KEYS))
    np.testing.assert_array_equal(pianoroll.from_planes(chosen), roll)
    chosen[:, KEYS:] |= chosen[:, :KEYS]
    np.testing.assert_array_equal(pianoroll.from_planes(chosen), roll)


@pytest.mark.parametrize("style", STYLES)
def test_tunes_survive_as_music(style: str) -> None:
    tune = make_tune(style=style)
    lost = pianoroll.roll_loss(tune)
    assert lost.out_of_range == 0
    assert lost.kept >= 0.7 * (lost.notes - lost.drums)
    assert lost.mean_onset_error == 0


def test_nothing_to_draw() -> None:
    drums = ScoreTick(480)
    drums.tracks.append(TrackTick("", 0, True))
    drums.tracks[0].notes.append(NoteTick(0, 480, 36, 90))
    for source in (ScoreTick(480), drums, remi.notes(np.empty(0, np.uint16))):
        roll = pianoroll.encode(source)
        assert roll.shape == (0, KEYS)
        assert pianoroll.decode(roll).note_num() == 0
        assert pianoroll.roll_loss(source).mean_duration_error == 0


def test_a_piece_that_is_too_long_is_refused() -> None:
    score = ScoreTick(4)
    score.tracks.append(TrackTick("", 0, False))
    score.tracks[0].notes.append(NoteTick(pianoroll.MAX_STEPS, 1, 60, 90))
    with pytest.raises(TooLong, match=r"The piece lasts 100,001 16th notes; the limit of a piano roll is 100,000\."):
        pianoroll.encode(score)
