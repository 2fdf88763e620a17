"""The two servers that people look at: Dagster (web UI and daemon) and MLflow."""

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
    """There is no such port, it may not be opened, or both servers were given the same one."""


class PortInUse(MusicAssetsError):
    """Another program listens on a port that a server needs."""


class ServerDied(MusicAssetsError):
    """A server ended, or did not answer in time."""


@dataclass(frozen=True)
class Addresses:
    dagster: str
    mlflow: str


@contextmanager
def servers(
    project: Path, tracking_store: str, dagster_port: int, mlflow_port: int, timeout_seconds: float = 120
) -> Iterator[tuple[Addresses, list[subprocess.Popen[bytes]]]]:
    """Run both servers while the block runs; both answer before it begins, and all their processes end with it.

    Args:
        project: the folder with ``dagster.yaml`` and ``workspace.yaml``.
        tracking_store: MLflow's backend store, such as ``sqlite:////data/mlflow/mlflow.db``.

    Raises:
        BadPort, PortInUse: before anything is started.
        ServerDied: one ended or did not answer in time.
    """
    if dagster_port == mlflow_port:
        raise BadPort(
            f"Port {dagster_port} cannot serve both: give --dagster-port and --mlflow-port different numbers."
        )
    for name, port in (("Dagster", dagster_port), ("MLflow", mlflow_port)):
        _require_free(name, port)
    addresses = Addresses(f"http://{HOST}:{dagster_port}", f"http://{HOST}:{mlflow_port}")
    environment = os.environ | {
        "DAGSTER_HOME": str(project),
        "MLFLOW_UI": addresses.mlflow,
        "DAGSTER_UI": addresses.dagster,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job runner doubles the start-up time
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    python = [sys.executable, "-m"]
    commands = [
        [*python, "dagster", "dev", "--host", HOST, "--port", str(dagster_port), "--log-level", "warning"],
        [
            *[*python, "mlflow", "server", "--host", HOST, "--port", str(mlflow_port)],
            *["--workers", "1", "--backend-store-uri", tracking_store],
        ],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            # A process group of its own: ending the group also ends what the server started.
            running.append(subprocess.Popen(command, cwd=project, env=environment, start_new_session=True))
        _wait_until_it_answers("Dagster", running[0], f"{addresses.dagster}/server_info", timeout_seconds)
        _wait_until_it_answers("MLflow", running[1], f"{addresses.mlflow}/health", timeout_seconds)
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
