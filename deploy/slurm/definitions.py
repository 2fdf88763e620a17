"""The graph, but a training of several processes is a Slurm job, as ``train.sbatch`` beside this file says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shared.record import copy

from music_assets.definitions import defs as local
from music_assets.training.distributed import Job

SCRIPT = Path(__file__).with_name("train.sbatch")


class SlurmPipesClient(dg.PipesSubprocessClient):
    """Submits the job's file, which is the last word of the command, and waits for Slurm to finish it.

    A training that outlived its Dagster run has the same name as its retry, which therefore waits for its end.
    """

    def run(self, *, command: Sequence[str], **options: Any) -> dg.PipesClientCompletedInvocation:
        file = Path(command[-1])
        job = Job.model_validate_json(file.read_bytes())
        # the process that the job should end with is on another machine
        file.write_text(job.model_copy(update={"parent": None}).model_dump_json())
        sbatch = ["sbatch", "--wait", "--dependency=singleton", f"--job-name={job.run.name}"]
        return super().run(command=[*sbatch, str(SCRIPT), str(file)], **options)


defs = copy(local, resources={**(local.resources or {}), "pipes": SlurmPipesClient()})
