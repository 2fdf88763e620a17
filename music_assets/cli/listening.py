"""The commands of blind listening tests."""

import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from music_assets.foundation.errors import MusicAssetsError
from music_assets.paths import DataPaths

if TYPE_CHECKING:
    from music_assets.evaluation.listening import Rating

listen = typer.Typer(help="Blind listening tests: real and generated music, told apart by ear.", no_args_is_help=True)

Architecture = Annotated[str, typer.Option(help="Whose champion's samples are heard.")]


@listen.command()
def prepare(
    architecture: Architecture = "gpt",
    count: Annotated[int, typer.Option(help="Real excerpts, and as many generated ones.", min=1, max=100)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the choice and the order.", min=0, max=2**63 - 1)] = 0,
) -> None:
    """Make a session: real and generated excerpts of equal length and loudness, under names that betray nothing."""
    from music_assets.evaluation.listening import ListeningSettings, prepare_session
    from music_assets.evaluation.subject import champion_of
    from music_assets.models.registry import find_architecture

    find_architecture(architecture)
    paths = DataPaths.from_environment()
    material = prepare_session(champion_of(paths, architecture), ListeningSettings(count=count, seed=seed))
    other = "" if architecture == "gpt" else f" --architecture {architecture}"
    typer.echo(
        f"session  {material.session}: {len(material.excerpts)} excerpts of {material.seconds:.1f} s\n"
        f"listen   {paths.listening(architecture) / material.session}\n"
        f"rate     music-assets listen rate {material.session} --rater NAME{other}"
    )
    if material.short_pieces or material.short_samples:
        typer.echo(
            f"Too short to be heard: {material.short_pieces} test pieces, {material.short_samples} samples.", err=True
        )


@listen.command()
def rate(
    session: Annotated[str, typer.Argument(help="A session: its name, or its folder.")],
    rater: Annotated[str, typer.Option(help="Who listens: the same name each time.")],
    architecture: Architecture = "gpt",
) -> None:
    """Ask what you hear in each excerpt that you have not rated yet.

    Ctrl-C ends it; what has been said of the excerpts before is kept.
    """
    from music_assets.evaluation.listening import ListeningFiles, append_rating, not_rated_yet, read_material

    signal.siginterrupt(signal.SIGINT, True)  # polars has a read that waits at the terminal go on after Ctrl-C
    files = ListeningFiles(DataPaths.from_environment().listening(architecture))
    material = read_material(files, Path(session).name)
    name = _rater(rater)
    left = not_rated_yet(files, material, name)
    names = [excerpt.name for excerpt in material.excerpts]
    for excerpt in left:
        number = names.index(excerpt) + 1
        path = files.session(material.session) / f"{excerpt}.ogg"
        if not path.is_file():
            raise MusicAssetsError(f"{path} is gone: prepare the session again, with the same seed and count.")
        typer.echo(f"\n{number} of {len(names)}: play {path}")
        try:
            rating = _asked(material.session, excerpt, name)
        except (typer.Abort, KeyboardInterrupt):
            typer.echo("\nStopped: what you have said is kept, and the same command goes on from here.", err=True)
            return
        append_rating(files.ratings, rating)
    typer.echo(f"\nThank you, {name}: you have rated all {len(names)} excerpts.")


@listen.command()
def results(architecture: Architecture = "gpt") -> None:
    """Print what the ratings of the champion's samples say."""
    from rich.console import Console
    from rich.table import Table

    from music_assets.evaluation.listening import ListeningFiles, report_so_far
    from music_assets.evaluation.report.numbers import estimate, level, number
    from music_assets.evaluation.settings import EvaluationSettings
    from music_assets.evaluation.subject import champion_of
    from music_assets.models.registry import find_architecture

    find_architecture(architecture)
    paths, settings = DataPaths.from_environment(), EvaluationSettings()
    files = ListeningFiles(paths.listening(architecture))
    run = champion_of(paths, architecture).facts.run
    found = report_so_far(files, settings, run, partial(typer.echo, err=True))
    table = Table(title=f"ratings of 1 to 5, [{level(settings.confidence)} intervals]", title_justify="left")
    for heading in ("scale", "real", "generated", "generated − real", "alpha"):
        table.add_column(heading, justify="left" if heading == "scale" else "right")
    for row in found.scales:
        table.add_row(row.scale, *map(estimate, (row.real, row.generated, row.difference)), number(row.alpha))
    console = Console()
    console.print(table)
    typer.echo(
        f"right guesses {estimate(found.right, as_percent=True)}, by chance 50%; of real excerpts "
        f"{estimate(found.right_of_real, as_percent=True)}, of generated ones "
        f"{estimate(found.right_of_generated, as_percent=True)}\n"
        f"{found.ratings} ratings by {found.raters} raters, of {found.real_pieces} real and {found.generated_pieces} "
        "generated pieces"
    )
    if found.raters == 1:
        typer.echo("One person rated: the intervals say nothing of other people.")
    if found.gone or found.of_other_runs:
        typer.echo(
            f"Left out: {found.gone} ratings of excerpts that are gone, {found.of_other_runs} of other checkpoints."
        )


def _rater(name: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from music_assets.evaluation.listening import Rater

    try:
        return TypeAdapter[str](Rater).validate_python(name)
    except ValidationError as error:
        raise MusicAssetsError(f"--rater cannot be {name!r}: {error.errors()[0]['msg']}.") from None


def _asked(session: str, excerpt: str, rater: str) -> "Rating":
    from music_assets.evaluation.listening import ENDS, Rating

    grades = {
        scale: typer.prompt(f"{scale.capitalize()}, 1 ({low}) to 5 ({high})", value_proc=_grade)
        for scale, (low, high) in ENDS.items()
    }
    is_real = typer.prompt("Real or generated (r/g)", value_proc=_guess)
    return Rating(session=session, excerpt=excerpt, rater=rater, is_real=is_real, **grades)


def _grade(said: str) -> int:
    if said.strip() not in {"1", "2", "3", "4", "5"}:
        raise typer.BadParameter("say 1, 2, 3, 4 or 5.")
    return int(said)


def _guess(said: str) -> bool:
    word = said.strip().lower()
    found = [name for name in ("real", "generated") if word and name.startswith(word)]
    if not found:
        raise typer.BadParameter("say r for real or g for generated.")
    return found == ["real"]
