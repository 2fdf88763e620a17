"""Lakh, from a mirror on this machine into the graph."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from music_assets.definitions import defs
from music_assets.defs.automation import drop_folder
from music_assets.defs.resources import Data
from music_assets_tests.corpus.fetch.test_archives import pack
from music_assets_tests.defs.conftest import Graph, failure
from music_assets_tests.file_server import FileServer, Manner, file_server
from music_assets_tests.midi_files import make_tune

LABEL = "msd-MASD-styleAssignment.cls"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    songs = {
        f"clean_midi/{artist}/Tune {seed}.mid": make_tune(seed=seed, bars=4).dumps_midi()
        for seed, artist in enumerate(["Abba", "Queen", "Queen"])
    }
    with file_server() as server:
        server.files["clean_midi.tar.gz"] = pack(tmp_path / "served", "tar.gz", songs).read_bytes()
        server.files[LABEL] = b"TRAAAAK128F9318786\tMetal_Heavy\n"
        yield server


def settings(server: FileServer, **more: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(server.files["clean_midi.tar.gz"]).hexdigest()
    return {"mirror": server.url, "sha256": sha256, "labels": [LABEL]} | more


def test_lakh_is_fetched_and_then_read(server: FileServer, graph: Graph) -> None:
    graph.make("lakh_archive", config=settings(server))
    facts = {name: value.value for name, value in graph.latest("lakh_archive").metadata.items()}
    assert facts["files"] == 3
    assert facts["bytes"] == sum(path.stat().st_size for path in graph.paths.raw.rglob("*.mid"))
    assert facts["sha256"] == settings(server)["sha256"]
    assert facts["bytes_downloaded"] == server.sent
    assert facts["path"] == str(graph.paths.raw / "clean_midi")
    assert "Colin Raffel" in str(facts["licence"])
    assert "CC-BY 4.0" in str(facts["licence"])
    assert (graph.paths.labels / LABEL).read_bytes() == server.files[LABEL]
    graph.make("raw_midi")
    assert graph.latest("raw_midi").metadata["files"].value == 3
    graph.make("lakh_archive", config=settings(server))
    assert graph.latest("lakh_archive").metadata["bytes_downloaded"].value == 0
    assert len(server.requests) == 2


def test_a_failure_is_one_sentence(server: FileServer, graph: Graph) -> None:
    server.manners["clean_midi.tar.gz"] = [Manner(status=404)]
    words = failure(graph.run("lakh_archive", config=settings(server)))
    assert words.startswith(f"{server.url}/clean_midi.tar.gz cannot be fetched, the server answers 404 Not Found")
    words = failure(graph.run("lakh_archive", config=settings(server, labels=["genres"])))
    assert words.startswith("There is no label file 'genres': choose of")
    words = failure(graph.run("lakh_archive", config=settings(server, archive="missing.tar.gz")))
    assert words.startswith("There is no archive missing.tar.gz")


def test_a_label_file_that_cannot_be_had_costs_nothing_else(server: FileServer, graph: Graph) -> None:
    labels = ["msd_tagtraum_cd1.cls", LABEL]
    words = failure(graph.run("lakh_archive", config=settings(server, labels=labels)))
    assert words.startswith("clean_midi is in place, but not every label file: ")
    assert words.endswith("leave it out of labels in lakh_archive's configuration.")
    assert len(list(graph.paths.raw.rglob("*.mid"))) == 3
    assert (graph.paths.labels / LABEL).exists()
    graph.make("lakh_archive", config=settings(server))


def test_nothing_starts_a_download_by_itself(graph: Graph) -> None:
    assert defs.resolve_asset_graph().get(dg.AssetKey("lakh_archive")).automation_condition is None
    for job in defs.jobs or []:
        keys = defs.resolve_job_def(job.name).asset_layer.selected_asset_keys
        assert dg.AssetKey("lakh_archive") not in keys
    result = drop_folder(dg.build_sensor_context(instance=graph.instance, resources={"data": Data()}))
    assert isinstance(result, dg.SkipReason)
