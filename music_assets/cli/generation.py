"""The commands that ask a network for music."""

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import hexdigest
from music_assets.foundation.interrupts import Interrupts
from music_assets.generation.request import OPTION_NAMES, Request, make_request
from music_assets.paths import DataPaths, file_name

Architecture = Annotated[str, typer.Option(help="Whose champion to ask.")]
CheckpointFolder = Annotated[Path | None, typer.Option(help="Ask this checkpoint instead: its folder.")]


def _with_wishes(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes ``**wishes`` an option for each field of a request."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind != p.VAR_KEYWORD]
    wishes = []
    for name, field in Request.model_fields.items():
        several = field.annotation in (list[str], list[int])
        option = typer.Option(
            f"--{OPTION_NAMES.get(name, name.replace('_', '-'))}",
            help=f"{field.description}{', separated by commas' if several else ''}.",
        )
        kind = str | None if several else field.annotation
        default = None if several else field.default
        wishes.append(inspect.Parameter(name, own[0].kind, default=default, annotation=Annotated[kind, option]))
    command.__signature__ = inspect.Signature([*wishes, *own])  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {p.name: p.annotation for p in [*wishes, *own]}
    return command


@_with_wishes
def generate(
    out: Annotated[Path, typer.Option(help="Folder for the candidates: .mid, .ogg, .png and .json of each.")] = Path(
        "generated"
    ),
    audio: Annotated[bool, typer.Option(help="Whether to render .ogg.")] = True,
    architecture: Architecture = "gpt",
    checkpoint: CheckpointFolder = None,
    **wishes: Any,
) -> None:
    """Ask a network for music: from nothing, from notes, behind a MIDI file or inside it.

    Ctrl-C stops the writing and keeps what has been written.
    """
    request = make_request(**{name: _listed(name, wish) for name, wish in wishes.items()})
    from tqdm import tqdm

    from music_assets.checkpoints.storage import load_checkpoint
    from music_assets.generation.generate import generate as write
    from music_assets.generation.samples import write_candidate
    from music_assets.rendering.audio import render_many
    from music_assets.training.precision import choose_device

    out.mkdir(parents=True, exist_ok=True)
    champion = load_checkpoint(_checkpoint(architecture, checkpoint), choose_device())
    interrupts, candidates = Interrupts(), []
    with tqdm(unit=" bars", bar_format="{n} bars in {elapsed}{postfix}") as shown:

        def progress(bars: int, finished: int) -> None:
            shown.set_postfix_str(f"{finished} of {request.count} finished", refresh=False)
            shown.update(bars - shown.n)
            if interrupts.received:
                raise StopIteration

        with suppress(KeyboardInterrupt), interrupts:
            candidates = write(champion, request, progress)
    if interrupts.received:
        typer.echo("Stopped: what has been written is kept.", err=True)
    name = request.continue_file or request.fill_file
    of = hexdigest(request.model_dump_json(exclude={"count"}), size=3)  # another request overwrites no candidate
    stem = f"{Path(name).stem if name else file_name(request.genre or 'music')}-{request.seed}-{of}"
    paths = [out / f"{stem}-{one.index:03d}" for one in candidates]
    for path, one in zip(paths, candidates, strict=True):
        write_candidate(one, request, champion, path)
    if audio:
        heard = [path for path, one in zip(paths, candidates, strict=True) if one.score.note_num()]
        render_many([(Path(f"{path}.mid"), Path(f"{path}.ogg")) for path in heard], os.cpu_count() or 1)
    for path, one in zip(paths, candidates, strict=True):
        typer.echo(f"{path}.mid  {one.note_count} new notes")


def choices(architecture: Architecture = "gpt", checkpoint: CheckpointFolder = None) -> None:
    """What a checkpoint can be asked for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from music_assets.checkpoints.runs import read_facts
    from music_assets.generation.choices import choices as choices_of

    found = choices_of(read_facts(_checkpoint(architecture, checkpoint)))
    table = Table.grid(padding=(0, 2))
    for name, values in {
        "genres": found.genres,
        "families": found.families,
        "instruments": found.instruments,
        "scales": found.scales,
        "time signatures": found.time_signatures,
        "tempo": (f"{found.tempos[0]:g} to {found.tempos[1]:g} quarter notes a minute",),
    }.items():
        if values:
            table.add_row(Text(name, "bold"), Text(", ".join(values)))
    Console().print(table)


def _checkpoint(architecture: str, folder: Path | None) -> Path:
    from music_assets.checkpoints.runs import require_champion
    from music_assets.models.registry import find_architecture

    if folder is not None:
        return folder
    find_architecture(architecture)
    return require_champion(DataPaths.from_environment().checkpoints(architecture))


def _listed(name: str, wish: Any) -> Any:
    """The values of an option that takes several."""
    kind = Request.model_fields[name].annotation
    if kind not in (list[str], list[int]):
        return wish
    parts = [part.strip() for part in (wish or "").split(",") if part.strip()]
    try:
        return [int(part) for part in parts] if kind == list[int] else parts
    except ValueError:
        raise MusicAssetsError(f"--{name} takes numbers separated by commas, not {wish!r}.") from None
