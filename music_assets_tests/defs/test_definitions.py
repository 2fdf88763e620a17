import subprocess
import sys

import dagster as dg
import pytest

from music_assets.definitions import defs
from music_assets.defs.due import MEASURES_OF_MODEL, MEASURES_OF_SAMPLES
from music_assets.models.registry import ARCHITECTURES

GRAPH = {
    "lakh_archive": ("corpus", set()),
    "raw_midi": ("corpus", {"lakh_archive"}),
    "midi_index": ("corpus", {"raw_midi"}),
    "genre_pieces": ("corpus", {"midi_index"}),
    "token_shards": ("tokens", {"genre_pieces"}),
    "checkpoint": ("model", {"token_shards"}),
    "generated_samples": ("generation", {"checkpoint"}),
    "likelihood": ("evaluation", {"checkpoint", "token_shards"}),
    "control_report": ("evaluation", {"checkpoint", "token_shards"}),
    "infill_report": ("evaluation", {"checkpoint", "token_shards"}),
    "guidance_report": ("evaluation", {"checkpoint", "token_shards"}),
    "embedding_report": ("evaluation", {"checkpoint", "token_shards"}),
    "feature_stats": ("evaluation", {"generated_samples", "token_shards"}),
    "structure_report": ("evaluation", {"generated_samples", "token_shards"}),
    "copy_report": ("evaluation", {"generated_samples", "token_shards"}),
    "consistency_report": ("evaluation", {"generated_samples", "token_shards"}),
    "listening_report": ("evaluation", {"generated_samples", "token_shards"}),
    "evaluation_report": (
        "evaluation",
        {
            *("generated_samples", "token_shards", "likelihood", "control_report", "infill_report"),
            *("guidance_report", "embedding_report"),
            *("feature_stats", "structure_report", "copy_report", "consistency_report", "listening_report"),
        },
    ),
    "comparison": ("evaluation", {"checkpoint", "token_shards"}),
}


def test_the_graph_is_the_documented_one():
    graph = defs.resolve_asset_graph()
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == GRAPH


@pytest.mark.parametrize("asset", sorted(GRAPH))
def test_every_asset_says_what_it_is(asset):
    node = next(node for node in defs.resolve_asset_graph().asset_nodes if node.key.to_user_string() == asset)
    assert node.description
    assert len(node.description.splitlines()[0]) > 40
    assert node.kinds
    assert node.code_version


@pytest.mark.slow
def test_definitions_load_nothing_heavy():
    heavy = ["torch", "miditok", "mlflow", "sklearn", "matplotlib", "duckdb", "plotly", "music21"]
    code = f"import sys, music_assets.definitions; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not done.stderr


def test_one_set_of_architectures_is_for_all():
    graph = defs.resolve_asset_graph()
    for asset in ("checkpoint", *MEASURES_OF_MODEL, *MEASURES_OF_SAMPLES):
        partitions = graph.get(dg.AssetKey(asset)).partitions_def
        assert partitions is not None
        assert partitions.get_partition_keys() == ["gpt", "lstm", "gru", "pianoroll"]
    samples = graph.get(dg.AssetKey("generated_samples")).partitions_def
    assert isinstance(samples, dg.MultiPartitionsDefinition)
    assert samples.get_partitions_def_for_dimension("architecture").get_partition_keys() == list(ARCHITECTURES)


def test_what_runs_by_itself():
    assert {sensor.name for sensor in defs.sensors or []} == {
        "drop_folder",
        "changed_genres",
        "new_checkpoint",
        "conditions",
    }
    assert {schedule.name for schedule in defs.schedules or []} == {
        "nightly_reading",
        "nightly_encoding",
        "nightly_retraining",
    }
