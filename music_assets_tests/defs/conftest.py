from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from music_assets.definitions import defs
from music_assets.defs.partitions import GENRES, transpositions
from music_assets.defs.resources import Materialization, latest
from music_assets.paths import DataPaths
from music_assets_tests.midi_files import write_corpus

TINY = {"network": {"layers": 1, "width": 32, "heads": 2, "context": 64}, "minutes": None, "tokens": 12_000}
QUICK = {
    "control_requests": 2,
    "infill_spans": 2,
    "guidance_samples": 2,
    "structure_bars": 8,
    "bootstrap_rounds": 50,
    "floor_rounds": 10,
    "classifier_trees": 20,
    "excerpt_bars": 2,
}


@dataclass
class Graph:
    """The real graph on a data folder of its own, without a daemon."""

    paths: DataPaths
    instance: dg.DagsterInstance

    def run(
        self,
        *assets: str,
        partition: str | None = None,
        partition_range: tuple[str, str] | None = None,
        config: dict[str, Any] | None = None,
    ) -> dg.ExecuteInProcessResult:
        first, last = partition_range or ("", "")
        names = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            partition_key=partition,
            tags=names if partition_range else None,
            run_config={
                "loggers": {"plain": {"config": {}}},
                "ops": {asset: {"config": config} for asset in assets} if config is not None else {},
            },
            raise_on_error=False,
        )

    def make(self, *assets: str, **options: Any) -> None:
        """Run, and be sure that it succeeded."""
        result = self.run(*assets, **options)
        errors = [event.step_failure_data.error for event in result.filter_events(lambda event: event.is_step_failure)]
        assert result.success, "\n".join(error.to_string() for error in errors if error)

    def ingest(self) -> None:
        self.make("raw_midi", "midi_index")

    def tokenise(self, genre: str) -> None:
        self.make("genre_pieces", partition=genre)
        names = transpositions.get_partition_keys()
        ends = (f"{genre}|{names[0]}", f"{genre}|{names[-1]}")
        self.make("token_shards", partition_range=ends)

    @property
    def genres(self) -> list[str]:
        return sorted(self.instance.get_dynamic_partitions(GENRES))

    def latest(self, asset: str, partition: str | None = None) -> Materialization:
        if partition is not None:
            found = latest(self.instance, dg.AssetKey(asset), partition)
            assert found is not None
            return found
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return Materialization(0, None, event.asset_materialization.metadata)


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The one sentence of a failed run."""
    assert not result.success
    event = next(iter(result.filter_events(lambda event: event.is_step_failure)))
    assert event.step_failure_data.user_failure_data is not None, event.step_failure_data.error
    return event.step_failure_data.user_failure_data.description or ""


def graph_on(root: Path) -> Iterator[Graph]:
    """The graph on a data folder, while it is iterated over once."""
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("MUSIC_ASSETS_DATA", str(root))
        yield Graph(DataPaths(root), instance)


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    """An empty data folder."""
    yield from graph_on(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """Two genres, indexed, tokenised and learned by a very small network."""
    for graph in graph_on(tmp_path_factory.mktemp("data")):
        write_corpus(graph.paths.raw, {"reel": 40, "jig": 40}, bars=8)
        graph.ingest()
        for genre in graph.genres:
            graph.tokenise(genre)
        graph.make("checkpoint", partition="gpt", config=TINY)
        yield graph
