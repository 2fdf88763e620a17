"""The Ray deployment on a local cluster: a training that the Dagster UI launches runs as a job of the cluster."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from music_assets.checkpoints.runs import read_facts, require_champion
from music_assets.paths import DataPaths
from music_assets.pipeline import bring_shards_up_to_date
from music_assets_tests.defs.test_crashes import open_site
from music_assets_tests.midi_files import write_corpus
from music_assets_tests.ports import free_port

pytest.importorskip("dagster_ray", reason="the extra ray is not installed")
ray = pytest.importorskip("ray", reason="the extra ray is not installed")
submission = pytest.importorskip("ray.job_submission", reason="the extra ray is not installed")

pytestmark = pytest.mark.cluster

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as the deployment's README makes it, but on SQLite, with the shards of a genre; and a Ray cluster."""
    launcher = (PROJECT / "deploy" / "ray" / "run_launcher.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text() + launcher)
    shutil.copy(PROJECT / "workspace.yaml", tmp_path)
    data = tmp_path / "data"
    write_corpus(data / "raw", {"reel": 40}, bars=8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("MUSIC_ASSETS_DATA", str(data))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else it would write one into the home folder
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cluster = ray.init(num_cpus=2, include_dashboard=True, dashboard_port=free_port(), log_to_driver=False)
    try:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://{cluster.dashboard_url}")
        with dg.DagsterInstance.get() as instance:
            bring_shards_up_to_date(instance)
        yield tmp_path
    finally:
        ray.shutdown()


def test_a_training_launched_in_the_ui_is_a_job_of_the_cluster(project: Path):
    with contextmanager(open_site)(project) as site:
        run = site.train(10)
        site.succeeds(run)
        assert f"dagster-run-{run}" in {job.submission_id for job in submission.JobSubmissionClient().list_jobs()}
    assert read_facts(require_champion(DataPaths(project / "data").checkpoints("gpt"))).run == run
