"""The command line: ``music-assets ...``."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from music_assets.paths import DataPaths, DiskFull

app = typer.Typer(help="Symbolic music from raw MIDI to an honest report.", no_args_is_help=True, add_completion=False)

Architecture = Annotated[str, typer.Option(help="Network to train: gpt, lstm or gru.")]
Preset = Annotated[
    str | None,
    typer.Option(help="Network's size: tiny (a laptop's CPU), small, base (one big GPU); as the last time, or tiny."),
]
Minutes = Annotated[float | None, typer.Option(help="Training budget in minutes; as the last time, or 3.5.", min=0.01)]
Samples = Annotated[int, typer.Option(help="Samples to generate per genre.", min=1, max=4096)]
Retrain = Annotated[bool, typer.Option("--retrain", help="Train even if no shard changed since the last training.")]


@app.command("embedded-corpus")
def embedded_corpus() -> None:
    """Write the chorales, reels, jigs and hornpipes of the music21 package into the drop folder."""
    from music_assets.corpus.embedded import write_embedded_corpus

    counts = write_embedded_corpus(DataPaths.from_environment().raw)
    typer.echo("embedded corpus: " + ", ".join(f"{count} {genre}" for genre, count in counts.items()))


@app.command()
def pipeline(
    architecture: Architecture = "gpt",
    preset: Preset = None,
    minutes: Minutes = None,
    samples: Samples = 24,
    retrain: Retrain = False,
) -> None:
    """Bring the whole graph up to date with the drop folder, as runs that the Dagster UI shows."""
    from music_assets.pipeline import run_pipeline

    os.environ.setdefault("DAGSTER_HOME", str(_project()))
    report = run_pipeline(architecture, preset, minutes, samples, retrain)
    typer.echo(
        f"\nreport   {report}\nlisten   open the report, or {DataPaths.from_environment().samples(architecture, '')}"
    )
    typer.echo("browse   make ui")


@app.command()
def demo(minutes: Minutes = None) -> None:
    """The whole graph on the embedded corpus, with a small GPT."""
    embedded_corpus()
    pipeline(minutes=minutes)


@app.command()
def compare(
    minutes: Annotated[float, typer.Option(help="Training budget of each in minutes.", min=0.01)] = 3.5,
    architectures: Annotated[str, typer.Option(help="What to compare, separated by commas.")] = "gpt,lstm,gru",
    preset: Preset = None,
) -> None:
    """Train several architectures for the same time on the same pieces, and print one table."""
    from music_assets.pipeline import run_comparison

    os.environ.setdefault("DAGSTER_HOME", str(_project()))
    names = [name.strip() for name in architectures.split(",") if name.strip()]
    table = run_comparison(names, preset, minutes)
    typer.echo(f"\n{table}\nkept in {DataPaths.from_environment().comparison}")


@app.command()
def ui(
    dagster_port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000,
) -> None:
    """Run the Dagster web UI, its daemon and the MLflow server until Ctrl-C."""
    from music_assets.servers import servers
    from music_assets.training.tracking import tracking_uri

    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    with servers(_project(), tracking_uri(DataPaths.from_environment()), dagster_port, mlflow_port) as (
        addresses,
        running,
    ):
        typer.echo(f"\n  Dagster  {addresses.dagster}\n  MLflow   {addresses.mlflow}\n\n  Ctrl-C ends both.\n")
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except KeyboardInterrupt:
            return
        ended = next(process for process in running if process.poll() is not None)
        typer.echo(f"One server ended with exit code {ended.returncode}; ending the other.", err=True)
        raise typer.Exit(1)


def _project() -> Path:
    """The folder with dagster.yaml: DAGSTER_HOME, or the working directory.

    Raises:
        ValueError: it is neither.
    """
    project = Path(os.environ.get("DAGSTER_HOME", Path.cwd())).resolve()
    if not (project / "dagster.yaml").is_file():
        raise ValueError(f"{project} has no dagster.yaml: start music-assets from the project's folder.")
    return project


def main() -> None:
    """Run a command; an error that tells the user what to do is shown as its one sentence."""
    try:
        app()
    except (ValueError, FileNotFoundError, ModuleNotFoundError, DiskFull) as error:
        typer.echo(f"music-assets: {error}", err=True)
        sys.exit(1)
