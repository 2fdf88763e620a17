import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from symusic.core import ScoreTick, TrackTickList

from music_assets.tokens import remi
from music_assets.tokens.transposition import (
    TRANSPOSITIONS,
    BadTranspositions,
    pitch_range,
    shift,
    shifted_blocks,
    transpose,
    transposition_range,
)
from music_assets.tokens.vocabulary import RANGES, SIZE
from music_assets_tests.midi_files import STYLES, make_tune
from music_assets_tests.tokens.scores import scores


def test_names_are_the_twelve_keys() -> None:
    assert list(TRANSPOSITIONS.values()) == list(range(-5, 7))
    assert TRANSPOSITIONS["down5"] == -5
    assert TRANSPOSITIONS["original"] == 0
    assert TRANSPOSITIONS["up6"] == 6


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(scores(), st.sampled_from(list(TRANSPOSITIONS.values())))
def test_transposed_ids_are_those_of_the_transposed_score(score: ScoreTick, semitones: int) -> None:
    ids = remi.encode(score)
    assume(len(ids))
    heard = remi.notes(ids)
    pitches = heard.pitch[heard.program < 128]
    shifted = transpose(ids, semitones)
    if len(pitches) and not 0 <= pitches.min() + semitones <= pitches.max() + semitones <= 127:
        assert shifted is None
        return
    assert shifted is not None
    assert shifted.dtype == ids.dtype
    for track in score.tracks:
        if not track.is_drum:
            track.shift_pitch(semitones, inplace=True)
    np.testing.assert_array_equal(shifted, remi.encode(score))
    np.testing.assert_array_equal(transpose(shifted, -semitones), ids)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300_000), st.integers(-127, 127), st.integers(0, 2**32 - 1))
def test_shifting_is_a_look_up_in_a_table(count: int, semitones: int, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, SIZE, count).astype(np.uint16)
    table = np.arange(SIZE)
    table[RANGES["Pitch"].start : RANGES["Pitch"].stop] += semitones
    expected = table[ids] % 2**16
    shifted = shift(ids, semitones)
    assert shifted.dtype == np.uint16
    np.testing.assert_array_equal(shifted, expected)
    blocks = [block.copy() for block in shifted_blocks(ids, semitones)]
    np.testing.assert_array_equal(np.concatenate([ids[:0], *blocks]), expected)


@pytest.mark.parametrize("style", STYLES)
def test_the_pitch_range_is_that_of_the_notes_that_are_no_drums(style: str) -> None:
    ids = remi.encode(make_tune(style=style))
    heard = remi.notes(ids)
    pitches = heard.pitch[heard.program < 128]
    assert pitch_range(ids) == (pitches.min(), pitches.max())


def test_a_document_of_drums_alone_can_be_transposed() -> None:
    score = make_tune(style="band")
    score.tracks = TrackTickList([track for track in score.tracks if track.is_drum])
    ids = remi.encode(score)
    np.testing.assert_array_equal(transpose(ids, -5), ids)
    assert pitch_range(ids) == (127, 0)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0..0", ["original"]),
        ("-1..2", ["down1", "original", "up1", "up2"]),
        (" -2..0 ", ["down2", "down1", "original"]),
        ("0..+1", ["original", "up1"]),
    ],
)
def test_a_range_names_its_transpositions(text: str, names: list[str]) -> None:
    assert list(transposition_range(text)) == names
    assert list(transposition_range(text).values()) == sorted(transposition_range(text).values())
    assert transposition_range(text)["original"] == 0


@pytest.mark.parametrize("text", ["", "6", "1..6", "-5..-1", "6..-5", "-5..128", "-5-6", "a..b", "0...1", "-0.5..1"])
def test_what_is_no_range_around_0_is_one_sentence(text: str) -> None:
    with pytest.raises(BadTranspositions) as caught:
        transposition_range(text)
    assert str(caught.value) == (
        f"MUSIC_ASSETS_TRANSPOSITIONS is {text!r}: give the lowest and the highest number of semitones, "
        "0 between them, such as -5..6."
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("-1..1", ["down1", "original", "up1"]),
        ("0..0", ["original"]),
        ("", list(TRANSPOSITIONS)),
        (" ", list(TRANSPOSITIONS)),
    ],
)
def test_the_environment_sets_the_range_of_the_whole_graph(text: str, names: list[str]) -> None:
    code = "from music_assets.defs.partitions import transpositions; print(*transpositions.get_partition_keys())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MUSIC_ASSETS_TRANSPOSITIONS": text},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == names
