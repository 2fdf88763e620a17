import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from music_assets.tokens.infill import draw
from music_assets.tokens.memory import (
    COLUMNS,
    CONTEXTS,
    INTERVAL,
    KEY,
    LEVELS,
    NO_CANDIDATE,
    RUNS,
    Memory,
    candidates_of,
)
from music_assets.tokens.transposition import TRANSPOSITIONS, shift
from music_assets.tokens.vocabulary import CONTROL_RANGES, RANGES, SIZE, Vocabulary
from music_assets_tests.tokens.plain_memory import plain_candidates
from music_assets_tests.training.corpus import shards

LEVEL = SIZE
BAR, SIGNATURE, POSITION, PROGRAM, PITCH, DRUM, VELOCITY, DURATION = (
    RANGES[name].start
    for name in ("Bar", "TimeSig", "Position", "Program", "Pitch", "PitchDrum", "Velocity", "Duration")
)
# A few of every kind, so that contexts come again; in any order, as no document is, but a network may draw.
FEW = st.sampled_from(
    [BAR, SIGNATURE, Vocabulary().mask, Vocabulary().fill, RANGES["Tempo"].start]
    + [first + number for first in (POSITION, PROGRAM, PITCH, DRUM, VELOCITY, DURATION) for number in (0, 3)]
)


@given(st.lists(FEW, max_size=150))
def test_it_is_the_plain_memory_of_any_tokens(ids):
    assert candidates_of(np.array(ids, np.int64)).tolist() == plain_candidates(ids)


def documents():
    return [
        shard.document(row) for shard in shards(pieces=3, bars=12, transpositions=("original",)) for row in range(2)
    ]


@pytest.mark.parametrize("number", range(4))
def test_it_is_the_plain_memory_of_documents(number):
    document = documents()[number]
    found = candidates_of(document)
    assert found.tolist() == plain_candidates(document.tolist())
    assert (found != NO_CANDIDATE).any(0).all()  # every context comes again somewhere


@settings(max_examples=20)
@given(st.integers(0, 3), st.integers(0, 1000))
def test_it_is_the_plain_memory_of_infills(number, seed):
    infill = draw(documents()[number], 400, np.random.default_rng(seed))
    assert infill is not None
    assert candidates_of(infill).tolist() == plain_candidates(infill.tolist())


@given(st.integers(0, 3), st.data())
def test_nothing_is_known_of_what_follows(number, data):
    document = documents()[number]
    cut = data.draw(st.integers(0, len(document)))
    other = data.draw(st.lists(FEW, max_size=40))
    changed = np.concatenate([document[:cut], np.array(other, np.uint16)])
    assert_array_equal(candidates_of(changed)[:cut], candidates_of(document)[:cut])


@given(st.lists(st.lists(FEW, max_size=30), min_size=1, max_size=4), st.data())
def test_rows_grow_on_their_own(begun, data):
    memory = Memory([np.array(ids, np.int64) for ids in begun])
    rows = [list(ids) for ids in begun]
    for _ in range(data.draw(st.integers(0, 20))):
        chosen = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
        tokens = [data.draw(FEW) for _ in chosen]
        memory.append(np.array(chosen), np.array(tokens))
        for row, token in zip(chosen, tokens, strict=True):
            rows[row].append(token)
        last, candidates = memory.latest(np.array(chosen))
        assert last.tolist() == tokens
        assert candidates.tolist() == [plain_candidates(rows[row])[-1] for row in chosen]
    for row, ids in enumerate(rows):
        assert memory.ids(row).tolist() == ids
        assert memory.candidates(row).tolist() == plain_candidates(ids)
    assert memory.lengths.tolist() == [len(ids) for ids in rows]


def test_a_row_outgrows_its_room_and_forgets_all_but_the_key():
    document = np.tile(documents()[0], 6).astype(np.int64)
    memory, forgotten = Memory([document[:10], document[:0]]), np.zeros(len(document), bool)
    for place in range(10, len(document)):
        memory.append(np.array([0, 1]), document[[place, place]])
        if place % 7 == 0:
            memory.forget(np.array([0]))
            forgotten[place] = True
    assert len(document) > 2000
    told = candidates_of(document)
    told[forgotten, :CONTEXTS] = NO_CANDIDATE
    assert (told[forgotten, KEY] != NO_CANDIDATE).any()
    assert_array_equal(memory.candidates(0), told)
    assert_array_equal(memory.candidates(1), candidates_of(document[10:]))


def test_a_repeated_tune_is_foretold_and_ever_more_surely():
    bar = [
        BAR,
        SIGNATURE,
        POSITION,
        PROGRAM,
        PITCH + 60,
        VELOCITY,
        DURATION,
        POSITION + 6,
        PROGRAM,
        PITCH + 64,
        VELOCITY,
        DURATION,
    ]
    found = candidates_of(np.array(9 * bar))
    shortest = found[:, 0].reshape(9, len(bar))
    assert (shortest[0] == NO_CANDIDATE).all()
    for times, row in enumerate(shortest[1:-1]):
        inside = row[RUNS[0] : -1]
        assert_array_equal(inside % LEVEL, bar[RUNS[0] + 1 :])
        assert (inside // LEVEL == min(times.bit_length(), LEVELS - 1)).all()


def test_an_instrument_is_remembered_through_what_others_play():
    """Its notes come again while another one never plays the same twice: runs of tokens break, its voice does not."""
    ids = []
    for number in range(6):
        ids += [BAR, SIGNATURE]
        for beat in range(4):
            ids += [POSITION + 12 * beat, PROGRAM, PITCH + 60 + beat, VELOCITY + 9, DURATION + 3]
            ids += [PROGRAM + 40, PITCH + 20 + 4 * number + beat, VELOCITY + number, DURATION + number]
    found = candidates_of(np.array(ids))
    places = np.flatnonzero(np.array(ids) == PROGRAM)[-4:]
    assert (found[places, 1] == NO_CANDIDATE).all()  # no run of 8 tokens
    assert_array_equal(found[places, len(RUNS) + 2] % SIZE, PITCH + 60 + np.arange(4))  # place, and its last two notes


def test_a_tune_that_comes_again_higher_is_foretold_by_its_intervals():
    tune, ids = [60, 64, 62, 67], list[int]()
    for higher in (0, 5, 11):
        ids += [BAR, SIGNATURE]
        for beat, pitch in enumerate(tune):
            ids += [POSITION + 12 * beat, PROGRAM, PITCH + pitch + higher, VELOCITY, DURATION]
    found = candidates_of(np.array(ids))[:, INTERVAL]
    last_two = np.flatnonzero(np.array(ids) == PROGRAM)[-2:]
    assert_array_equal(found[last_two], np.array([PITCH + 62 + 11, PITCH + 67 + 11]) + LEVEL)


def test_a_pitch_that_does_not_exist_is_not_foretold():
    """An interval of 60 semitones, twice from low notes and then from a high one."""
    ids = list[int]()
    for low in (0, 1, 100):
        for pitch in (low, low + 3, low + 63):
            ids += [BAR, SIGNATURE, POSITION, PROGRAM, PITCH + min(pitch, 127), VELOCITY, DURATION]
    programs = np.flatnonzero(np.array(ids) == PROGRAM)
    found = candidates_of(np.array(ids))[programs, INTERVAL]
    assert found[5] == PITCH + 64
    assert found[8] == NO_CANDIDATE


@pytest.mark.parametrize("name", TRANSPOSITIONS)
def test_a_transposed_piece_is_foretold_at_the_same_places(name):
    document = documents()[0]
    found = candidates_of(document)
    moved = candidates_of(shift(document, TRANSPOSITIONS[name]))
    assert_array_equal(moved // SIZE, found // SIZE)
    foretold = shift((found % SIZE).ravel().astype(np.uint16), TRANSPOSITIONS[name]).reshape(found.shape)
    assert_array_equal(np.delete(moved % SIZE, KEY, 1), np.delete(foretold, KEY, 1))
    of_keys = CONTROL_RANGES["key"]
    told = found[:, KEY] != NO_CANDIDATE
    assert_array_equal(moved[:, KEY] != NO_CANDIDATE, told)
    before, after = (of[told, KEY] % SIZE - of_keys.start for of in (found, moved))
    assert_array_equal(after // 12, before // 12)  # major and minor
    assert_array_equal((after - before - TRANSPOSITIONS[name]) % 12, 0)


@pytest.mark.parametrize("silent_bars", [100, 3000])
def test_a_key_is_forgotten_in_the_end(silent_bars):
    note = [POSITION, PROGRAM, PITCH + 60, VELOCITY, DURATION]
    ids = [BAR, SIGNATURE, *note, *([BAR, SIGNATURE] * silent_bars), *note]
    last = candidates_of(np.array(ids))[-len(note) + 1, KEY]
    assert (last == NO_CANDIDATE) == (silent_bars > 1000)


def test_the_key_of_the_notes_so_far_is_told_and_changes_with_the_music():
    """A scale over and over, then one a tritone away; drums are told nothing, and say nothing."""
    ids = list[int]()
    for tonic in (60, 66):
        for _ in range(12):
            ids += [BAR, SIGNATURE]
            for beat, step in enumerate((0, 2, 4, 5, 7, 9, 11, 0)):
                ids += [POSITION + 6 * beat, PROGRAM, PITCH + tonic + step, VELOCITY, DURATION]
                ids += [PROGRAM + 128, DRUM + 5, VELOCITY, DURATION]
    found = candidates_of(np.array(ids))[:, KEY]
    at_notes, at_drums = (found[np.array(ids) == program] for program in (PROGRAM, PROGRAM + 128))
    c_major, f_sharp_major = CONTROL_RANGES["key"][0], CONTROL_RANGES["key"][6]
    assert at_notes[0] == NO_CANDIDATE
    assert (at_notes[8:96] % SIZE == c_major).all()
    assert (at_notes[-48:] % SIZE == f_sharp_major).all()
    assert (at_drums == NO_CANDIDATE).all()


def test_of_nothing_nothing_is_known():
    assert candidates_of(np.array([], np.uint16)).shape == (0, COLUMNS)
    memory = Memory([np.array([], np.int64)])
    assert memory.candidates(0).shape == (0, COLUMNS)
