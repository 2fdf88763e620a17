"""Everything that Dagster sees: thin assets, a file a group, in the order in which music flows through them."""

import warnings

# One run for all transpositions of a genre is what keeps a piece from being encoded twelve times.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")
