"""Trainings over several nodes: the rendezvous alone, and a Slurm cluster whose two nodes are this machine."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from music_assets.checkpoints.runs import read_facts, require_champion
from music_assets.paths import DataPaths
from music_assets.pipeline import bring_shards_up_to_date
from music_assets_tests.defs.conftest import TINY
from music_assets_tests.defs.test_crashes import wait_for
from music_assets_tests.midi_files import write_corpus
from music_assets_tests.ports import free_port
from music_assets_tests.training.test_distributed import job, losses

DEPLOYED = Path(__file__).parents[2] / "deploy" / "slurm"

# Without munge: nobody but this test talks to it. Each node listens on its own address, on the same port.
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/linear
NodeName=one NodeAddr=127.0.0.1
NodeName=two NodeAddr=127.0.0.2
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@pytest.mark.slow
def test_two_torchruns_meet_and_leave_one_checkpoint(tmp_path):
    made = job(tmp_path).model_copy(update={"parent": os.getpid()})
    (tmp_path / "job.json").write_text(made.model_dump_json())
    torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-id", "1", "--rdzv-endpoint", f"localhost:{free_port()}"]
    command = [sys.executable, "-m", *torchrun, "-m", "music_assets.training.distributed", str(tmp_path / "job.json")]
    nodes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [node.communicate()[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    assert sorted(len(losses(text)) for text in said) == [0, 12]
    assert (made.run / "best" / "model.safetensors").exists()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of the nodes ``one`` and ``two``, both this machine under other names."""
    # A host name, a table of hosts and a tree of processes of its own; they all end with unshare.
    space = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch"))):
        pytest.skip("Debian's packages slurmctld, slurmd and slurm-client are not installed")
    if os.geteuid() != 0 or subprocess.run([*space, "true"], capture_output=True, check=False).returncode:
        pytest.skip("another name for this machine needs root")
    folder = tmp_path / "slurm"
    for name in ("state", "one", "two"):
        (folder / name).mkdir(parents=True)
    (folder / "hosts").write_text("127.0.0.1 localhost one\n127.0.0.2 two\n")
    ports = {"controller": free_port(), "daemon": free_port()}
    (folder / "slurm.conf").write_text(SLURM_CONF.format(host=os.uname().nodename, folder=folder, **ports))
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    # The shell stays, to bury the orphans that a job leaves: Slurm would wait a minute for their end.
    node = 'mount --bind "$0" /etc/hosts && hostname "$1" && slurmd -D -N "$1"; exit'
    nodes = [[*space, "sh", "-c", node, str(folder / "hosts"), name] for name in ("one", "two")]
    with ExitStack() as ended, (folder / "log").open("w") as log:
        for command in [["slurmctld", "-D"], *nodes]:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
            ended.callback(daemon.wait)
            ended.callback(daemon.send_signal, signal.SIGKILL)
        idle = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
        wait_for(
            lambda: subprocess.run(idle, capture_output=True, text=True, check=False).stdout.strip() == "2", "two nodes"
        )
        yield


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:.*is currently in preview")
def test_a_training_of_several_processes_is_a_slurm_job(slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUSIC_ASSETS_DATA", str(data))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_corpus(data / "raw", {"reel": 40}, bars=8)
    spec = importlib.util.spec_from_file_location("deployed", DEPLOYED / "definitions.py")
    assert spec
    assert spec.loader
    deployed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(deployed)
    with dg.DagsterInstance.ephemeral() as instance:
        bring_shards_up_to_date(instance)
        config = TINY | {"tokens": 3_000, "validations": 1, "processes": 2, "samples": 0, "device": "cpu"}
        result = deployed.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("checkpoint")],
            partition_key="gpt",
            run_config={"ops": {"checkpoint": {"config": config}}},
        )
    assert result.success
    assert read_facts(require_champion(DataPaths(data).checkpoints("gpt"))).run == result.run_id
    jobs = subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True, check=True).stdout.split()
    assert {f"JobName={result.run_id}", "JobState=COMPLETED", "NodeList=one,two"} <= set(jobs)
