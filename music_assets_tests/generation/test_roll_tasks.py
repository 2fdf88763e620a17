"""The piano-roll network is asked for music too: what it can do it does, and the rest it refuses in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from music_assets.foundation.keys import parse_key
from music_assets.foundation.midi.reading import read_score
from music_assets.foundation.midi.writing import write_midi
from music_assets.generation.choice import Filters
from music_assets.generation.generate import generate, stream
from music_assets.generation.request import make_request
from music_assets.generation.roll_tasks import filtered
from music_assets.generation.task import BadRequest
from music_assets.tokens.grid import bar_lines
from music_assets.tokens.remi import encode, notes
from music_assets_tests.foundation.midi.mido_reading import heard_by_mido
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune


def lively():
    """A network that strikes many keys."""
    checkpoint = untrained("pianoroll", context=64)
    checkpoint.network.head.bias.data.fill_(-2.0)
    return checkpoint


def made(**asked):
    return generate(lively(), **asked)


@pytest.mark.parametrize("asked", [{}, {"key": "D minor"}, {"time_signature": "3/4", "tempo": 93.5}, {"guidance": 2.0}])
def test_bars_and_key_are_kept_and_the_ids_are_the_files(asked):
    for one in made(bars=3, count=3, genre="jig", **asked):
        score = read_score(one.midi).score
        assert np.array_equal(encode(score), one.ids)
        found = notes(one.ids)
        assert 0 < one.note_count == score.note_num()
        assert set(found.program.tolist()) == {0}
        assert found.onset.max() < 3 * (3 if "time_signature" in asked else 4)
        if "key" in asked:
            assert {int(pitch) % 12 for pitch in found.pitch} <= parse_key("D minor").pitch_classes
        if "tempo" in asked:
            assert [round(tempo.qpm, 1) for tempo in score.tempos] == [93.5]


def test_a_candidate_is_the_same_among_any_others_and_another_seed_is_not():
    alone, many = made(bars=2, count=1, seed=5), made(bars=2, count=9, seed=5)
    assert alone[0].midi == many[0].midi
    assert len({one.midi for one in many}) == 9
    assert made(bars=2, count=1, seed=6)[0].midi != alone[0].midi


def test_colder_and_penalised_music_has_fewer_notes_and_more_pitches():
    counts = {t: sum(one.note_count for one in made(bars=2, count=4, temperature=t)) for t in (0.3, 1.0)}
    assert counts[0.3] < counts[1.0]

    def variety(penalty):
        return np.mean(
            [
                len(set(notes(one.ids).pitch.tolist())) / one.note_count
                for one in made(bars=2, count=4, repetition_penalty=penalty)
            ]
        )

    assert variety(100) > variety(1)


def test_it_begins_with_notes_and_goes_on_behind_a_file(tmp_path):
    (one,) = made(notes=[60, 64], bars=1, count=1)
    begun = notes(one.ids)
    assert set(begun.pitch[begun.onset == 0].tolist()) == {60}
    assert 64 in begun.pitch[begun.onset == 1]
    song = tmp_path / "song.mid"
    write_midi(make_tune(style="waltz", seed=1, bars=4), song)
    end = int(bar_lines(read_score(song.read_bytes()).score, 4)[-1])
    (one,) = generate(lively(), continue_file=song, bars=2, count=1, tempo=80)
    before, after = heard_by_mido(song.read_bytes()).notes, heard_by_mido(one.midi).notes
    assert not before - after
    new = after - before
    assert sum(new.values()) == one.note_count > 0
    assert min(note[0] for note in new) >= end
    assert max(note[0] for note in new) < end + 2 * 3 * read_score(song.read_bytes()).score.tpq


def test_bars_come_one_by_one():
    seen = [(bar.candidate, bar.number, bar.last) for bar in stream(lively(), make_request(bars=3, count=2))]
    assert seen == [(row, number, number == 3) for number in (1, 2, 3) for row in (0, 1)]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"instruments": ["piano"]}, "writes for one piano and knows no instruments"),
        ({"density": 3}, "knows no density"),
        ({"length": 20}, "knows no length"),
        ({"fill_file": "x.mid", "from_bar": 2}, "knows no fill file"),
        ({"notes": [10]}, "A piano has no pitch 10"),
    ],
)
def test_what_it_cannot_do_is_said(asked, sentence):
    with pytest.raises(BadRequest, match=sentence):
        made(**asked)


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=10).map(np.array),
    st.integers(0, 12),
    st.floats(0.05, 1),
    st.floats(0, 0.9),
)
def test_filters_keep_the_likeliest_keys(chance, top_k, top_p, min_p):
    kept = filtered(chance, Filters(top_k=top_k, top_p=top_p, min_p=min_p)) > 0
    left = filtered(chance, Filters())
    assert np.array_equal(left, chance)
    if chance.max() > 0:
        assert kept[chance.argmax()]
    if kept.any():
        assert chance[kept].min() >= chance[~kept].max(initial=0) or chance[kept].min() >= 0
        assert kept.sum() <= (top_k or len(chance))
        assert chance[kept].min() >= min_p * chance.max()
        if not top_k and not min_p and top_p < 1:
            assert chance[kept].sum() >= top_p * chance.sum() - 1e-9
