"""One process of several that train a network together, on one machine or more.

``torchrun --nproc-per-node 2 -m music_assets.training.distributed job.json``, or by Dagster, which starts it as a Pipes
process. Each process computes its rows of every batch, and the gradients are added up; gloo connects CPUs, nccl GPUs.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.interrupts import TrainingInterrupted
from music_assets.training.settings import TrainingSettings

ERROR = "error.txt"
"""Beside the job's file: what the first process says if it is interrupted or meets what a user can mend."""


class Job(BaseModel):
    """What all processes are told: the arguments of :func:`music_assets.training.loop.train`."""

    architecture: str
    config: TrainingSettings
    shards: list[Path]
    run: Path
    vocabulary: str
    mlflow_run_id: str | None = None
    data: Path | None = None  # the data folder, for MLflow
    parent: int | None = None  # the process whose end ends this one


def exit_with_parent(parent: int) -> None:
    """End this process when another one of this machine dies, so that no orphan trains on."""
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


@contextmanager
def process_group(device: str) -> Iterator[tuple[Any, str]]:
    """This process's place in its group, from torchrun's environment, and its device; the group ends with the block.

    ``auto`` gives every process of a machine a GPU of its own where there are enough, else the CPU; ``cuda`` insists.

    Raises:
        UnusableDevice: there are not enough GPUs, or one is named for all processes.
    """
    import torch
    import torch.distributed as dist

    from music_assets.training.group import Group
    from music_assets.training.precision import UnusableDevice

    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local, beside = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    gpus = torch.cuda.device_count()
    if device == "cuda" and gpus < beside:
        raise UnusableDevice(
            f"{beside} processes on this machine need a GPU each, and it has {gpus}: choose device auto."
        )
    if device not in ("auto", "cuda", "cpu"):
        raise UnusableDevice(f"The device {device!r} is one for {beside} processes: choose auto, cuda or cpu.")
    if device != "cpu":
        device = f"cuda:{local}" if gpus >= beside else "cpu"
    if device == "cpu":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // beside))
    else:
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield Group(rank, size), device
    finally:
        dist.destroy_process_group()


def run_job(job: Job) -> None:
    """Train as one process of the group; the first one reports to MLflow."""
    from music_assets.paths import DataPaths
    from music_assets.tokens.shards import read_shard
    from music_assets.tokens.vocabulary import Vocabulary
    from music_assets.training.loop import train
    from music_assets.training.mlflow_store import TrackingUnreachable
    from music_assets.training.progress import TrainingProgress
    from music_assets.training.tracking import Tracking

    with process_group(job.config.device) as (group, device):
        tracked = None
        if group.is_main and job.mlflow_run_id and job.data:
            tracked = Tracking(DataPaths(job.data)).attach(job.mlflow_run_id)

        def report(progress: TrainingProgress) -> None:
            if tracked:
                tracked.report(progress)
            if group.is_main:
                print(progress.line(), flush=True)

        train(
            job.architecture,
            job.config,
            [read_shard(path) for path in job.shards],
            job.run,
            vocabulary=Vocabulary.from_json(job.vocabulary),
            report=report,
            mlflow_run_id=job.mlflow_run_id,
            group=group,
            device=device,
        )
        if tracked:
            try:
                tracked.flush()
            except TrackingUnreachable as error:
                print(f"{error} The last points of the curves are lost.", flush=True)


def main() -> None:
    """Run the job in the file that the command line names; what a user can mend is shown as its one sentence."""
    from dagster_pipes import open_dagster_pipes

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    job = Job.model_validate_json(Path(sys.argv[1]).read_bytes())
    if job.parent is not None:
        exit_with_parent(job.parent)
    is_main = os.environ.get("RANK", "0") == "0"
    piped = is_main and "DAGSTER_PIPES_CONTEXT" in os.environ
    with open_dagster_pipes() if piped else nullcontext():
        try:
            run_job(job)
        except (MusicAssetsError, TrainingInterrupted) as error:
            if is_main:
                Path(sys.argv[1]).with_name(ERROR).write_text(str(error))
            print(error, file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
