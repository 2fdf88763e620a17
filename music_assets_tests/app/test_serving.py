"""A studio that is followed by one of other champions."""

from pathlib import Path

import pytest
import requests
from gradio_client import Client

from music_assets.app import serving
from music_assets.app.serving import LULL, PAUSE, Succession, serve
from music_assets.app.studio import open_studio
from music_assets.checkpoints.runs import set_champion
from music_assets.checkpoints.storage import save_checkpoint
from music_assets.paths import DataPaths
from music_assets_tests.app.studios import event_loops_closed
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.ports import free_port


def crown(paths: DataPaths, run: str, architecture: str = "gpt") -> Path:
    """Make a run's checkpoint the champion."""
    checkpoint, folder = untrained(architecture), paths.checkpoints(architecture)
    facts = checkpoint.facts.model_copy(update={"run": run})
    save_checkpoint(folder / run / "best", checkpoint.network, checkpoint.vocabulary, facts)
    set_champion(folder, folder / run / "best")
    return folder / run / "best"


@pytest.fixture
def paths(tmp_path) -> DataPaths:
    paths = DataPaths(tmp_path)
    crown(paths, "first")
    return paths


@pytest.fixture
def succession(paths) -> Succession:
    return Succession(open_studio(paths))


def after_a_lull(succession: Succession):
    for _ in range(LULL - 1):
        assert succession.look() is None
    return succession.look()


def test_nothing_follows_the_same_champion(succession):
    assert after_a_lull(succession) is None
    assert succession.look() is None


@pytest.mark.parametrize("architecture", ["gpt", "pianoroll"])
def test_another_champion_follows(succession, paths, architecture):
    crown(paths, "second", architecture)
    fresh = after_a_lull(succession)
    assert fresh is not None
    assert [model.facts.run for model in fresh.models] == (["second"] if architecture == "gpt" else ["first", "second"])
    assert after_a_lull(Succession(fresh)) is None
    crown(paths, "third", architecture)
    assert after_a_lull(Succession(fresh)) is not None


def test_a_piano_that_is_served_itself_is_looked_at_once(paths):
    crown(paths, "first", "pianoroll")
    succession = Succession(open_studio(paths, "pianoroll"))
    assert after_a_lull(succession) is None
    crown(paths, "second", "pianoroll")
    fresh = succession.look()
    assert fresh is not None
    assert [model.facts.run for model in fresh.models] == ["second"]


def test_it_waits_until_nobody_has_been_there_for_a_while(succession, paths):
    crown(paths, "second")
    studio = succession.studio
    studio.pages.open("one")
    for _ in range(2 * LULL):
        assert succession.look() is None
    flag = studio.stops.begin("two", "compose")
    studio.pages.close("one")
    for _ in range(2 * LULL):
        assert succession.look() is None
    studio.stops.end("two", "compose", flag)
    assert after_a_lull(succession) is not None


def test_it_does_not_follow_if_a_page_is_opened_while_it_is_read(succession, paths, monkeypatch):
    crown(paths, "second")

    def slow(*asked):
        succession.studio.pages.open("one")
        return open_studio(*asked)

    monkeypatch.setattr(serving, "open_studio", slow)
    assert after_a_lull(succession) is None


@pytest.mark.parametrize("broken", ["weights", "pointer", "gone"])
def test_a_champion_that_cannot_be_read_is_left_out(succession, paths, broken, caplog):
    best, pointer = crown(paths, "second"), paths.checkpoints("gpt") / "champion.json"
    named, weights = pointer.read_text(), (best / "model.safetensors").read_bytes()
    if broken == "weights":
        (best / "model.safetensors").write_bytes(b"nothing")
    elif broken == "pointer":
        pointer.write_text("{")
    else:
        pointer.unlink()
    assert after_a_lull(succession) is None
    for _ in range(2 * (PAUSE + LULL)):
        assert succession.look() is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert "\n" not in record.getMessage()
    pointer.write_text(named)
    (best / "model.safetensors").write_bytes(weights)
    found = [succession.look() for _ in range(PAUSE + LULL)]
    assert any(found)


class Enough(Exception):
    pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_command_serves_what_is_champion_now(paths, monkeypatch):
    monkeypatch.setattr(serving, "LULL", 2)
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.1)
    port, seen, opened = free_port(), [], []

    def recorded(*asked):
        opened.append(open_studio(*asked))
        return opened[-1]

    def tell(address: str) -> None:
        page = requests.get(address, timeout=60).text
        seen.append([word for word in ("`first`", "`second`", "`piano`", '"Piano"') if word in page])
        client = Client(address, verbose=False)
        assert Path(client.predict({"bars": 1}, api_name="/compose")).stat().st_size
        client.close()
        assert str(port) in address
        if len(seen) == 3:
            raise Enough
        if len(seen) == 1:
            crown(paths, "second")
        else:
            crown(paths, "piano", "pianoroll")

    monkeypatch.setattr(serving, "open_studio", recorded)
    with event_loops_closed(), pytest.raises(Enough):
        serve(paths, "gpt", port, tell)
    assert seen == [["`first`"], ["`second`"], ["`second`", "`piano`", '"Piano"']]
    emptied = [next(studio.model.checkpoint.network.parameters()).is_meta for studio in opened]
    assert emptied == [True, True, False]
