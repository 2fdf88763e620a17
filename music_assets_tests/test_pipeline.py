"""The graph in one go, where other processes share its history."""

import socket

import dagster as dg

from music_assets.pipeline import PROCESS, bury_dead_runs


def test_only_this_machines_dead_runs_are_buried():
    with dg.DagsterInstance.ephemeral() as instance:
        runs = {
            host: instance.add_run(
                dg.DagsterRun("job", tags={PROCESS: f"{host}:999999999:0.00"}, status=dg.DagsterRunStatus.STARTED)
            )
            for host in (socket.gethostname(), "elsewhere")
        }
        bury_dead_runs(instance)
        found = {host: instance.get_run_by_id(run.run_id) for host, run in runs.items()}
    assert {host: run.status.value for host, run in found.items() if run} == {
        socket.gethostname(): "FAILURE",
        "elsewhere": "STARTED",
    }
