"""The pieces of the music21 package, checked against music21 itself."""

import importlib.util
import json
import os
import re
import signal
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from symusic.core import ScoreTick

from music_assets.corpus.fetch import embedded
from music_assets.corpus.fetch.embedded import write_embedded_corpus
from music_assets.corpus.reading.facts import facts
from music_assets.foundation.errors import MusicAssetsError

LIBRARY = importlib.util.find_spec("music21")
CONVERT = embedded._convert
pytestmark = [pytest.mark.slow, pytest.mark.skipif(LIBRARY is None, reason="music21 is not installed")]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fortieth piece of the corpus, and one of them twice."""
    chorales, tunes = embedded._chorales, embedded._tunes
    monkeypatch.setattr(embedded, "_chorales", lambda library: list(chorales(library))[::40])
    monkeypatch.setattr(embedded, "_tunes", lambda library: [*list(tunes(library))[::40], next(tunes(library))])


def test_files_by_genre_written_once(small: None, tmp_path: Path) -> None:
    calls = []
    counts = write_embedded_corpus(tmp_path, workers=1, progress=lambda done, total: calls.append((done, total)))
    files = sorted(tmp_path.rglob("*.mid"))
    assert Counter(file.relative_to(tmp_path / "music21").parts[0] for file in files) == counts
    assert {"chorale", "hornpipe", "jig", "reel"} <= counts.keys()
    assert calls[-1][0] == calls[-1][1] == len(calls)
    found = [facts(ScoreTick.from_midi(file.read_bytes())) for file in files]
    assert len({fact.content_hash for fact in found}) == len(files)
    assert all(fact.notes >= 16 for fact in found)
    times = [file.stat().st_mtime_ns for file in files]
    calls.clear()
    assert write_embedded_corpus(tmp_path, workers=1) == counts
    assert [file.stat().st_mtime_ns for file in files] == times
    assert calls == []


def test_an_interruption_leaves_nothing_half_done(small: None, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_embedded_corpus(tmp_path, workers=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_of_another_version_is_written_again(small: None, tmp_path: Path) -> None:
    stamp = tmp_path / "music21" / ".written.json"
    stamp.parent.mkdir()
    stamp.write_text(json.dumps({"music21": "0", "layout": 0, "pieces": {}}))
    assert write_embedded_corpus(tmp_path, workers=1)["reel"] > 0


def convert_or_die(source: embedded.Source) -> object:
    if source.title == "Deadly" and isinstance(source.content, Path):
        if not source.content.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        source = replace(source, content=source.content.read_text())
    return CONVERT(source)


def test_a_piece_that_kills_its_converter_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tunes, content = embedded._tunes, tmp_path / "tune.abc"
    deadly = embedded.Source("reel", "A book", "Deadly", content)
    assert LIBRARY
    assert LIBRARY.submodule_search_locations
    harmless = next(iter(tunes(Path(LIBRARY.submodule_search_locations[0], "corpus"))))
    monkeypatch.setattr(embedded, "_chorales", lambda library: [])
    monkeypatch.setattr(embedded, "_tunes", lambda library: [harmless, deadly])
    monkeypatch.setattr(embedded, "_convert", convert_or_die)
    assert sum(write_embedded_corpus(tmp_path, workers=1).values()) == 1
    assert re.search(r"1 of the embedded corpus .* tried again the next time: Deadly \(.* code -9\)\.", caplog.text)
    content.write_text("X:1\nT:Deadly\nR:reel\nM:4/4\nL:1/8\nK:C\n" + "cdef gabc|" * 4)
    caplog.clear()
    assert sum(write_embedded_corpus(tmp_path, workers=1).values()) == 2
    assert (tmp_path / "music21" / "reel" / "A book" / "Deadly.mid").exists()
    assert caplog.text == ""


def test_without_music21_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(MusicAssetsError, match=r"pip install 'music-assets\[demo\]'"):
        write_embedded_corpus(tmp_path)


@pytest.mark.parametrize("name", ["bwv269", "bwv66.6", "bwv10.7"])
def test_a_chorale_has_the_notes_that_music21_hears(name: str) -> None:
    from music21 import converter, stream

    assert LIBRARY
    assert LIBRARY.submodule_search_locations
    file = Path(LIBRARY.submodule_search_locations[0], "corpus", "bach", f"{name}.mxl")
    score = embedded._chorale_score(file)
    music = converter.parseFile(file, forceSource=True, storePickle=False)
    assert isinstance(music, stream.Score)
    music = music.expandRepeats()
    expected = Counter()
    for part in music.parts:
        for note in part.flatten().stripTies().notes:
            expected[Fraction(note.offset), Fraction(note.quarterLength), note.pitches[0].midi] += 1
    upbeat = Fraction(music.parts[0].getElementsByClass("Measure")[0].paddingLeft)
    found = Counter(
        (Fraction(note.time, score.tpq) - upbeat, Fraction(note.duration, score.tpq), note.pitch)
        for track in score.tracks
        for note in track.notes
    )
    assert found == expected


def test_a_tune_starts_with_its_upbeat_and_without_accompaniment(capfd: pytest.CaptureFixture[str]) -> None:
    header = "X:1\nT:Test\nM:4/4\nL:1/8\nK:C\n"
    score = embedded._tune_score(f'{header}"4"GA|"C"B2cd efga|!4!b2ag "2"fedc|B2cd efga|b2ag fedc|]\n')
    assert len(score.tracks) == 1
    notes = score.tracks[0].notes.numpy()
    assert [round(time / score.tpq, 1) for time in notes["time"][:4]] == [3.0, 3.5, 4.0, 5.0]
    assert capfd.readouterr() == ("", "")
