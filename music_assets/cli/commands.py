"""The commands, but for those that ask for music."""

import errno
import importlib.util
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from music_assets.cli import generation, listening, studio
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.interrupts import Interrupted, interruptible
from music_assets.models.registry import ARCHITECTURES
from music_assets.paths import DataPaths, named_folder

corpus = typer.Typer(help="Look at the corpus index; without a command, a summary of it.", invoke_without_command=True)
app = typer.Typer(
    help="Symbolic music from raw MIDI to an honest report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug's traceback is to be pasted into a report
)

app.add_typer(corpus, name="corpus")
app.add_typer(listening.listen, name="listen")
app.command()(generation.generate)
app.command()(generation.choices)
app.command()(studio.studio)


_REFUSED = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or name a folder on another disk."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Allow writing there, or name another folder."),
}
"""What the system refuses, and the way out."""


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


Architecture = Annotated[str, typer.Option(help=f"Network to train: {', '.join(ARCHITECTURES)}.")]
Preset = Annotated[
    str | None,
    typer.Option(help="Network's size: tiny (a laptop's CPU), small, base (one big GPU); as the last time, or tiny."),
]
Minutes = Annotated[
    float | None,
    typer.Option(help="Training budget in minutes; as the last time, or 3.5.", min=0.01, callback=_finite),
]
Samples = Annotated[
    int | None, typer.Option(help="Samples to generate per genre; as the last time, or 24.", min=1, max=4096)
]
Retrain = Annotated[
    bool, typer.Option("--retrain", help="Train even if nothing changed since the last training with these settings.")
]


@app.command("embedded-corpus")
def embedded_corpus() -> None:
    """Write the chorales, reels, jigs and hornpipes of the music21 package into the drop folder."""
    from music_assets.corpus.fetch.embedded import write_embedded_corpus

    counts = write_embedded_corpus(DataPaths.from_environment().raw)
    typer.echo("embedded corpus: " + ", ".join(f"{count} {genre}" for genre, count in counts.items()))


@app.command()
def pipeline(
    architecture: Architecture = "gpt",
    preset: Preset = None,
    minutes: Minutes = None,
    samples: Samples = None,
    retrain: Retrain = False,
) -> None:
    """Bring the whole graph up to date with the drop folder, as runs that the Dagster UI shows."""
    os.environ["DAGSTER_HOME"] = str(_project())
    with _interruptible():
        from music_assets.pipeline import run_pipeline

        report = run_pipeline(architecture, preset, minutes, samples, retrain)
    typer.echo(
        f"\nreport   {report}\nlisten   open the report, or {DataPaths.from_environment().samples(architecture, '')}"
    )
    typer.echo("browse   make ui")


@app.command()
def demo(minutes: Minutes = None) -> None:
    """The whole graph on the embedded corpus, with a small GPT."""
    with _interruptible():
        embedded_corpus()
    pipeline(minutes=minutes)


@corpus.callback()
def corpus_summary(context: typer.Context) -> None:
    """Look at the corpus index; without a command, a summary of it."""
    if context.invoked_subcommand is None:
        _print_summary(DataPaths.from_environment())


@corpus.command()
def why(path: Annotated[str, typer.Argument(help="A MIDI file, by its path or as the index spells it.")]) -> None:
    """Tell one file's full story: verdict, music, copies, song, labels, split, and why it is in a shard or not."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from music_assets.corpus.index.story import story
    from music_assets.tokens.membership import in_shards

    paths = DataPaths.from_environment()
    told = Table.grid(padding=(0, 2))
    for heading, text in story(paths, path, partial(in_shards, paths)):
        told.add_row(Text(heading, "bold"), Text(text))
    Console(soft_wrap=True).print(told)


@corpus.command()
def update() -> None:
    """Read new and changed MIDI files, build the index, and publish the genres that changed."""
    _index("raw_midi", "midi_index")


@corpus.command()
def relabel() -> None:
    """Take up edited labels, artists or taxonomy without reading a MIDI file again."""
    _index("midi_index")


def _index(*assets: str) -> None:
    os.environ["DAGSTER_HOME"] = str(_project())
    with _interruptible():
        from music_assets.pipeline import run_index

        run_index(*assets)
    _print_summary(DataPaths.from_environment())


def _print_summary(paths: DataPaths) -> None:
    from rich.console import Console
    from rich.table import Table

    from music_assets.corpus.index.queries import index_summary, label_audit, verdict_counts

    summary = index_summary(paths.index)
    console = Console()
    console.print(
        f"{summary.files:,} files, {summary.ok:,} usable, {summary.pieces:,} pieces: {summary.copies:,} copies, "
        f"{summary.near_duplicates:,} near-duplicates, {summary.unlabelled:,} without a label, "
        f"{summary.excluded:,} excluded",
        f"\n{summary.leaking} of {summary.held_out:,} held-out pieces resemble a training piece ({summary.leak:.2%}); "
        f"{summary.held_out_unknown} are too short to be compared",
    )
    genres = [
        {
            "genre": name,
            "train": genre.train,
            "valid": genre.valid,
            "test": genre.test,
            "duplicates": genre.duplicates,
            "excluded": genre.excluded,
            "partition": "yes" if genre.enough else f"waits for {genre.minimum_pieces}",
        }
        for name, genre in summary.genres.items()
    ]
    for title, rows in {"verdicts": verdict_counts(paths.index), "genres": genres, **label_audit(paths.index)}.items():
        if not rows:
            continue
        table = Table(title=title.replace("_", " "), title_justify="left")
        for name, value in rows[0].items():
            table.add_column(name.replace("_", " "), justify="left" if isinstance(value, str) else "right")
        for row in rows:
            table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
        console.print(table)
    for note in summary.notes:
        console.print(f"note: {note}", markup=False)


@app.command()
def vocabulary(
    checkpoint: Annotated[
        Path | None, typer.Option(help="Take the genres of this checkpoint: its folder, or its vocabulary.json.")
    ] = None,
    genre: Annotated[list[str] | None, typer.Option(help="Only this genre of the checkpoint; can be repeated.")] = None,
) -> None:
    """Print the token ids by type, the vocabulary's fingerprint and, of a checkpoint, the genres."""
    from rich.console import Console
    from rich.table import Table

    from music_assets.tokens.vocabulary import MEANINGS, Vocabulary, read_vocabulary

    known = read_vocabulary(checkpoint) if checkpoint else Vocabulary()
    genre_ids = {name: known.genre_id(name) for name in genre or known.genres}
    types = Table(title="token types", title_justify="left")
    for heading in ("type", "first", "last", "count"):
        types.add_column(heading, justify="left" if heading == "type" else "right", no_wrap=True)
    types.add_column("meaning")
    types.add_column("names")
    for kind, ids in known.ranges.items():
        shown, between = (ids, ", ") if len(ids) <= 4 else ((ids[0], ids[-1]), " … ")
        names = between.join(known.name(token) for token in shown)
        types.add_row(kind, str(ids[0]), str(ids[-1]), str(len(ids)), MEANINGS[kind], names)
    unused = range(max(ids.stop for ids in known.ranges.values()), known.size)
    types.add_row("", str(unused[0]), str(unused[-1]), str(len(unused)), "unused", "")
    console = Console()
    console.print(types)
    if genre_ids:
        genres = Table("genre", "id", title="genres", title_justify="left")
        for name, token in genre_ids.items():
            genres.add_row(name, str(token))
        console.print(genres)
    console.print(f"{known.size} ids, fingerprint {known.fingerprint}", highlight=False)


@app.command()
def compare(
    minutes: Annotated[
        float, typer.Option(help="Training budget of each in minutes.", min=0.01, callback=_finite)
    ] = 3.5,
    architectures: Annotated[str, typer.Option(help="What to compare, separated by commas.")] = ",".join(ARCHITECTURES),
    preset: Preset = None,
    retrain: Retrain = False,
    seed: Annotated[int, typer.Option(help="Seed of the weights and the batches.", min=0, max=2**63 - 1)] = 0,
) -> None:
    """Train several architectures for the same time on the same pieces, and print one table."""
    os.environ["DAGSTER_HOME"] = str(_project())
    names = [name.strip() for name in architectures.split(",") if name.strip()]
    with _interruptible():
        from music_assets.pipeline import run_comparison

        table = run_comparison(names, preset, minutes, seed, retrain)
    typer.echo(f"\n{table}\nkept in {DataPaths.from_environment().comparison}")


@app.command()
def ui(
    dagster_port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000,
    studio_port: Annotated[int, typer.Option(help="Port of the studio.")] = 7860,
) -> None:
    """Run the Dagster web UI, its daemon, the MLflow server and, once a gpt is trained, the studio until Ctrl-C."""
    from music_assets.checkpoints.runs import champion
    from music_assets.servers import servers
    from music_assets.training.mlflow_store import tracking_uri

    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    paths = DataPaths.from_environment()
    plays = champion(paths.checkpoints("gpt")) is not None and importlib.util.find_spec("gradio") is not None
    ports = dagster_port, mlflow_port, studio_port if plays else None
    with servers(_project(), tracking_uri(paths), *ports) as (addresses, running):
        studio = addresses.studio or "once a gpt is trained: music-assets studio"
        typer.echo(f"\n  Dagster  {addresses.dagster}\n  MLflow   {addresses.mlflow}\n  Studio   {studio}")
        typer.echo("\n  Ctrl-C ends all.\n")
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except KeyboardInterrupt:
            return
        ended = next(process for process in running if process.poll() is not None)
        typer.echo(f"One server ended with exit code {ended.returncode}; ending the others.", err=True)
        raise typer.Exit(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    def clean_up() -> None:
        from music_assets.defs.processes import cancel_own_runs

        cancel_own_runs()

    with interruptible(clean_up):
        yield


def _project() -> Path:
    """The folder with dagster.yaml: DAGSTER_HOME, or the working directory.

    Raises:
        MusicAssetsError: it is neither.
    """
    project = named_folder("DAGSTER_HOME", ".")
    if not (project / "dagster.yaml").is_file():
        raise MusicAssetsError(f"{project} has no dagster.yaml: start music-assets from the project's folder.")
    return project


def main() -> None:
    """Run a command. What a user can mend is shown as its one sentence; a bug keeps its traceback."""
    try:
        app()
    except Interrupted as error:
        typer.echo(f"music-assets: {error}", err=True)
        sys.stdout.flush()
        os._exit(error.code)  # all is saved, and what libraries do at exit takes seconds
    except MusicAssetsError as error:
        typer.echo(f"music-assets: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        typer.echo(f"music-assets: {error.filename or 'A file'}: {error.strerror}. {_REFUSED[error.errno]}", err=True)
        sys.exit(1)
