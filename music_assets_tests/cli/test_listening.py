"""`music-assets listen` as raters meet it, on a network that is not trained."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from music_assets.checkpoints.runs import set_champion
from music_assets.checkpoints.storage import save_checkpoint
from music_assets.cli import main
from music_assets.cli.commands import app
from music_assets.evaluation.listening import ListeningFiles, read_material, read_ratings
from music_assets.foundation.errors import MusicAssetsError
from music_assets.generation.request import Wishes
from music_assets.generation.samples import generate_samples
from music_assets.paths import DataPaths
from music_assets.tokens.shards import write_shard
from music_assets_tests.generation.checkpoints import VOCABULARY, untrained
from music_assets_tests.training.corpus import shards

pytestmark = pytest.mark.slow

ANSWERS = "4\n3\n2\nr\n"


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> DataPaths:
    """A champion with two samples of each of two genres, and three test pieces of each."""
    paths, checkpoint = DataPaths(tmp_path_factory.mktemp("data")), untrained()
    folder = paths.checkpoints("gpt")
    save_checkpoint(folder / "run" / "best", checkpoint.network, checkpoint.vocabulary, checkpoint.facts)
    set_champion(folder, folder / "run" / "best")
    for genre, made in zip(VOCABULARY.genres, shards(18, transpositions=("original",)), strict=True):
        shard = replace(made, genre=genre)
        write_shard(paths.shard(genre, "original"), shard, [shard.ids])
        generate_samples(checkpoint, genre, Wishes(bars=8, count=2), paths.samples("gpt", genre), workers=1)
    return paths


@pytest.fixture(scope="module")
def session(paths) -> str:
    done = CliRunner().invoke(app, ["listen", "prepare", "--count", "2"], env={"MUSIC_ASSETS_DATA": str(paths.root)})
    assert done.exit_code == 0, done.output
    found = re.search(r"^session  (\w+): 4 excerpts of [\d.]+ s$", done.output, re.MULTILINE)
    assert found is not None
    assert f"music-assets listen rate {found[1]} --rater NAME" in done.output
    return found[1]


@pytest.fixture
def files(paths) -> ListeningFiles:
    """No ratings yet."""
    files = ListeningFiles(paths.listening("gpt"))
    files.ratings.unlink(missing_ok=True)
    return files


@pytest.fixture
def listen(paths, monkeypatch):
    monkeypatch.setenv("MUSIC_ASSETS_DATA", str(paths.root))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str, said: str = "") -> str:
        done = CliRunner().invoke(app, ["listen", *arguments], input=said)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_session_is_a_folder_of_neutral_names_with_the_truth_beside_it(session, files):
    assert sorted(file.name for file in files.session(session).iterdir()) == ["01.ogg", "02.ogg", "03.ogg", "04.ogg"]
    excerpts = read_material(files, session).excerpts
    assert sorted((one.genre, one.is_real) for one in excerpts) == [
        ("jig", False), ("jig", True), ("reel", False), ("reel", True),
    ]  # fmt: skip


def test_rating_goes_on_where_it_ended(session, files, listen):
    first = listen("rate", session, "--rater", "Ann", said=ANSWERS + "5\n")
    assert f"1 of 4: play {files.session(session) / '01.ogg'}" in first
    assert "Stopped: what you have said is kept" in first
    assert [one.excerpt for one in read_ratings(files.ratings).ratings] == ["01"]
    last = listen("rate", str(files.session(session)), "--rater", " Ann ", said="1\n2\n3\ng\n" * 3)
    assert "01.ogg" not in last
    assert "2 of 4: play" in last
    assert "Thank you, Ann: you have rated all 4 excerpts." in last
    given = read_ratings(files.ratings).ratings
    assert [(one.excerpt, one.rater, one.is_real) for one in given] == [
        ("01", "Ann", True), ("02", "Ann", False), ("03", "Ann", False), ("04", "Ann", False),
    ]  # fmt: skip
    assert [(one.musicality, one.coherence, one.creativity) for one in given[:2]] == [(4, 3, 2), (1, 2, 3)]
    assert "Thank you" in listen("rate", session, "--rater", "Ann")
    assert len(read_ratings(files.ratings).ratings) == 4
    assert "1 of 4" in listen("rate", session, "--rater", "Bob")


def test_what_is_no_answer_is_asked_again(session, files, listen):
    told = listen("rate", session, "--rater", "Ann", said="6\nfour\n4\n0\n3\n 2 \nperhaps\nGENERATED\n")
    assert told.count("say 1, 2, 3, 4 or 5.") == 3
    assert told.count("say r for real or g for generated.") == 1
    (given,) = read_ratings(files.ratings).ratings
    assert (given.musicality, given.coherence, given.creativity, given.is_real) == (4, 3, 2, False)


def test_nothing_that_is_asked_tells_the_truth(session, files, listen):
    told = listen("rate", session, "--rater", "Ann", said=ANSWERS * 4)
    for one in read_material(files, session).excerpts:
        assert one.piece not in told
        assert one.genre not in told


def test_results_are_a_table(session, files, listen):
    excerpts = read_material(files, session).excerpts
    for rater in ("Ann", "Bob"):
        said = "".join("5\n4\n3\nreal\n" if one.is_real else "1\n2\n3\ngen\n" for one in excerpts)
        listen("rate", session, "--rater", rater, said=said)
    told = listen("results")
    assert re.search(r"musicality.* 5\.00 \[5\.00 to 5\.00\].* 1\.00 .* -4\.00 .* 1\.00 ", told)
    assert re.search(r"creativity.* 3\.00 .* –", told)
    assert "right guesses 100% [100% to 100%], by chance 50%" in told
    assert "8 ratings by 2 raters, of 2 real and 2 generated pieces" in told
    assert "One person rated" not in told


def test_results_tell_what_is_left_out(session, files, listen):
    listen("rate", session, "--rater", "Ann", said=ANSWERS)
    line = json.loads(files.ratings.read_text("utf-8")) | {"session": "gone"}
    with files.ratings.open("a", encoding="utf-8") as file:
        file.write(f'{json.dumps(line)}\n{{"session": "to')
    told = listen("results")
    assert "ratings.jsonl is damaged in line 3, which is left out." in told
    assert "Left out: 1 ratings of excerpts that are gone, 0 of other checkpoints." in told
    assert "One person rated" in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["results"], "There are no ratings yet of the checkpoint untrained"),
        (["prepare", "--count", "9"], "are asked for: ask for fewer, add pieces, or generate more samples."),
        (["prepare", "--architecture", "lstm"], "train lstm first"),
        (["results", "--architecture", "polka"], "polka"),
        (["rate", "none", "--rater", "Ann"], "There is no session none in "),
        (["rate", "SESSION", "--rater", " "], "--rater cannot be ' '"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, sentence, session, files, listen):
    with pytest.raises(MusicAssetsError, match=re.escape(sentence)) as raised:
        listen(*(session if one == "SESSION" else one for one in arguments))
    assert "\n" not in str(raised.value)


def test_an_error_ends_the_command_with_its_sentence(files, paths, monkeypatch, capsys):
    monkeypatch.setenv("MUSIC_ASSETS_DATA", str(paths.root))
    monkeypatch.setattr(sys, "argv", ["music-assets", "listen", "rate", "none", "--rater", "Ann"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err.startswith("music-assets: There is no session none in ")


@pytest.mark.timeout(60)
def test_ctrl_c_at_a_terminal_keeps_what_was_said(session, files, paths):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "music_assets", "listen", "rate", session, "--rater", "Ann"],
        cwd=Path(__file__).parents[2], env=os.environ | {"MUSIC_ASSETS_DATA": str(paths.root)},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)

    told = b""

    def read_until(words: bytes) -> None:
        nonlocal told
        while words not in told:
            told += os.read(ours, 1000)
        told = told.partition(words)[2]

    try:
        read_until(b"hear it again): ")
        os.write(ours, ANSWERS.encode())
        read_until(b"2 of 4")
        read_until(b"hear it again): ")
        time.sleep(0.5)  # between the question and the wait for an answer Python hears no signal
        process.send_signal(signal.SIGINT)
        read_until(b"Stopped: what you have said is kept")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert [one.excerpt for one in read_ratings(files.ratings).ratings] == ["01"]
