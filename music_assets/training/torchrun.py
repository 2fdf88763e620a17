"""torchrun on this machine, for which an interrupt is no error.

``python -m music_assets.training.torchrun 2 job.json`` starts two processes.
"""

import os
import sys
from contextlib import suppress

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException


def main() -> None:
    """Start so many processes of :mod:`music_assets.training.distributed` with the job's file, and wait for them."""
    # Ctrl-C in a terminal reaches the process that started this one, which passes it on: twice, torchrun leaves its
    # processes before they have saved.
    with suppress(PermissionError):  # it leads a group already
        os.setsid()
    processes, job = sys.argv[1:]
    try:
        run.main(["--standalone", "--nproc-per-node", processes, "-m", "music_assets.training.distributed", job])
    except SignalException as interrupt:
        sys.exit(128 + interrupt.sigval)


if __name__ == "__main__":
    main()
