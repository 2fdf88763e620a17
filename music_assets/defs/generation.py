"""generation: a checkpoint to music."""

from typing import Any

import dagster as dg

from music_assets.checkpoints.runs import require_champion
from music_assets.defs.failures import AssetConfig, user_errors_as_failures
from music_assets.defs.metadata import log_progress, table
from music_assets.defs.model import checkpoint
from music_assets.defs.partitions import genre_by_architecture
from music_assets.defs.resources import Data, Links, available_cores
from music_assets.foundation.errors import MusicAssetsError
from music_assets.generation.request import Wishes
from music_assets.tokens.vocabulary import FINGERPRINT


class SamplesConfig(AssetConfig, Wishes):
    """What may be asked of the samples in the launchpad."""


@dg.asset(
    group_name="generation",
    kinds={"midi", "audio"},
    code_version=f"vocabulary {FINGERPRINT}, sampler 2",
    partitions_def=genre_by_architecture,
    deps=[checkpoint],
    pool="gpu",
    check_specs=[
        dg.AssetCheckSpec("no_empty_sample", asset="generated_samples", description="Every sample has notes.")
    ],
)
@user_errors_as_failures
def generated_samples(
    context: dg.AssetExecutionContext, config: SamplesConfig, data: Data, links: Links
) -> dg.MaterializeResult:
    """Pieces of one genre sampled from the champion: `.mid`, `.ogg`, a piano-roll `.png` and a `.json` that says how it
    was made, of each, in `data/samples` and in the model's MLflow run, where you can listen to them.

    The token ids are kept beside them and are the truth: each MIDI file encodes to its ids again. The same
    checkpoint, settings and seed give the same samples.
    """
    from music_assets.checkpoints.storage import load_checkpoint
    from music_assets.generation.samples import generate_samples
    from music_assets.training.precision import choose_device
    from music_assets.training.tracking import Tracking

    architecture, genre = context.partition_key.split("|")
    paths = data.paths
    champion = load_checkpoint(require_champion(paths.checkpoints(architecture)), choose_device())
    facts = champion.facts
    if genre not in facts.genres:
        raise MusicAssetsError(
            f"The champion {architecture} was trained before {genre} had shards: materialise checkpoint "
            f"[{architecture}] again, then sample {genre}."
        )
    batch = generate_samples(
        champion,
        genre,
        Wishes.model_validate(config.model_dump()),
        paths.samples(architecture, genre),
        available_cores(),
        log_progress(context, "samples"),
    )
    metadata: dict[str, Any] = {
        "run": facts.run,
        "samples": len(batch.names),
        "notes": sum(batch.notes),
        "inaudible": sum(not (batch.folder / f"{name}.ogg").exists() for name in batch.names),
        "ended": table({"by": end, "samples": batch.ended.count(end)} for end in sorted(set(batch.ended))),
        "settings": dg.MetadataValue.json(batch.settings.model_dump()),
        "path": dg.MetadataValue.path(batch.folder),
    }
    tracking = Tracking(paths)
    if tracking.has_run(facts.mlflow_run_id):
        tracking.log_artifacts(facts.mlflow_run_id, batch.folder, f"samples/{batch.folder.name}")
        url = links.mlflow_run_url(tracking.experiment_id, facts.mlflow_run_id)
        metadata["listen"] = dg.MetadataValue.url(f"{url}/artifacts")
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name="no_empty_sample",
                passed=not batch.empty,
                metadata={"empty": ", ".join(batch.empty) or "none"},
            )
        ],
    )
