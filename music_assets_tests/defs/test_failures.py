"""How a step ends: what a user can mend is one sentence and final; a bug keeps its traceback and is tried again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from music_assets.checkpoints.runs import CheckpointError
from music_assets.defs import model
from music_assets.tokens.shards import read_shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets_tests.defs.conftest import TINY, Graph, failure, graph_on
from music_assets_tests.midi_files import write_corpus

RETRIES = 2
"""Of the asset ``checkpoint``."""


def planted(*arguments: Any, **options: Any) -> None:
    """A bug as numpy reports it: a ValueError."""
    np.add(np.zeros(2), np.zeros(3))


def retries(done: dg.ExecuteInProcessResult) -> int:
    return len(done.filter_events(lambda event: event.is_step_up_for_retry))


def is_a_bug(done: dg.ExecuteInProcessResult) -> bool:
    """Whether the run failed by the planted bug, with its traceback."""
    (event,) = done.filter_events(lambda event: event.is_step_failure)
    data = event.step_failure_data
    assert data.error
    text = data.error.to_string()
    return data.user_failure_data is None and "in planted" in text and "operands could not be broadcast" in text


@pytest.fixture(scope="module")
def tokenised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A genre with shards."""
    for graph in graph_on(tmp_path_factory.mktemp("data")):
        write_corpus(graph.paths.raw, {"reel": 30}, bars=4)
        graph.ingest()
        graph.tokenise("reel")
        yield graph


@pytest.mark.slow
def test_a_bug_of_the_network_is_tried_again(tokenised: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("music_assets.models.gpt.GPT.forward", planted)
    done = tokenised.run("checkpoint", partition="gpt", config=TINY)
    assert is_a_bug(done)
    assert retries(done) == RETRIES


@pytest.mark.slow
def test_a_bug_of_the_asset_is_tried_again(tokenised: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("music_assets.defs.model.read_shard", planted)
    done = tokenised.run("checkpoint", partition="gpt", config=TINY)
    assert is_a_bug(done)
    assert retries(done) == RETRIES


@pytest.mark.slow
def test_a_bug_of_the_encoder_costs_its_files_and_is_tried_again_by_the_next_run(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    write_corpus(graph.paths.raw, {"reel": 30}, bars=4)
    graph.ingest()
    with monkeypatch.context() as patch:
        patch.setattr("music_assets.tokens.documents.encode_measured", planted)
        graph.tokenise("reel")
    assert "in planted" in caplog.text
    shard = graph.paths.shard("reel", "original")
    bugged = read_shard(shard)
    assert (len(bugged), len(bugged.failed)) == (0, 30)
    graph.tokenise("reel")
    assert (len(read_shard(shard)), read_shard(shard).failed) == (30, {})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"network": {"width": 100, "heads": 3}}, "choose a multiple of 6"),
        ({"device": "abacus"}, "The device 'abacus' cannot be used"),
    ],
)
def test_a_network_that_cannot_be_is_one_sentence_and_not_tried_again(
    tokenised: Graph, settings: dict[str, Any], sentence: str
):
    done = tokenised.run("checkpoint", partition="gpt", config=TINY | settings)
    assert sentence in failure(done)
    assert retries(done) == 0


@pytest.fixture
def champion(tmp_path: Path) -> Path:
    """The vocabulary of a champion that knows two genres."""
    file = tmp_path / "run" / "best" / "vocabulary.json"
    file.parent.mkdir(parents=True)
    file.write_text(Vocabulary(("waltz", "reel")).to_json())
    (tmp_path / "champion.json").write_text(json.dumps({"checkpoint": "run/best"}))
    return file


def genres_of_a_training(folder: Path) -> tuple[str, ...]:
    return model._vocabulary(dg.build_asset_context(), folder, {"air", "reel"}).genres


def test_new_genres_come_after_those_of_the_champion(champion: Path, tmp_path: Path):
    assert genres_of_a_training(tmp_path) == ("waltz", "reel", "air")


def test_a_champion_of_another_vocabulary_version_is_replaced_in_words(
    champion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    champion.write_text(json.dumps(json.loads(champion.read_text()) | {"fingerprint": "0123456789abcdef"}))
    assert genres_of_a_training(tmp_path) == ("air", "reel")
    assert "this training replaces that champion" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "", "{}", "[]"])
def test_a_champion_that_cannot_be_read_is_no_reason_for_a_new_order(champion: Path, tmp_path: Path, text: str | None):
    champion.unlink() if text is None else champion.write_text(text)
    with pytest.raises(CheckpointError, match=r"in which order genres have their ids .*: put its file back, or delete"):
        genres_of_a_training(tmp_path)
