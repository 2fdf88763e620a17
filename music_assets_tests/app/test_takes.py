"""Candidates as they grow, and files that people bring."""

import itertools
import threading
import time

import pytest

from music_assets.app import takes
from music_assets.app.events import UNFORESEEN, Stops, shown
from music_assets.app.sound import Heard, sounds
from music_assets.app.sources import MOST_BYTES, receive
from music_assets.app.takes import write
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.midi.writing import write_midi
from music_assets.generation.generate import generate
from music_assets.generation.request import make_request
from music_assets.generation.task import BadRequest
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune

gr = pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("songs") / "song.mid"
    write_midi(make_tune(style="band", seed=5, bars=6), path)
    return path


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(takes, "SHOW_EVERY", 0)


def flag() -> threading.Event:
    return threading.Event()


def writers() -> int:
    return sum(thread.name.endswith("(run)") for thread in threading.enumerate())


@pytest.mark.parametrize("architecture", ["gpt", "lstm", "pianoroll"])
def test_candidates_grow_bar_by_bar_to_what_generation_makes(architecture):
    request = make_request(bars=4, count=2)
    batches = [*write(untrained(architecture), request, flag())]
    bars = [[take.written for take in batch.takes] for batch in batches]
    assert bars[0] == [0, 0]
    assert bars[-1] == [4, 4]
    assert all(a <= c and b <= d for (a, b), (c, d) in itertools.pairwise(bars))
    assert [batch.done for batch in batches] == [False] * (len(batches) - 1) + [True]
    made = [one.midi for one in generate(untrained(architecture), request)]
    assert [take.candidate.midi for take in batches[-1].takes] == made


def test_what_is_written_is_kept_when_it_is_stopped():
    stopped, batch = flag(), None
    for batch in write(untrained(), make_request(bars=64, count=2), stopped):
        if batch.takes[0].written == 2:
            stopped.set()
    assert batch is not None
    assert batch.done
    assert batch.progress.startswith("Stopped: what has been written is kept.")
    assert 2 <= batch.takes[0].written < 64
    assert batch.takes[0].candidate.note_count > 0
    assert batch.takes[0].candidate.ended == "stopped"


def test_who_goes_away_stops_the_writing():
    writing = write(untrained(), make_request(bars=64, count=2), flag())
    for _ in range(2):
        next(writing)
    assert writers()
    writing.close()
    assert not writers()


def test_a_file_is_received_and_goes_on(song):
    source = receive(song)
    assert (source.name, source.bars, source.data) == ("song.mid", 6, song.read_bytes())
    *_, batch = write(untrained(), make_request(continue_file="song.mid", bars=2, count=1), flag(), source)
    assert batch.first_bar == 7
    longer = source.changed(batch.takes[0].candidate.midi)
    assert longer.bars in (6, 7, 8)
    assert longer.data != source.data


@pytest.mark.parametrize("architecture", ["gpt", "pianoroll"])
def test_what_is_said_to_make_the_same_again_does(song, architecture, monkeypatch):
    request = make_request(continue_file="song.mid", bars=2, count=1, seed=3)
    *_, batch = write(untrained(architecture), request, flag(), receive(song))
    monkeypatch.chdir(song.parent)
    assert batch.request == request
    (again,) = generate(untrained(architecture), request)
    assert batch.takes[0].candidate.midi == again.midi


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"hello", "not with b'MThd'"),
        (b"", "has no bytes"),
        (bytes(MOST_BYTES + 1), "more than 1 MiB: choose a smaller file"),
        (b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0", "no notes"),
    ],
)
def test_other_files_are_refused_by_one_sentence_without_a_path(tmp_path, data, why):
    (tmp_path / "other.mid").write_bytes(data)
    with pytest.raises(BadRequest) as caught:
        receive(tmp_path / "other.mid")
    assert why in str(caught.value)
    assert "other.mid" in str(caught.value)
    assert "/" not in str(caught.value)


def test_where_a_file_lies_is_told_to_nobody(song):
    source = receive(song)
    with pytest.raises(BadRequest, match=r"^song\.mid has 6 bars"):
        next(write(untrained(), make_request(continue_file="song.mid", from_bar=99), flag(), source))


def test_sound_of_parts(song):
    midi = song.read_bytes()
    whole, section, nothing = sounds([Heard(midi), Heard(midi, 2, 4), Heard(midi, 1e3, 2e3)])
    assert whole is not None
    assert section is not None
    assert whole[:4] == section[:4] == b"OggS"
    assert len(section) < len(whole)
    assert nothing is None


def test_only_what_a_person_can_mend_is_told(caplog):
    def plain(what):
        raise what

    def yields(what):
        yield 1
        raise what

    for call in (lambda what: shown(plain)(what), lambda what: [*shown(yields)(what)]):
        with pytest.raises(gr.Error) as caught:
            call(BadRequest("Choose another file."))
        assert caught.value.message == "Choose another file."
        assert not caplog.records
        with pytest.raises(gr.Error) as caught:
            call(BadRequest("There is no session x in /data/my/gpt: make one of 3/4."))
        assert caught.value.message == "There is no session x in gpt: make one of 3/4."
        with pytest.raises(gr.Error) as caught:
            call(ValueError("/home/secret"))
        assert caught.value.message == UNFORESEEN
        assert "/home/secret" in caplog.text
        caplog.clear()


def test_a_closed_page_closes_the_generator():
    closed = []

    def endless():
        try:
            while True:
                yield time.monotonic()
        finally:
            closed.append(True)

    running = shown(endless)()
    next(running)
    running.close()
    assert closed == [True]
    assert Stops().count == 0


def test_without_gradio_one_sentence_says_how_to_get_it(monkeypatch):
    from typer.testing import CliRunner

    from music_assets.cli.commands import app

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = CliRunner().invoke(app, ["studio"])
    assert isinstance(found.exception, MusicAssetsError)
    assert str(found.exception).endswith("install it with pip install 'music-assets[studio]'.")
