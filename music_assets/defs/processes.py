"""Runs that a command executes in its own process: no daemon looks after them when that is killed."""

import socket

import dagster as dg
import psutil

from music_assets.defs.failures import PROCESS


def fail_abandoned_runs(instance: dg.DagsterInstance) -> None:
    """End the runs whose process was killed, and give back the slots that they held."""
    alive = {f"{_host()}{one.pid}:{one.info['create_time']:.2f}" for one in psutil.process_iter(["create_time"])}
    for run in _open_runs(instance):
        process = run.tags[PROCESS]
        if process.startswith(_host()) and process not in alive:
            instance.report_run_failed(run, "The process was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def cancel_own_runs() -> None:
    """End the runs of this process, which is about to be killed, and give back the slots that they hold."""
    with dg.DagsterInstance.get() as instance:
        for run in _open_runs(instance):
            if run.tags[PROCESS] == own_process():
                instance.report_run_canceled(run, "It was interrupted.")
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def own_process() -> str:
    """This process in a run's tag: its host, its number, and when it began, since numbers are used again."""
    process = psutil.Process()
    return f"{_host()}{process.pid}:{process.create_time():.2f}"


def _open_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs of commands that have not ended."""
    ended = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    wanted = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in ended])
    runs = [record.dagster_run for record in instance.get_run_records(wanted)]
    return [run for run in runs if PROCESS in run.tags]


def _host() -> str:
    return f"{socket.gethostname()}:"  # runs of other machines may share the instance
