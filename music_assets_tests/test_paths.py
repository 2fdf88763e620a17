"""Where everything lies."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.publishing import publish
from music_assets.paths import DataPaths, file_name, named_folder


def test_the_data_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUSIC_ASSETS_DATA", str(tmp_path))
    assert DataPaths.from_environment().raw == tmp_path / "raw"
    monkeypatch.delenv("MUSIC_ASSETS_DATA")
    assert DataPaths.from_environment().root == Path(os.getcwd()) / "data"  # noqa: PTH109


def test_an_empty_variable_is_unset_and_a_tilde_is_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for named, root in (
        ("", tmp_path / "data"),
        ("~/music", tmp_path / "home/music"),
        ("~root", Path("~root").expanduser()),
    ):
        monkeypatch.setenv("MUSIC_ASSETS_DATA", named)
        assert DataPaths.from_environment().root == root.resolve()
    monkeypatch.setenv("DAGSTER_HOME", "")
    assert named_folder("DAGSTER_HOME", ".") == tmp_path
    monkeypatch.setenv("MUSIC_ASSETS_DATA", "~nobody-at-all/music")
    with pytest.raises(MusicAssetsError, match="MUSIC_ASSETS_DATA is ~nobody-at-all/music, but nobody has that home"):
        DataPaths.from_environment()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_a_name_of_any_length_fits_and_stays_apart(name: str):
    assert len(file_name(name).encode()) <= 200
    assert (file_name(name) == name) == (len(name.encode()) <= 200)
    assert file_name(name + "a") != file_name(name + "b")


def test_a_genre_of_any_length_has_its_places(tmp_path: Path):
    genre, paths = "ジャズ" * 90, DataPaths(tmp_path)
    for target in (paths.genre_pieces(genre), paths.shard(genre, "original"), paths.samples("gpt", genre)):
        with publish(target) as fresh:
            fresh.write_text("it fits")
        assert target.read_text() == "it fits"
