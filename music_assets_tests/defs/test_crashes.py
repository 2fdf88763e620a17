"""kill -9 of everything that a training needs, with the real servers: it resumes, and nothing trains on unseen."""

import json
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from music_assets.paths import DataPaths
from music_assets.pipeline import bring_shards_up_to_date
from music_assets.servers import servers
from music_assets.training.mlflow_store import tracking_uri
from music_assets.training.tracking import Tracking
from music_assets_tests.defs.conftest import TINY
from music_assets_tests.midi_files import write_corpus
from music_assets_tests.ports import free_port

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
RUNS = "{ runsOrError { ... on Runs { results { runId status rootRunId } } } }"
BATCH_TOKENS = 12 * 64


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


@dataclass
class Site:
    dagster: str
    paths: DataPaths
    server: psutil.Process

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.dagster}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def train(self, steps: int) -> str:
        """Launch a training as the UI does; returns the run's id."""
        config = TINY | {"tokens": steps * BATCH_TOKENS, "save_minutes": 0.001, "samples": 0, "device": "cpu"}
        params = {
            "selector": {
                "repositoryLocationName": "music_assets",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": ["checkpoint"]}],
            },
            "runConfigData": {"ops": {"checkpoint": {"config": config}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "gpt"}]},
        }
        launched = self.ask(LAUNCH, params=params)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def status(self, run: str) -> str:
        return self.ask(STATUS, id=run)["runOrError"]["status"]

    def folder(self, run: str) -> Path:
        return self.paths.checkpoints("gpt") / run

    def training(self, run: str) -> psutil.Process:
        """The process that trains, once it has saved something."""
        wait_for(lambda: (self.folder(run) / "latest" / "trainer.json").exists(), "a first checkpoint")
        return psutil.Process(wait_for(lambda: holder(self.folder(run) / "lock"), "a trainer"))

    def succeeds(self, run: str) -> None:
        status = wait_for(lambda: (found := self.status(run)) in ("SUCCESS", "FAILURE", "CANCELED") and found, "an end")
        assert status == "SUCCESS"

    def mlflow_runs(self, root: str) -> list[tuple[str, str, int]]:
        """Id, status and last step of the MLflow runs of a chain of retries."""
        tracking = Tracking(self.paths)
        runs = tracking.client.search_runs([tracking.experiment_id], f"tags.`dagster.root_run_id` = '{root}'")
        return [
            (run.info.run_id, run.info.status, tracking.curve(run.info.run_id, "train/loss")[-1][0]) for run in runs
        ]


def holder(lock: Path) -> int | None:
    """The process that holds a lock, as the kernel sees it."""
    inode = str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].split(":")[-1] == inode:
            return int(fields[4])
    return None


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with shards, whose daemon looks after dead runs every second."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(PROJECT / "workspace.yaml", folder)
    settings = (PROJECT / "dagster.yaml").read_text()
    quick = settings.replace("poll_interval_seconds: 10", "poll_interval_seconds: 1")
    (folder / "dagster.yaml").write_text(quick.replace("_run_end_seconds: 5", "_run_end_seconds: 1"))
    assert "poll_interval_seconds: 1\n" in quick
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DAGSTER_HOME", str(folder))
        patch.setenv("MUSIC_ASSETS_DATA", str(folder / "data"))
        patch.setenv("PYTHONPATH", str(PROJECT))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        write_corpus(folder / "data" / "raw", {"reel": 30}, bars=8)
        with dg.DagsterInstance.get() as instance:
            bring_shards_up_to_date(instance)
        yield folder


def open_site(folder: Path) -> Generator[Site]:
    paths = DataPaths(folder / "data")
    with servers(folder, tracking_uri(paths), free_port(), free_port()) as (addresses, running):
        yield Site(addresses.dagster, paths, psutil.Process(running[0].pid))


@pytest.fixture(scope="module")
def site(project: Path) -> Iterator[Site]:
    yield from open_site(project)


def has_resumed(site: Site, root: str, steps: int) -> None:
    """One history in MLflow, up to the last step."""
    ((_, status, last),) = site.mlflow_runs(root)
    assert (status, last) == ("FINISHED", steps * BATCH_TOKENS)


def test_a_killed_step_is_resumed_in_the_same_run(site: Site):
    run = site.train(steps=800)
    trainer = site.training(run)
    trainer.kill()
    again = wait_for(lambda: (now := holder(site.folder(run) / "lock")) != trainer.pid and now, "another trainer")
    assert again != trainer.pid
    site.succeeds(run)
    has_resumed(site, run, 800)


def test_a_killed_run_worker_leaves_no_orphan_frees_the_slot_and_is_retried(site: Site):
    run = site.train(steps=800)
    trainer = site.training(run)
    forkserver, worker, *_ = trainer.parents()
    assert "forkserver" in " ".join(forkserver.cmdline())
    worker.kill()
    trainer.wait(timeout=20)  # no orphan trains on
    retry = wait_for(
        lambda: next(
            (
                one["runId"]
                for one in site.ask(RUNS)["runsOrError"]["results"]
                if one["rootRunId"] == run and one["runId"] != run
            ),
            None,
        ),
        "a retry",
    )
    site.succeeds(retry)  # with one slot for training: the killed run has given it back
    assert site.status(run) == "FAILURE"
    assert not site.folder(retry).exists()
    has_resumed(site, run, 800)


def test_a_terminated_run_is_saved_not_retried_and_gone_on_with_by_the_next(site: Site):
    run = site.train(steps=801)
    site.training(run)
    assert site.ask(TERMINATE, id=run)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    wait_for(lambda: site.status(run) == "CANCELED", "its end", seconds=30)
    saved = json.loads((site.folder(run) / "latest" / "trainer.json").read_text())["step"]
    assert 0 < saved < 801
    time.sleep(3)  # the daemon looks every second
    assert [one["runId"] for one in site.ask(RUNS)["runsOrError"]["results"] if one["rootRunId"] == run] in ([], [run])
    assert json.loads((site.folder(run) / "latest" / "trainer.json").read_text())["step"] == saved
    again = site.train(steps=801)
    site.succeeds(again)
    assert not site.folder(again).exists()
    has_resumed(site, run, 801)


def test_two_runs_never_train_at_once(site: Site):
    first, second = site.train(steps=400), site.train(steps=10)
    site.training(first)
    assert site.status(second) in ("QUEUED", "STARTING", "STARTED")
    assert not site.folder(second).exists()
    site.succeeds(first)
    site.succeeds(second)


def test_a_killed_daemon_costs_no_training(project: Path):
    """Its servers are its own, for `dagster dev` ends with its daemon."""
    sites = open_site(project)
    site = next(sites)
    run = site.train(steps=800)
    trainer = site.training(run)
    daemon = next(one for one in site.server.children(recursive=True) if "dagster._daemon" in " ".join(one.cmdline()))
    os.kill(daemon.pid, signal.SIGKILL)
    wait_for(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, "the trainer's end")
    sites.close()
    sites = open_site(project)
    site = next(sites)
    try:
        attempts = wait_for(
            lambda: (
                [
                    one["status"]
                    for one in site.ask(RUNS)["runsOrError"]["results"]
                    if (one["rootRunId"] or one["runId"]) == run and one["status"] == "SUCCESS"
                ]
            ),
            "a success",
        )
        assert attempts == ["SUCCESS"]
        has_resumed(site, run, 800)
    finally:
        sites.close()
