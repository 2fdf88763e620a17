"""One file's way through the index, told in words."""

import os
import shutil
import time
import unicodedata
from pathlib import Path

import pytest

from music_assets.corpus.index.build import build_index
from music_assets.corpus.index.database import NoIndex
from music_assets.corpus.index.settings import IndexSettings
from music_assets.corpus.index.story import MENTIONED, index_path, story
from music_assets.corpus.reading.scan import scan
from music_assets.foundation.errors import MusicAssetsError
from music_assets.paths import DataPaths
from music_assets_tests.midi_files import make_tune, write_corpus, write_tune

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> DataPaths:
    """Twelve reels, one of them also copied, transposed and played otherwise; a song without a label; a broken file."""
    paths = DataPaths(tmp_path_factory.mktemp("data"))
    write_corpus(paths.raw, {"reel": 12}, bars=32)
    reels = paths.raw / "tunes" / "reel" / "Reel Artist 0"
    copy = make_tune(style="reel", seed=0, bars=32, key=-5)
    copy.tracks[0].name = "other bytes"
    copy.dump_midi(str(reels / "Air 0.1.mid"))
    write_tune(reels / "Air 0.2.mid", style="reel", seed=0, bars=32, key=2)
    write_tune(reels / "Air 0.3.mid", style="reel", seed=77, bars=32)
    write_tune(paths.raw / "mine" / "Nobody Known" / "Some Song.mid", style="band", seed=5)
    (paths.raw / "mine" / "page.mid").write_bytes(b"<!DOCTYPE html>")
    scan(paths.raw, paths.files, workers=1)
    build_index(paths, IndexSettings(minimum_pieces=1))
    return paths


def test_a_song_with_versions(paths: DataPaths) -> None:
    told = dict(story(paths, "tunes/reel/Reel Artist 0/Air 0.mid"))
    assert told["verdict"] == "ok."
    assert told["same music"] == "tunes/reel/Reel Artist 0/Air 0.1.mid"
    assert told["near-duplicates"] == "tunes/reel/Reel Artist 0/Air 0.2.mid"
    assert told["same song"].startswith("tunes/reel/Reel Artist 0/Air 0.3.mid (")
    assert told["labels"].splitlines()[0] == "reel 0.90 (folder)"
    assert told["genre"] == "reel, says folder"
    stories = [dict(story(paths, f"tunes/reel/Reel Artist 0/Air 0{n}.mid")) for n in ("", ".1", ".2")]
    shards = sorted(one["shards"].split(":")[0] for one in stories)
    assert shards == [
        "in none",
        "in none",
        "meant for those of reel",
    ]  # a copy, a near-duplicate, and what stands for them


def test_a_file_without_a_label_and_one_that_is_no_midi(paths: DataPaths) -> None:
    told = dict(story(paths, "mine/Nobody Known/Some Song.mid"))
    assert (told["labels"], told["genre"]) == ("none", "none: no source knows it")
    assert told["shards"] == "in none: no label"
    assert dict(story(paths, "mine/page.mid"))["verdict"].startswith("not MIDI. The file starts with")


def test_long_lists_are_cut(tmp_path: Path) -> None:
    paths = DataPaths(tmp_path)
    for number in range(MENTIONED + 4):
        score = make_tune(style="reel", bars=16)
        score.tracks[0].name = str(number)
        file = paths.raw / "tunes" / "reel" / f"Air {number}.mid"
        file.parent.mkdir(parents=True, exist_ok=True)
        score.dump_midi(str(file))
    scan(paths.raw, paths.files, workers=1)
    build_index(paths, IndexSettings(minimum_pieces=1))
    copies = dict(story(paths, "tunes/reel/Air 0.mid"))["same music"].splitlines()
    assert len(copies) == MENTIONED + 1
    assert copies[-1] == "and 3 more"


def test_paths_as_people_type_them(paths: DataPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths.raw / "mine")
    assert index_path("page.mid", paths.raw) == "mine/page.mid"
    assert index_path(str(paths.raw / "mine" / "page.mid"), paths.raw) == "mine/page.mid"
    monkeypatch.chdir(paths.root.parent)
    assert index_path("mine/page.mid", paths.raw) == "mine/page.mid"
    with pytest.raises(
        MusicAssetsError, match=r"The index has no file mine/pages.mid; .* Did you mean mine/page.mid\?"
    ):
        story(paths, "mine/pages.mid")


@pytest.fixture
def drop(tmp_path: Path) -> DataPaths:
    """One tune that is indexed, with its name in NFD, as some disks spell it."""
    paths = DataPaths(tmp_path / "data")
    write_tune(paths.raw / "mine" / "jazz" / unicodedata.normalize("NFD", "Café ガラス.mid"))
    scan(paths.raw, paths.files, workers=1)
    build_index(paths, IndexSettings(minimum_pieces=1))
    return paths


def refusal(paths: DataPaths, path: str | Path) -> str:
    with pytest.raises(MusicAssetsError, match=r"^[^\n]*$") as caught:
        story(paths, str(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("song.smf", "'mine/jazz/song.smf' is not read, for its name ends in none of .mid, .midi, .kar"),
        ("song.mid ", "'mine/jazz/song.mid ' is not read, for its name ends in none of"),
        ("song.mid.bak", "rename it if it is MIDI"),
        ("song.kar.gz", "it is an archive: unpack it"),
        ("songs.ZIP", "it is an archive: unpack it"),
        (".hidden.mid", ".hidden.mid begins with a dot and a letter, and such names are passed over"),
        (".Trash/song.mid", ".Trash begins with a dot and a letter"),
    ],
)
def test_a_file_that_no_scan_reads(drop: DataPaths, name: str, said: str) -> None:
    write_tune(drop.raw / "mine" / "jazz" / name)
    scan(drop.raw, drop.files, workers=1)
    build_index(drop)
    assert said in refusal(drop, drop.raw / "mine" / "jazz" / name)
    assert said in refusal(drop, f"mine/jazz/{name}")


def test_what_is_no_file(drop: DataPaths) -> None:
    folder = drop.raw / "mine" / "jazz"
    (folder / "lost.mid").symlink_to(folder / "nowhere.mid")
    (folder / "round.mid").symlink_to(folder / "round.mid")
    os.mkfifo(folder / "pipe.mid")
    assert refusal(drop, folder) == "mine/jazz is a folder, in which the index has 1 files: name one of them."
    assert "in which the index has 1 files" in refusal(drop, drop.raw)
    assert "is a link that leads nowhere" in refusal(drop, folder / "lost.mid")
    assert "cannot be looked at (Too many levels of symbolic links)" in refusal(drop, folder / "round.mid")
    assert "is a pipe, a socket or a device" in refusal(drop, folder / "pipe.mid")


def test_a_file_that_lies_elsewhere(drop: DataPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tune(tmp_path / "song.mid")
    write_tune(drop.downloads / "song.mid")
    place = f"Files are read in the drop folder {drop.raw}, and"
    assert refusal(drop, "song.mid") == f"{place} song.mid lies elsewhere: copy it there."
    assert "lies among the downloads, which no scan reads" in refusal(drop, "data/downloads/song.mid")


def test_a_file_that_is_not_indexed_yet(drop: DataPaths) -> None:
    arrival = write_tune(drop.raw / "mine" / "jazz" / "New.mid", seed=1)
    assert "seconds ago and may still be copied" in refusal(drop, arrival)
    earlier = time.time() - 3600
    os.utime(arrival, (earlier, earlier))
    assert refusal(drop, arrival) == "mine/jazz/New.mid is not in the index yet: run `music-assets corpus update`."
    scan(drop.raw, drop.files, workers=1)
    assert "has been read since the index was built: run `music-assets corpus relabel`" in refusal(drop, arrival)


def test_a_file_that_is_indexed_under_another_spelling(drop: DataPaths) -> None:
    (drop.raw / "also").symlink_to(drop.raw / "mine")
    typed = "Café ガラス.mid"
    indexed = f"mine/jazz/{unicodedata.normalize('NFD', typed)}"
    for path in (
        f"mine/jazz/{typed}",
        drop.raw / "mine" / "jazz" / typed,
        drop.raw / "also" / Path(indexed).relative_to("mine"),
    ):
        assert dict(story(drop, str(path)))["file"] == indexed


def test_what_has_happened_to_a_file_since_it_was_read(drop: DataPaths) -> None:
    path = "mine/jazz/" + unicodedata.normalize("NFD", "Café ガラス.mid")
    assert "since then" not in dict(story(drop, path))
    os.utime(drop.raw / path, (1, 1))
    assert dict(story(drop, path))["since then"].startswith("the file has changed: `music-assets corpus update`")
    shutil.rmtree(drop.raw / "mine")
    assert dict(story(drop, path))["since then"].startswith("the file is gone: `music-assets corpus update`")


def test_the_shards_have_the_last_word(drop: DataPaths) -> None:
    path = "mine/jazz/" + unicodedata.normalize("NFD", "Café ガラス.mid")
    told = dict(story(drop, path, lambda genre, piece_id: f"in none: {genre} {len(piece_id)}"))
    assert told["shards"] == "in none: jazz 32"


def test_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(NoIndex, match="no index of this version"):
        story(DataPaths(tmp_path), "a.mid")
