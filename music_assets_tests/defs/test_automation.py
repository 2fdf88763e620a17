"""What happens by itself, tick by tick, without a daemon."""

import os
import subprocess
import sys
import time
from typing import Any

import dagster as dg
import duckdb
import pytest

from music_assets.definitions import defs
from music_assets.defs import automation
from music_assets.defs.due import MEASURES_OF_MODEL
from music_assets.defs.partitions import GENRES
from music_assets.defs.resources import Data
from music_assets_tests.defs.conftest import Graph
from music_assets_tests.midi_files import write_corpus, write_tune
from music_assets_tests.permissions import bound, bound_by_permissions

pytestmark = pytest.mark.slow


def evaluated(graph: Graph, sensor: Any) -> Any:
    resources = {"data": Data()} if sensor.required_resource_keys else {}
    build = dg.build_schedule_context if isinstance(sensor, dg.ScheduleDefinition) else dg.build_sensor_context
    return sensor(build(instance=graph.instance, resources=resources))


def tick(graph: Graph, sensor: Any) -> list[dg.RunRequest]:
    """What a sensor or a schedule requests; nothing, if it says why not."""
    result = evaluated(graph, sensor)
    if isinstance(result, dg.SkipReason):
        assert result.skip_message
        return []
    return list(result.run_requests or []) if isinstance(result, dg.SensorResult) else [result]


def keys(requests: list[dg.RunRequest]) -> list[str]:
    return sorted(str(request.partition_key) for request in requests)


def age(graph: Graph, seconds: float = 60) -> None:
    """Let every file under the drop folder have changed so long ago."""
    then = time.time() - seconds
    for path in graph.paths.raw.rglob("*.mid"):
        os.utime(path, (then, then))


class Conditions:
    """The ticks of the automation conditions."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.cursor = None

    def tick(self) -> dict[str, set[str]]:
        result = dg.evaluate_automation_conditions(defs, self.graph.instance, cursor=self.cursor)
        self.cursor = result.cursor
        found = {}
        for asset in defs.resolve_asset_graph().get_all_asset_keys():
            if requested := result.get_requested_partitions(asset):
                found[asset.to_user_string()] = {str(partition) for partition in requested}
        return found


def report(graph: Graph, asset: str, partition: str, **metadata: str | dict[str, Any]) -> None:
    graph.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition, metadata=metadata))


def report_samples(graph: Graph, genre: str, run: str, **settings: Any) -> None:
    graph.paths.samples("gpt", genre).mkdir(parents=True, exist_ok=True)
    report(graph, "generated_samples", f"gpt|{genre}", run=run, settings=settings)


def test_the_drop_folder_is_read_once_its_copying_has_ended(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 30}, bars=4)
    assert not tick(graph, automation.drop_folder)
    age(graph)
    first = tick(graph, automation.drop_folder)
    assert len(first) == 1
    assert first[0].tags["new"] == "30"
    assert tick(graph, automation.drop_folder)[0].run_key == first[0].run_key

    graph.ingest()
    assert not tick(graph, automation.drop_folder)

    earlier = time.time() - 60
    changed = write_tune(graph.paths.raw / "tunes/reel/Reel Artist 0/Air 0.mid", seed=99)
    half_copied = write_tune(graph.paths.raw / "tunes/reel/New/Arrival.mid", seed=98)
    os.utime(changed, (earlier, earlier))
    request = tick(graph, automation.drop_folder)[0]
    assert (request.tags["new"], request.tags["changed"]) == ("0", "1")
    graph.make("raw_midi", config=request.run_config["ops"]["raw_midi"]["config"])
    assert graph.latest("raw_midi").metadata["files_read"].value == 1

    half_copied.unlink()
    changed.unlink()
    request = tick(graph, automation.drop_folder)[0]
    assert request.tags["removed"] == "1"


def test_a_new_label_file_is_read_although_no_midi_file_changed(graph: Graph):
    write_tune(graph.paths.raw / "lakh/Some Artist/Some Song.mid")
    age(graph)
    assert len(tick(graph, automation.drop_folder)) == 1
    assert not graph.run("raw_midi", "midi_index").success
    assert not tick(graph, automation.drop_folder)
    (graph.paths.raw / "lakh" / "genres.csv").write_text("path,genre\nSome Artist/Some Song.mid,rock\n")
    assert len(tick(graph, automation.drop_folder)) == 1
    graph.make("midi_index", config={"minimum_pieces": 1})
    assert graph.genres == ["rock"]
    assert not tick(graph, automation.drop_folder)


def test_labels_that_return_to_what_they_were_are_taken_up_again(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 30}, bars=4)
    age(graph)
    graph.ingest()
    polka = "path,genre\ntunes/reel/Reel Artist 0/Air 0.mid,polka\n"
    table, seen = graph.paths.raw / "genres.csv", set()
    for text in (polka, None, polka):
        if text:
            table.write_text(text)
        else:
            table.unlink()
        (request,) = tick(graph, automation.drop_folder)
        assert request.run_key not in seen
        seen.add(request.run_key)
        graph.make("midi_index")


def scan_bound_by_permissions(graph: Graph) -> None:
    code = "from pathlib import Path; from sys import argv; from music_assets.corpus.reading.scan import scan; "
    code += "scan(*map(Path, argv[1:]), workers=1)"
    subprocess.run(
        bound(sys.executable, "-c", code, str(graph.paths.raw), str(graph.paths.files)), check=True, capture_output=True
    )


def test_a_file_that_cannot_be_read_is_tried_again_at_night_or_once_its_permissions_change(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 30}, bars=4)
    age(graph)
    closed = graph.paths.raw / "tunes/reel/Reel Artist 0/Air 0.mid"
    closed.chmod(0)
    scan_bound_by_permissions(graph)
    graph.make("midi_index")
    assert not tick(graph, automation.drop_folder)
    assert len(tick(graph, automation.nightly_reading)) == 1
    closed.chmod(0o644)
    (request,) = tick(graph, automation.drop_folder)
    assert request.tags["changed"] == "1"
    graph.ingest()
    assert not tick(graph, automation.drop_folder)
    assert not tick(graph, automation.nightly_reading)


def test_a_folder_that_cannot_be_listed_starts_nothing_and_is_told(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 30, "jig": 30}, bars=4)
    age(graph)
    graph.ingest()
    jigs = graph.paths.raw / "tunes" / "jig"
    jigs.chmod(0)
    with bound_by_permissions():
        skipped = evaluated(graph, automation.drop_folder)
        graph.ingest()
    assert isinstance(skipped, dg.SkipReason)
    assert "it cannot look into tunes/jig" in str(skipped.skip_message)
    assert graph.latest("raw_midi").metadata["files_removed"].value == 0
    assert "Permission denied" in str(graph.latest("raw_midi").metadata["cannot_be_looked_into"].value)
    assert len(tick(graph, automation.changed_genres)) == 2  # as before


def test_shards_that_lack_pieces_are_written_again_at_night(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 30, "jig": 30}, bars=4)
    graph.ingest()
    reels = graph.paths.raw / "tunes" / "reel"
    away = reels.rename(graph.paths.raw.parent / "away")
    for genre in ("jig", "reel"):
        graph.tokenise(genre)
    (request,) = automation.encodings(graph.instance, graph.paths)
    away.rename(reels)
    ends = (request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"])
    assert ends == ("reel|down5", "reel|up6")
    graph.make("token_shards", partition_range=ends)
    assert not automation.encodings(graph.instance, graph.paths)


def test_only_changed_genres_are_published(graph: Graph):
    assert not tick(graph, automation.changed_genres)
    write_corpus(graph.paths.raw, {"reel": 30, "jig": 30}, bars=4)
    graph.ingest()
    result = tick(graph, automation.changed_genres)
    assert keys(result) == ["jig", "reel"]
    for genre in graph.genres:
        graph.make("genre_pieces", partition=genre)
    assert not tick(graph, automation.changed_genres)

    arrival = write_tune(graph.paths.raw / "tunes/jig/New/Arrival.mid", style="jig", seed=900)
    graph.ingest()
    second = tick(graph, automation.changed_genres)
    assert keys(second) == ["jig"]
    graph.make("genre_pieces", partition="jig")

    # The jigs become again what they once were: that, too, is a change.
    arrival.unlink()
    graph.ingest()
    third = tick(graph, automation.changed_genres)
    assert keys(third) == ["jig"]
    assert len({request.run_key for one in (result, second, third) for request in one}) == 4


def test_what_a_user_can_mend_is_said_and_no_failure(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 30}, bars=4)
    age(graph)
    graph.ingest()
    both = (automation.drop_folder, automation.changed_genres)
    with duckdb.connect(str(graph.paths.index)):
        for sensor in both:
            assert "is open for writing in this program: close it" in evaluated(graph, sensor).skip_message
    whole = graph.paths.index.read_bytes()
    graph.paths.index.write_bytes(whole[:100])
    assert "is damaged" in evaluated(graph, automation.changed_genres).skip_message
    assert len(tick(graph, automation.drop_folder)) == 1  # builds it anew
    graph.paths.index.write_bytes(whole)
    graph.paths.labels.mkdir()
    (graph.paths.labels / "taxonomy.toml").write_text("genres")
    assert "is not a taxonomy" in evaluated(graph, automation.drop_folder).skip_message


def test_a_genre_is_added_once_it_has_enough_pieces(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 30, "jig": 3}, bars=4)
    graph.ingest()
    assert graph.genres == ["reel"]
    write_corpus(graph.paths.raw, {"waltz": 0, "jig": 30}, bars=4)
    graph.ingest()
    assert graph.genres == ["jig", "reel"]


def test_shards_follow_their_pieces_and_no_others(graph: Graph):
    graph.instance.add_dynamic_partitions(GENRES, ["jig", "reel"])
    conditions = Conditions(graph)
    assert conditions.tick() == {}
    report(graph, "genre_pieces", "jig")
    requested = conditions.tick()["token_shards"]
    assert len(requested) == 12
    assert {key.split("|")[0] for key in requested} == {"jig"}
    for key in requested:
        report(graph, "token_shards", key)
    assert conditions.tick() == {}


def test_reports_follow_the_model_and_not_the_shards(graph: Graph):
    graph.instance.add_dynamic_partitions(GENRES, ["jig"])
    conditions = Conditions(graph)
    conditions.tick()
    report(graph, "token_shards", "jig|original")
    assert conditions.tick() == {}
    report(graph, "checkpoint", "gpt")
    assert conditions.tick() == {measure: {"gpt"} for measure in MEASURES_OF_MODEL}
    for measure in MEASURES_OF_MODEL:
        report(graph, measure, "gpt")
    assert conditions.tick() == {}
    report(graph, "generated_samples", "gpt|jig")
    assert conditions.tick() == {
        "feature_stats": {"gpt"},
        "copy_report": {"gpt"},
        "consistency_report": {"gpt"},
        "structure_report": {"gpt"},
        "listening_report": {"gpt"},
        "evaluation_report": {"gpt"},
    }


def test_a_piano_roll_is_followed_like_any_other(graph: Graph):
    graph.instance.add_dynamic_partitions(GENRES, ["jig"])
    conditions = Conditions(graph)
    conditions.tick()
    report(graph, "checkpoint", "pianoroll", run="a", champion="a", champion_genres="jig")
    assert conditions.tick() == {measure: {"pianoroll"} for measure in MEASURES_OF_MODEL}
    assert keys(tick(graph, automation.new_checkpoint)) == ["pianoroll|jig"]


def test_a_new_champion_is_sampled_in_the_genres_it_has_seen(graph: Graph):
    graph.instance.add_dynamic_partitions(GENRES, ["jig", "reel", "polka"])
    assert not tick(graph, automation.new_checkpoint)
    report(graph, "checkpoint", "gpt", run="a", champion="a", champion_genres="jig, reel")
    assert keys(tick(graph, automation.new_checkpoint)) == ["gpt|jig", "gpt|reel"]
    report_samples(graph, "jig", run="a")
    assert keys(tick(graph, automation.new_checkpoint)) == ["gpt|reel"]
    report_samples(graph, "reel", run="a")
    assert not tick(graph, automation.new_checkpoint)
    # A challenger that lost changes nothing.
    report(graph, "checkpoint", "gpt", run="b", champion="a", champion_genres="jig, reel")
    assert not tick(graph, automation.new_checkpoint)


def test_samples_are_made_again_with_their_last_settings(graph: Graph):
    graph.instance.add_dynamic_partitions(GENRES, ["jig", "reel", "waltz"])
    report(graph, "checkpoint", "gpt", run="a", champion="a", champion_genres="jig, reel")
    report_samples(graph, "jig", run="a", count=3, temperature=0.8)
    report_samples(graph, "reel", run="a", count=5, temperature=1.2)
    assert not tick(graph, automation.new_checkpoint)
    report(graph, "checkpoint", "gpt", run="b", champion="b", champion_genres="jig, reel, waltz")
    settings = {
        str(request.partition_key): request.run_config["ops"]["generated_samples"]["config"]
        for request in tick(graph, automation.new_checkpoint)
    }
    assert settings == {
        "gpt|jig": {"count": 3, "temperature": 0.8},
        "gpt|reel": {"count": 5, "temperature": 1.2},
        "gpt|waltz": {"count": 5, "temperature": 1.2},  # of the last samples, as it has none of its own
    }


def test_samples_that_were_deleted_are_made_again(graph: Graph):
    graph.instance.add_dynamic_partitions(GENRES, ["jig"])
    report(graph, "checkpoint", "gpt", run="a", champion="a", champion_genres="jig")
    (first,) = tick(graph, automation.new_checkpoint)
    report_samples(graph, "jig", run="a")
    graph.paths.samples("gpt", "jig").rmdir()
    (again,) = tick(graph, automation.new_checkpoint)
    assert first.run_key != again.run_key
