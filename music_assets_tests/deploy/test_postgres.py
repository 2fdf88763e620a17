"""The Postgres deployment for real: a server of Debian's package, one process that writes, others that read."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import psycopg2
import pytest
import yaml

from music_assets.paths import DataPaths
from music_assets.servers import servers
from music_assets.training.mlflow_store import tracking_uri
from music_assets_tests.defs.conftest import TINY, Graph
from music_assets_tests.midi_files import write_corpus
from music_assets_tests.ports import free_port

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
DEPLOYED = PROJECT / "deploy" / "postgres" / "dagster.yaml"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The socket's folder of a Postgres server with the databases ``dagster`` and ``mlflow`` of the user ``music``."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("Debian's package postgresql is not installed")
    # It refuses to run as root; the package has made this account.
    account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def run(program: str, *arguments: str) -> None:
        command = [programs[-1] / program, *arguments]
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True, **account)

    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        if account:
            shutil.chown(folder, "postgres", "postgres")
        cluster = ["--pgdata", f"{folder}/data"]
        run("initdb", *cluster, "--username", "music", "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "start", *cluster, "--wait", "--log", f"{folder}/log", "--options", options)
        try:
            for database in ("dagster", "mlflow"):
                run("createdb", "--host", folder, "--username", "music", database)
            yield folder
        finally:
            run("pg_ctl", "stop", *cluster, "--mode", "immediate")


@pytest.fixture(scope="module")
def deployed(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A folder as the deployment's README makes it; another process has indexed a genre there."""
    folder = tmp_path_factory.mktemp("deployed")
    for file in (DEPLOYED, PROJECT / "workspace.yaml"):
        shutil.copy(file, folder)
    paths = DataPaths(folder / "data")
    write_corpus(paths.raw, {"reel": 40}, bars=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DAGSTER_HOME", str(folder))
        patch.setenv("DAGSTER_POSTGRES_URL", f"postgresql+psycopg2://music@/dagster?host={postgres}")
        patch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg2://music@/mlflow?host={postgres}")
        patch.delenv("MUSIC_ASSETS_DATA", raising=False)
        command = [sys.executable, "-m", "music_assets", "corpus", "update"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with dg.DagsterInstance.get() as instance:
            yield Graph(paths, instance)


@pytest.fixture(scope="module")
def trained(deployed: Graph) -> Graph:
    deployed.tokenise("reel")
    deployed.make("checkpoint", partition="gpt", config=TINY | {"samples": 0})
    return deployed


def test_it_differs_from_the_project_in_the_storage_alone():
    ours, theirs = (yaml.safe_load(file.read_text()) for file in (PROJECT / "dagster.yaml", DEPLOYED))
    assert theirs.pop("storage") != ours.pop("storage")
    assert theirs == ours


def test_what_one_process_has_written_another_one_reads(deployed: Graph):
    assert deployed.genres == ["reel"]
    assert deployed.latest("midi_index").metadata["files"].value == 40
    assert not list(deployed.paths.root.rglob("*.db"))


def test_the_training_is_in_mlflows_database(trained: Graph, postgres: str):
    made = trained.latest("checkpoint", "gpt")
    with psycopg2.connect(host=postgres, user="music", dbname="mlflow") as connection:
        database = connection.cursor()

        def rows(query: str) -> list[tuple[str, ...]]:
            database.execute(query)
            return database.fetchall()

        assert rows("select status from runs") == [("FINISHED",)]
        assert {("train/loss",), ("valid/bits_per_note",)} <= set(rows("select distinct key from metrics"))
        assert ("network.width", "32") in rows("select key, value from params")
        assert rows("select name, alias from registered_model_aliases") == [("music-assets-gpt", "champion")]
    connection.close()
    weights = trained.paths.checkpoints("gpt") / made.text("run") / "best" / "model.safetensors"
    (artifact,) = trained.paths.mlflow.glob("artifacts/**/model.safetensors")
    assert artifact.read_bytes() == weights.read_bytes()
    assert not list(trained.paths.root.rglob("*.db"))


def test_both_servers_show_it(trained: Graph):
    made = {run.run_id for run in trained.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))}
    project = trained.paths.root.parent
    with servers(project, tracking_uri(trained.paths), free_port(), free_port()) as (addresses, _):
        runs = quote("{ runsOrError { ... on Runs { results { runId } } } }")
        with urllib.request.urlopen(f"{addresses.dagster}/graphql?query={runs}", timeout=60) as answer:
            assert made <= {run["runId"] for run in json.load(answer)["data"]["runsOrError"]["results"]}
        model = f"{addresses.mlflow}/api/2.0/mlflow/registered-models/alias?name=music-assets-gpt&alias=champion"
        with urllib.request.urlopen(model, timeout=60) as answer:
            assert json.load(answer)["model_version"]["version"] == "1"
