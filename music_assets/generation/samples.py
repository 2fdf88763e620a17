"""A genre's samples on disk: token ids are the truth, MIDI, audio and pictures are made from them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from music_assets.checkpoints.storage import Checkpoint
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.midi.writing import write_midi
from music_assets.foundation.publishing import publish, restore
from music_assets.generation.config import SamplingConfig
from music_assets.generation.sampling import sample
from music_assets.paths import file_name
from music_assets.rendering.audio import render_many
from music_assets.rendering.pictures import draw_pianoroll
from music_assets.tokens.remi import canonical, decode, notes
from music_assets.tokens.vocabulary import check_fingerprint

_TABLE = "samples.arrow"


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one genre by one checkpoint; ``ids`` are canonical: MIDI written from them encodes to them.

    A sample without a note, or too soft to be heard, has no .ogg.
    """

    folder: Path
    genre: str
    architecture: str
    run: str
    settings: SamplingConfig
    names: list[str]  # files are <name>.mid, <name>.ogg, <name>.png
    ended: list[str]
    ids: list[NDArray[np.uint16]]
    notes: list[int]

    @property
    def empty(self) -> list[str]:
        """Names of the samples without a note."""
        return [name for name, count in zip(self.names, self.notes, strict=True) if count == 0]


def generate_samples(
    checkpoint: Checkpoint,
    genre: str,
    settings: SamplingConfig,
    folder: Path,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SampleBatch:
    """Sample a genre and replace ``folder`` by the result: a table of ids, and .mid, .ogg and .png of each.

    Raises:
        UnknownGenre: the checkpoint was trained before this genre had shards.
        CheckpointError: it is one over piano rolls.
    """
    drawn = sample(checkpoint.token_network, checkpoint.vocabulary, genre, settings, progress)
    ids = [canonical(one.ids) for one in drawn]
    names = [f"{file_name(genre)}-{index:03d}" for index in range(len(ids))]
    counts = [len(notes(one).pitch) for one in ids]
    with publish(folder) as fresh:
        fresh.mkdir()
        for name, one in zip(names, ids, strict=True):
            score = decode(one)
            write_midi(score, fresh / f"{name}.mid")
            draw_pianoroll(score, fresh / f"{name}.png", f"{name} ({checkpoint.facts.architecture})")
        audible = [name for name, count in zip(names, counts, strict=True) if count]
        render_many([(fresh / f"{name}.mid", fresh / f"{name}.ogg") for name in audible], workers)
        batch = pa.record_batch(
            {
                "name": pa.array(names, pa.large_string()),
                "ended": pa.array([one.ended for one in drawn], pa.large_string()),
                "notes": pa.array(counts, pa.int32()),
                "ids": pa.array(ids, pa.large_list(pa.uint16())),
            },
            metadata={
                "fingerprint": checkpoint.vocabulary.fingerprint,
                "genre": genre,
                "architecture": checkpoint.facts.architecture,
                "run": checkpoint.facts.run,
                "settings": settings.model_dump_json(),
            },
        )
        with (
            pa.OSFile(str(fresh / _TABLE), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)
    return read_samples(folder)


def read_samples(folder: Path) -> SampleBatch:
    """The samples in a folder.

    Raises:
        MusicAssetsError: none were generated there.
        VocabularyMismatch: they were made with another vocabulary.
    """
    path = restore(folder) / _TABLE
    if not path.is_file():
        raise MusicAssetsError(f"There are no samples in {folder}: materialise generated_samples for it first.")
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    metadata = {key.decode(): value.decode() for key, value in reader.schema.metadata.items()}
    check_fingerprint(f"The samples in {folder}", metadata["fingerprint"])
    batch = reader.get_batch(0)
    ids = batch.column("ids")
    return SampleBatch(
        folder=folder,
        genre=metadata["genre"],
        architecture=metadata["architecture"],
        run=metadata["run"],
        settings=SamplingConfig.model_validate(json.loads(metadata["settings"])),
        names=batch.column("name").to_pylist(),
        ended=batch.column("ended").to_pylist(),
        ids=np.split(ids.values.to_numpy(), ids.offsets.to_numpy()[1:-1]),
        notes=batch.column("notes").to_pylist(),
    )
