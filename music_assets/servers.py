"""The servers that people look at: Dagster (web UI and daemon), MLflow and the studio."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from music_assets.foundation.errors import MusicAssetsError

HOST = "127.0.0.1"


class BadPort(MusicAssetsError):
    """There is no such port, it may not be opened, or two servers were given the same one."""


class PortInUse(MusicAssetsError):
    """Another program listens on a port that a server needs."""


class ServerDied(MusicAssetsError):
    """A server ended, or did not answer in time."""


@dataclass(frozen=True)
class Addresses:
    dagster: str
    mlflow: str
    studio: str | None


@contextmanager
def servers(
    project: Path,
    tracking_store: str,
    dagster_port: int,
    mlflow_port: int,
    studio_port: int | None = None,
    timeout_seconds: float = 120,
) -> Iterator[tuple[Addresses, list[subprocess.Popen[bytes]]]]:
    """Run the servers while the block runs; all answer before it begins, and all their processes end with it.

    Args:
        project: the folder with ``dagster.yaml`` and ``workspace.yaml``.
        tracking_store: MLflow's backend store, such as ``sqlite:////data/mlflow/mlflow.db``.
        studio_port: None for no studio; there has to be a champion to play with.

    Raises:
        BadPort, PortInUse: before anything is started.
        ServerDied: one ended or did not answer in time.
    """
    ports = {"Dagster": dagster_port, "MLflow": mlflow_port, **({} if studio_port is None else {"Studio": studio_port})}
    for name, port in ports.items():
        if [*ports.values()].count(port) > 1:
            options = " and ".join(f"--{other.lower()}-port" for other in ports if ports[other] == port)
            raise BadPort(f"Port {port} cannot serve both: give {options} different numbers.")
        _require_free(name, port)
    addresses = Addresses(
        f"http://{HOST}:{dagster_port}",
        f"http://{HOST}:{mlflow_port}",
        None if studio_port is None else f"http://{HOST}:{studio_port}",
    )
    environment = os.environ | {
        "DAGSTER_HOME": str(project),
        "MLFLOW_UI": addresses.mlflow,
        "DAGSTER_UI": addresses.dagster,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job runner doubles the start-up time
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    python = [sys.executable, "-m"]
    commands = {
        f"{addresses.dagster}/server_info": [
            *[*python, "dagster", "dev", "--host", HOST, "--port", str(dagster_port)],
            *["--log-level", "warning"],
        ],
        f"{addresses.mlflow}/health": [
            *[*python, "mlflow", "server", "--host", HOST, "--port", str(mlflow_port)],
            *["--workers", "1", "--backend-store-uri", tracking_store],
        ],
        **(
            {addresses.studio: [*python, "music_assets", "studio", "--port", str(studio_port)]}
            if addresses.studio
            else {}
        ),
    }
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands.values():
            # A process group of its own: ending the group also ends what the server started.
            running.append(subprocess.Popen(command, cwd=project, env=environment, start_new_session=True))
        for name, process, address in zip(ports, running, commands, strict=True):
            _wait_until_it_answers(name, process, address, timeout_seconds)
        yield addresses, running
    finally:
        _end(running)


def _require_free(name: str, port: int) -> None:
    option = f"--{name.lower()}-port"
    if not 1 <= port <= 65535:
        raise BadPort(f"There is no port {port} for {name}: give {option} a number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise BadPort(f"You may not open port {port} for {name}: give {option} a number above 1023.") from None
        except OSError:
            raise PortInUse(
                f"Port {port}, which {name} needs, is in use: end that program or choose another port with {option}."
            ) from None


def _wait_until_it_answers(name: str, process: subprocess.Popen[bytes], address: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerDied(f"{name} ended with exit code {process.returncode}; its messages stand above.")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ServerDied(f"{name} did not answer at {address} within {timeout_seconds:.0f} seconds.")


def _end(running: list[subprocess.Popen[bytes]], grace_seconds: float = 10) -> None:
    for step in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            try:
                os.killpg(process.pid, step)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + grace_seconds
        while time.monotonic() < deadline and any(process.poll() is None for process in running):
            time.sleep(0.1)
