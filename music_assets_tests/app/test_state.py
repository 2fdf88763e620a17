"""What the page shows of music, and what its fields ask for."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from music_assets.app.endpoints import GUIDE
from music_assets.app.events import Stops
from music_assets.app.roll import NEW, REPLACED
from music_assets.app.sources import Source, plain_name
from music_assets.app.state import (
    MOST_BARS,
    STEPS_BACK,
    History,
    page_request,
    part,
    program_request,
    roll_value,
    take_roll,
    within_limits,
)
from music_assets.app.takes import Batch, like, write
from music_assets.foundation.midi.programs import DRUMS
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.generation.choices import choices
from music_assets.generation.request import make_request
from music_assets.generation.task import BadRequest
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune


@pytest.fixture(scope="module")
def band():
    return make_tune(style="band", seed=5, bars=6, tempo=120)


@pytest.fixture(scope="module")
def source(band):
    programs = frozenset(DRUMS if track.is_drum else track.program for track in band.tracks)
    return Source("band.mid", midi_bytes(band), 6, programs)


def written(request, source=None) -> Batch:
    *_, batch = write(untrained(), request, Stops().begin("", ""), source)
    return batch


def layers(value):
    return Counter(note[5] for note in value["notes"])


def test_a_roll_is_in_seconds(band):
    value = roll_value(band, 6, "Band")
    assert value["bars"] == [0, 2, 4, 6, 8, 10, 12]
    assert len(value["notes"]) == band.note_num()
    assert {note[4] for note in value["notes"]} == {128 if t.is_drum else t.program for t in band.tracks}
    first = min(band.tracks[0].notes, key=lambda note: note.time)
    assert [first.time / 960, first.duration / 960, first.pitch, first.velocity] in [
        n[:4] for n in map(list, value["notes"])
    ]
    assert layers(value) == {0: band.note_num()}


def test_what_came_and_what_went_have_layers_of_their_own(band):
    after = band.copy()
    gone = after.tracks[0].notes[0]
    after.tracks[0].notes[0] = type(gone)(gone.time, gone.duration, gone.pitch + 1, gone.velocity)
    value = roll_value(after, 6, "Band", before=band, show_replaced=True)
    assert layers(value) == {0: band.note_num() - 1, NEW: 1, REPLACED: 1}
    assert [note[2] for note in value["notes"] if note[5] == REPLACED] == [gone.pitch]
    assert REPLACED not in layers(roll_value(after, 6, "Band", before=band))


def test_sound_goes_with_the_roll(band):
    assert roll_value(band, 6, "Band", ogg=b"OggS")["audio"] == "data:audio/ogg;base64,T2dnUw=="


def test_a_roll_plays_from_a_little_before_what_is_new(source):
    continued = {"continue_file": "band.mid", "from_bar": 4, "bars": 2, "count": 1}
    filled = {"fill_file": "band.mid", "from_bar": 4, "to_bar": 5, "count": 1}
    for request, own, begin in (({"bars": 2, "count": 1}, None, 0), (continued, source, 2), (filled, source, 2)):
        batch = written(page_request(request), own)
        found = [take_roll(batch, batch.takes[0], b"OggS", plays=plays).get("plays_from") for plays in (False, True)]
        assert found == [None, begin]


def test_nothing_is_a_roll_too():
    batch = next(write(untrained(), make_request(bars=4, count=1), Stops().begin("", "")))
    value = take_roll(batch, batch.takes[0])
    assert (value["notes"], value["bars"], value["done"], value["expected_bars"]) == ([], [0], False, 4)


def test_the_roll_of_a_filling_shows_all_three_layers(source):
    batch = written(page_request({"fill_file": "band.mid", "from_bar": 2, "to_bar": 3, "count": 1}), source)
    (take,) = batch.takes
    value = take_roll(batch, take)
    count = layers(value)
    assert count[0] + count[REPLACED] == source.score.note_num()
    assert count[0] + count[NEW] == take.candidate.score.note_num()
    changed = [note for note in value["notes"] if note[5]]
    assert changed
    assert all(2 <= note[0] < 6 for note in changed)
    assert value["bars"] == [0, 2, 4, 6, 8, 10, 12]
    assert part(batch, source.score, take.written) == (0, 10)


def test_the_roll_of_a_continuation_shows_what_is_new(source):
    batch = written(page_request({"continue_file": "band.mid", "from_bar": 4, "bars": 8, "count": 1}), source)
    (take,) = batch.takes
    value = take_roll(batch, take)
    assert len(value["bars"]) == 12
    assert all(note[0] >= 6 for note in value["notes"] if note[5] == NEW)
    assert all(note[0] < 6 for note in value["notes"] if not note[5])
    assert part(batch, take.candidate.score, take.written) == (2, 14)


def test_empty_fields_ask_for_nothing():
    fields = {"genre": "", "instruments": [], "tempo": None, "tonic": "", "scale": "", "bars": 8, "count": 2}
    assert page_request(fields) == make_request(bars=8, count=2)


def test_a_key_is_a_note_and_a_scale():
    assert page_request({"tonic": "F#", "scale": "dorian"}).key == "F# dorian"
    assert page_request({"tonic": "C"}).key == "C major"
    with pytest.raises(BadRequest, match="needs a key note"):
        page_request({"scale": "dorian"})


@pytest.mark.parametrize("wishes", [{"bars": 65}, {"max_bars": 65}, {"length": 1025}, {"count": 5}])
def test_nobody_asks_for_so_much_that_others_wait_for_ever(wishes):
    with pytest.raises(BadRequest, match="at most"):
        within_limits(make_request(**wishes))
    with pytest.raises(BadRequest, match="at most"):
        within_limits(make_request(fill_file="a.mid", from_bar=1, to_bar=MOST_BARS + 1))


@pytest.mark.parametrize("name", ["continue_file", "fill_file", "continue", "fill"])
def test_programs_name_no_file_of_this_computer(name):
    with pytest.raises(BadRequest, match="name no file"):
        program_request({name: "/etc/passwd"})
    with pytest.raises(BadRequest, match="object"):
        program_request([["fill_file", "/etc/passwd"]])


def test_what_an_endpoint_adds_counts():
    assert program_request({"count": 4, "bars": 2}, count=1) == make_request(bars=2, count=1)


def test_like_this_one():
    checkpoint = untrained()
    wishes = {"instruments": ["Violin", "Flute"], "tempo": 90, "key": "D minor", "bars": 8, "count": 1}
    (take,) = written(make_request(**wishes)).takes
    found = like(take, checkpoint.facts, choices(checkpoint.facts))
    assert (found["instruments"], round(found["tempo"])) == (["Violin", "Flute"], 90)
    assert set(found) >= {"instruments", "tempo", "density"}
    make_request(**found, bars=8)
    piano = untrained("pianoroll").facts
    assert set(like(take, piano, choices(piano))) <= {"tempo", "key"}


def test_versions_are_undone_and_done_again(source):
    one, two, three = (replace(source, data=data) for data in (b"1", b"2", b"3"))
    history = History().accepted(one).accepted(two)
    assert (history.current, history.can_undo, history.can_redo) == (two, True, False)
    back = history.moved(-1)
    assert (back.current, back.can_undo, back.can_redo) == (one, False, True)
    assert (back.moved(-1), back.moved(1)) == (back, history)
    assert back.accepted(three).versions == (one, three)
    for _ in range(2 * STEPS_BACK):
        history = history.accepted(three)
    assert (len(history.versions), history.current) == (STEPS_BACK, three)
    assert History().current is None
    assert not History().can_undo
    assert not History().can_redo


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("My Song (2).mid", "My Song (2).mid"),
        ("../../x.mid", "_.._x.mid"),
        ("--out.mid", "out.mid"),
        ("a;rm\n$(x).mid", "a_rm__(x).mid"),
        ("é" * 300 + ".midi", "é" * 80 + ".midi"),
        ("", "music"),
        ("...", "music"),
    ],
)
def test_names_are_plain(name, plain):
    assert plain_name(name) == plain


def test_a_take_is_named_and_made_again_by_a_command(source):
    batch = written(page_request({"continue_file": "band.mid", "bars": 1, "count": 2, "seed": 7}), source)
    assert [batch.name(take) for take in batch.takes] == ["band-7-1", "band-7-2"]
    assert batch.command == "music-assets generate --bars 1 --count 2 --seed 7 --continue band.mid --architecture gpt"
    assert batch.progress.startswith("2 bars with ")


def test_stops():
    stops = Stops()
    flag = stops.begin("page", "tab")
    assert stops.begin("page", "tab") is stops.take("page", "tab") is flag
    stops.stop("other", "tab")
    assert not flag.is_set()
    stops.stop("page", "tab")
    assert flag.is_set()
    assert stops.take("page", "tab") is flag  # stopped while it waited
    fresh = stops.begin("page", "tab")
    assert not fresh.is_set()
    stops.end("page", "tab", flag)
    assert stops.count == 1
    stops.close("page")
    assert fresh.is_set()
    assert stops.count == 0


def test_the_guide_for_programs_is_in_the_docs():
    docs = (Path(__file__).parents[2] / "docs" / "studio.md").read_text("utf-8")
    assert GUIDE.strip() in docs
