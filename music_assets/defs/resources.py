"""What the assets and what runs them share: the data folder, addresses, the latest materialisations."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from music_assets.paths import DataPaths


class Data(dg.ConfigurableResource):
    """The data folder: ``MUSIC_ASSETS_DATA``, or ``data`` in the working directory."""

    @property
    def paths(self) -> DataPaths:
        return DataPaths.from_environment()


class Links(dg.ConfigurableResource):
    """Where people open the two servers in the browser."""

    mlflow: str = Field(
        default_factory=lambda: os.environ.get("MLFLOW_UI") or "http://127.0.0.1:5000",
        description="Address of the MLflow server, for links.",
    )

    dagster: str = Field(
        default_factory=lambda: os.environ.get("DAGSTER_UI") or "http://127.0.0.1:3000",
        description="Address of the Dagster UI, for links the other way.",
    )

    def dagster_run_url(self, run_id: str) -> str:
        return f"{self.dagster}/runs/{run_id}"

    def mlflow_run_url(self, experiment_id: str, run_id: str) -> str:
        return f"{self.mlflow}/#/experiments/{experiment_id}/runs/{run_id}"


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Materialization:
    """The last time that a partition was materialised."""

    storage_id: int
    data_version: str | None
    metadata: Mapping[str, dg.MetadataValue]

    def text(self, name: str) -> str:
        """A metadata entry as text; empty where there is none."""
        return str(self.metadata[name].value) if name in self.metadata else ""


def latest(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> Materialization | None:
    """The latest materialisation of a partition; None if there is none."""
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[partition])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        if event := record.asset_materialization:
            version = (event.tags or {}).get("dagster/data_version")
            return Materialization(record.storage_id, version, event.metadata)
    return None
