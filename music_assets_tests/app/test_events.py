"""What is said of what goes wrong."""

import tempfile

import gradio as gr
import pytest

from music_assets.app.events import UNFORESEEN, shown, without_folders
from music_assets.foundation.errors import MusicAssetsError


@pytest.fixture(params=["plain", "with some spaces", "odd, (new) folder: 1"])
def folder(tmp_path, request):
    made = tmp_path / request.param / "more of it"
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("{}/song.mid is damaged.", "song.mid is damaged."),
        ("No checkpoint at {}/gpt/run/best: train one.", "No checkpoint at best: train one."),
        ("{}/champion.json names {}/run/best, which is gone.", "champion.json names best, which is gone."),
        (
            "It lacks a file (No such file: '{}/a b.mid').",
            "It lacks a file (No such file: 'a b.mid').",
        ),
        ("It lies in {} and/or elsewhere.", "It lies in more of it and/or elsewhere."),
    ],
)
def test_no_folder_is_told(folder, sentence, told):
    assert without_folders(sentence.format(folder, folder)) == told


def test_folders_that_are_not_there_are_not_told_either():
    assert without_folders("/srv/none/such/x.mid and /nowhere/y.mid are gone.") == "x.mid and y.mid are gone."
    known = tempfile.gettempdir()
    assert without_folders(f"{known}/music-assets-x1/song.mid is gone.") == "song.mid is gone."


@pytest.mark.parametrize("sentence", ["A 3/4 bar and/or 6/8.", "runs/one is relative.", "either / or / both", "/", ""])
def test_what_is_no_absolute_path_stays(sentence):
    assert without_folders(sentence) == sentence


def test_a_long_text_of_slashes_is_soon_done():
    for text in ("/" * 100_000, "/a " * 10_000, "/" + "a" * 10_000 + "/b"):
        without_folders(text)


def test_an_error_is_one_sentence_without_a_folder(folder):
    def known() -> None:
        raise MusicAssetsError(f"{folder}/song.mid is damaged.")

    def unknown() -> None:
        raise ValueError(f"{folder}")

    for function, told in ((known, "song.mid is damaged."), (unknown, UNFORESEEN)):
        with pytest.raises(gr.Error) as caught:
            shown(function)()
        assert caught.value.message == told
