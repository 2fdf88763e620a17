import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from symusic.core import ScoreTick, TrackTickList

from music_assets.tokens import remi
from music_assets.tokens.transposition import TRANSPOSITIONS, pitch_extremes, shift, transpose
from music_assets_tests.midi_files import make_tune
from music_assets_tests.tokens.scores import scores


def test_names_are_the_twelve_keys() -> None:
    assert list(TRANSPOSITIONS.values()) == list(range(-5, 7))
    assert TRANSPOSITIONS["down5"] == -5
    assert TRANSPOSITIONS["original"] == 0
    assert TRANSPOSITIONS["up6"] == 6


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


def test_extremes_are_those_of_each_document() -> None:
    documents = [remi.encode(make_tune(style=style)) for style in ("reel", "band", "chorale")]
    drums = remi.encode(make_tune(style="band"))
    heard = remi.notes(drums)
    assert (heard.program == 128).any()
    offsets = np.cumsum([0, *map(len, documents)])
    low, high = pitch_extremes(np.concatenate(documents), offsets)
    for index, document in enumerate(documents):
        heard = remi.notes(document)
        pitches = heard.pitch[heard.program < 128]
        assert (low[index], high[index]) == (pitches.min(), pitches.max())
    np.testing.assert_array_equal(
        shift(np.concatenate(documents), 2), np.concatenate([shift(ids, 2) for ids in documents])
    )


def test_a_document_of_drums_alone_can_be_transposed() -> None:
    score = make_tune(style="band")
    score.tracks = TrackTickList([track for track in score.tracks if track.is_drum])
    ids = remi.encode(score)
    np.testing.assert_array_equal(transpose(ids, -5), ids)
