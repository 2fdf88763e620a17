"""The one Definitions object. Imports nothing heavy, because every step's process loads it."""

import dagster as dg

from music_assets.defs import automation, corpus, evaluation, generation, model, tokens
from music_assets.defs.logs import plain
from music_assets.defs.resources import Data, Links

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([corpus, tokens, model, generation, evaluation]),
    jobs=[automation.ingest],
    sensors=[
        automation.drop_folder,
        automation.changed_genres,
        automation.new_checkpoint,
        automation.conditions,
    ],
    schedules=[automation.nightly_reading, automation.nightly_encoding, automation.nightly_retraining],
    resources={"data": Data(), "links": Links(), "pipes": dg.PipesSubprocessClient()},
    executor=dg.multiprocess_executor.configured(
        {
            "max_concurrent": 2,
            "start_method": {"forkserver": {"preload_modules": ["music_assets.definitions"]}},
        }
    ),
    loggers={"console": dg.colored_console_logger, "plain": plain},
)
