"""One file's way through the index, told in words."""

from pathlib import Path

import pytest

from music_assets.corpus.index import IndexSettings, build_index
from music_assets.corpus.scan import scan
from music_assets.corpus.story import MENTIONED, index_path, story
from music_assets.paths import DataPaths
from music_assets_tests.midi_files import make_tune, write_corpus, write_tune


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
    assert shards == ["in none", "in none", "in those of reel"]  # a copy, a near-duplicate, and what stands for them


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
    with pytest.raises(ValueError, match=r"The index has no file mine/pages.mid; .* Did you mean mine/page.mid\?"):
        story(paths, "mine/pages.mid")


def test_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no index of this version"):
        story(DataPaths(tmp_path), "a.mid")
