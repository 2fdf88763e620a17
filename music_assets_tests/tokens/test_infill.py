import os

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from music_assets.tokens import remi
from music_assets.tokens.infill import BadInfill, cut, draw, join
from music_assets.tokens.vocabulary import RANGES, Vocabulary
from music_assets_tests.midi_files import STYLES, make_tune
from music_assets_tests.tokens.scores import corpus_scores, scores

MASK, FILL = Vocabulary().mask, Vocabulary().fill
BAR, PROGRAM, POSITION = RANGES["Bar"].start, RANGES["Program"], RANGES["Position"]


def bar_lines(ids):
    return np.append(np.flatnonzero(ids == BAR), len(ids))


def names(ids):
    return [Vocabulary().name(int(token)).removesuffix("_None") for token in ids]


@st.composite
def cuts(draw_from):
    """A document and some bars of it, perhaps with one of the programs in them."""
    document = remi.encode(draw_from(scores()))
    ends = bar_lines(document)
    assume(len(ends) > 1)
    # Bars without a note are many: begin near a note as a rule.
    first = draw_from(st.integers(0, len(ends) - 2))
    if draw_from(st.booleans()):
        first = int(draw_from(st.sampled_from(remi.notes(document).bar.tolist())))
    bars = draw_from(st.integers(1, min(12, len(ends) - 1 - first)))
    heard = remi.notes(document)
    there = np.unique(heard.program[(heard.bar >= first) & (heard.bar < first + bars)])
    return document, first, bars, draw_from(st.sampled_from([None, *there.tolist()]))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(cuts())
def test_what_is_cut_out_can_be_put_back(case):
    document, first, bars, program = case
    infill = cut(document, first, bars, program)
    assert infill.dtype == np.uint16
    np.testing.assert_array_equal(join(infill), document)
    assert np.count_nonzero(infill == MASK) == bars


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(cuts())
def test_the_two_parts_hold_the_notes_that_they_should(case):
    document, first, bars, program = case
    infill = cut(document, first, bars, program)
    at = int(np.flatnonzero(infill == FILL)[0])
    rest, fill = infill[:at], infill[at + 1 :]
    asked, whole = remi.notes(fill), remi.notes(document)
    inside = (whole.bar >= first) & (whole.bar < first + bars)
    taken = inside & ((whole.program == program) | (program is None))
    for field in ("pitch", "program", "velocity"):
        np.testing.assert_array_equal(getattr(asked, field), getattr(whole, field)[taken])
    np.testing.assert_array_equal(asked.bar, whole.bar[taken] - first)
    np.testing.assert_allclose(asked.onset, whole.onset[taken] - whole.bar_starts[first])
    marked = np.flatnonzero(rest == MASK)
    if program is None:
        assert np.count_nonzero(rest == BAR) == len(whole.bar_starts) - bars
        assert (np.diff(marked) == 1).all()
        left = rest[rest != MASK]
    else:
        assert (rest[marked + 1] == PROGRAM[program]).all()
        assert (rest[marked + 2] == BAR).all()
        left = np.delete(rest, np.concatenate([marked, marked + 1]))
        np.testing.assert_array_equal(remi.notes(left).bar_starts, whole.bar_starts)
        # No position is left that has nothing.
        follows = left[np.flatnonzero((left[:-1] >= POSITION.start) & (left[:-1] < POSITION.stop)) + 1]
        assert not np.isin(follows, [BAR, *POSITION]).any()
    heard = remi.notes(left)
    np.testing.assert_array_equal(heard.pitch, whole.pitch[~taken])
    np.testing.assert_array_equal(heard.program, whole.program[~taken])


def tune():
    """Three bars; in the second both programs play at its beginning, and the second one alone later."""
    bar = ["Bar", "TimeSig_4/4"]
    piano, flute = (["Program_0", "Pitch_60", "Velocity_63", "Duration_1.0.12"], ["Program_73", "Pitch_72"])
    flute = [*flute, "Velocity_63", "Duration_1.0.12"]
    written = [
        *(*bar, "Position_0", "Tempo_120.0", *piano),
        *(*bar, "Position_0", *piano, *flute, "Position_12", *flute),
        *(*bar, "Position_24", *piano),
    ]
    ids = {Vocabulary().name(token).removesuffix("_None"): token for token in range(Vocabulary().size)}
    return np.array([ids[name] for name in written], dtype=np.uint16)


def test_all_tracks_of_a_bar_read_as_documented():
    assert names(cut(tune(), 1, 1)) == [
        *("Bar", "TimeSig_4/4", "Position_0", "Tempo_120.0", "Program_0", "Pitch_60", "Velocity_63"),
        *("Duration_1.0.12", "MASK"),
        *("Bar", "TimeSig_4/4", "Position_24", "Program_0", "Pitch_60", "Velocity_63", "Duration_1.0.12"),
        *("FILL", "Bar", "TimeSig_4/4", "Position_0", "Program_0", "Pitch_60", "Velocity_63", "Duration_1.0.12"),
        *("Program_73", "Pitch_72", "Velocity_63", "Duration_1.0.12"),
        *("Position_12", "Program_73", "Pitch_72", "Velocity_63", "Duration_1.0.12"),
    ]


def test_one_program_in_two_bars_reads_as_documented():
    assert names(cut(tune(), 1, 2, program=73)) == [
        *("Bar", "TimeSig_4/4", "Position_0", "Tempo_120.0", "Program_0", "Pitch_60", "Velocity_63"),
        *("Duration_1.0.12", "MASK", "Program_73"),
        *("Bar", "TimeSig_4/4", "Position_0", "Program_0", "Pitch_60", "Velocity_63", "Duration_1.0.12"),
        *("MASK", "Program_73"),
        *("Bar", "TimeSig_4/4", "Position_24", "Program_0", "Pitch_60", "Velocity_63", "Duration_1.0.12"),
        *("FILL", "Bar", "TimeSig_4/4", "Position_0", "Program_73", "Pitch_72", "Velocity_63", "Duration_1.0.12"),
        *("Position_12", "Program_73", "Pitch_72", "Velocity_63", "Duration_1.0.12", "Bar", "TimeSig_4/4"),
    ]


@pytest.mark.parametrize("program", [0, 73])
@pytest.mark.parametrize(("first", "bars"), [(0, 1), (0, 3), (2, 1)])
def test_the_ends_of_a_piece_can_be_cut_out(first, bars, program):
    for chosen in (None, program):
        np.testing.assert_array_equal(join(cut(tune(), first, bars, chosen)), tune())


@pytest.mark.parametrize(("first", "bars"), [(-1, 1), (0, 0), (3, 1), (1, 3)])
def test_bars_that_are_not_there_are_refused(first, bars):
    with pytest.raises(BadInfill, match="The document has bars 0 to 2, not"):
        cut(tune(), first, bars)


def test_what_is_no_infill_is_refused():
    good = cut(tune(), 1, 2)
    at = int(np.flatnonzero(good == FILL)[0])
    for bad in (tune(), good[:at], good[good != MASK], np.append(good, FILL), good[:0]):
        with pytest.raises(BadInfill, match="a MASK for every bar"):
            join(bad)
    with pytest.raises(BadInfill, match="2 bars are missing, but what follows FILL has 3"):
        join(np.append(good, BAR))
    for bad in (good[: at + 1], np.insert(good, at + 1, POSITION[0])):
        with pytest.raises(BadInfill, match="2 bars are missing, but what follows FILL has"):
            join(bad)


@pytest.mark.parametrize("style", STYLES)
def test_drawn_infills_are_whole_bars_and_fit(style):
    document = remi.encode(make_tune(style=style, seed=1, bars=24))
    lines = bar_lines(document)
    random = np.random.default_rng(0)
    kinds, ends, firsts = set(), set(), set()
    for room in (*range(300, 1500, 7), 10 * len(document)):
        infill = draw(document, room, random)
        if infill is None:  # not two bars fit, or not with their marks
            assert lines[2] + 2 > room
            continue
        assert len(infill) <= room
        part = join(infill)
        np.testing.assert_array_equal(document[: len(part)], part)
        assert len(part) in lines
        mark = int(np.flatnonzero(infill == MASK)[0])
        kinds.add(int(infill[mark + 1]) in PROGRAM)
        ends.add(len(part))
        firsts.add(mark)
        assert np.count_nonzero(infill == MASK) < len(bar_lines(part)) - 1
    assert True in kinds or style in ("reel", "jig", "waltz")
    assert False in kinds
    assert len(ends) > 2
    assert len(firsts) > 2


@pytest.mark.slow
@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_real_files_can_be_put_back():
    random = np.random.default_rng(0)
    read = 0
    for name, score in corpus_scores(100):
        document = remi.encode(score)
        read += 1
        heard = remi.notes(document)
        for _ in range(20):
            first = int(random.integers(len(heard.bar_starts)))
            bars = int(random.integers(1, len(heard.bar_starts) - first + 1))
            programs = [None, *np.unique(heard.program).tolist()]
            program = programs[random.integers(len(programs))]
            put_back = join(cut(document, first, bars, program))
            np.testing.assert_array_equal(put_back, document, err_msg=name)
    assert read > 20
