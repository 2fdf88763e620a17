# pyarrow has no types
# pyright: standard
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
from music_assets.foundation.publishing import publish, restore
from music_assets.generation.generate import generate
from music_assets.generation.request import Request, Wishes
from music_assets.generation.task import Candidate
from music_assets.paths import file_name
from music_assets.rendering.audio import render_many
from music_assets.rendering.pictures import pianoroll_png
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
    settings: Wishes
    names: list[str]  # files are <name>.mid, <name>.ogg, <name>.png, <name>.json
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
    wishes: Wishes,
    folder: Path,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SampleBatch:
    """Sample a genre and replace ``folder`` by the result: a table of ids, and .mid, .ogg, .png and .json of each.

    Args:
        progress: called with the samples that are complete and all, now and then.

    Raises:
        UnknownGenre: the checkpoint was trained before this genre had shards.
        BadRequest: the checkpoint cannot be asked for such music.
    """
    request = Request(genre=genre, **wishes.model_dump())
    candidates = generate(checkpoint, request, lambda bars, ended: progress(ended, request.count))
    names = [f"{file_name(genre)}-{one.index:03d}" for one in candidates]
    with publish(folder) as fresh:
        fresh.mkdir()
        for name, one in zip(names, candidates, strict=True):
            write_candidate(one, request, checkpoint, fresh / name)
        audible = [name for name, one in zip(names, candidates, strict=True) if one.note_count]
        render_many([(fresh / f"{name}.mid", fresh / f"{name}.ogg") for name in audible], workers)
        batch = pa.record_batch(
            {
                "name": pa.array(names, pa.large_string()),
                "ended": pa.array([one.ended for one in candidates], pa.large_string()),
                "notes": pa.array([one.note_count for one in candidates], pa.int32()),
                "ids": pa.array([one.ids for one in candidates], pa.large_list(pa.uint16())),
            },
            metadata={
                "fingerprint": checkpoint.vocabulary.fingerprint,
                "genre": genre,
                "architecture": checkpoint.facts.architecture,
                "run": checkpoint.facts.run,
                "settings": wishes.model_dump_json(),
            },
        )
        with (
            pa.OSFile(str(fresh / _TABLE), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)
    return read_samples(folder)


def write_candidate(candidate: Candidate, request: Request, checkpoint: Checkpoint, path: Path) -> None:
    """Write a candidate as ``path`` with the suffixes .mid, .png and .json; the last says how it was made."""
    facts = checkpoint.facts
    made = {
        "command": f"{request.command} --architecture {facts.architecture}",
        "candidate": candidate.index,
        "request": request.model_dump(),
        "architecture": facts.architecture,
        "run": facts.run,
        "vocabulary": facts.vocabulary,
        "ended": candidate.ended,
        "notes": candidate.note_count,
        "ids": candidate.ids.tolist(),
    }
    for suffix, data in (
        (".mid", candidate.midi),
        (".png", pianoroll_png(candidate.score, f"{path.name} ({facts.architecture})")),
        (".json", json.dumps(made).encode()),
    ):
        with publish(path.with_name(path.name + suffix)) as fresh:
            fresh.write_bytes(data)


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
        settings=Wishes.model_validate(json.loads(metadata["settings"])),
        names=batch.column("name").to_pylist(),
        ended=batch.column("ended").to_pylist(),
        ids=np.split(ids.values.to_numpy(), ids.offsets.to_numpy()[1:-1]),
        notes=batch.column("notes").to_pylist(),
    )
