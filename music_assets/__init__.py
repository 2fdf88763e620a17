"""Symbolic music from raw MIDI to an honest report, as a graph of Dagster assets."""

import os

# PyTorch's threads wait for each other by spinning; on a machine that is busy with something else as well, that made
# sampling four times slower. A short spin costs nothing on an idle one. To be set before PyTorch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
