"""The graph in one go, where other processes share its history."""

import socket

import dagster as dg

from music_assets.defs.processes import PROCESS, fail_abandoned_runs


def test_only_this_machines_abandoned_runs_are_failed():
    with dg.DagsterInstance.ephemeral() as instance:
        runs = {
            host: instance.add_run(
                dg.DagsterRun("job", tags={PROCESS: f"{host}:999999999:0.00"}, status=dg.DagsterRunStatus.STARTED)
            )
            for host in (socket.gethostname(), "elsewhere")
        }
        fail_abandoned_runs(instance)
        found = {host: instance.get_run_by_id(run.run_id) for host, run in runs.items()}
    assert {host: run.status.value for host, run in found.items() if run} == {
        socket.gethostname(): "FAILURE",
        "elsewhere": "STARTED",
    }
