"""Drawing piano rolls, against pretty_midi; and what a roll loses of each genre (the folder above the artist's)."""

import warnings
from collections import defaultdict
from pathlib import Path

from benchmarks.harness import Result, compare, machine, midi_files, options, show
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import load_score
from music_assets.tokens import rolls as pianoroll
from music_assets.tokens.remi import TooLong
from music_assets.tokens.rolls import STEPS_PER_QUARTER, RollLoss

TIMED_FILES = 40


def measures(lost: RollLoss) -> dict[str, tuple[float, str, str, float]]:
    """Name -> value, unit, baseline and its value: shares of the notes, and mean errors of those that are drawn."""
    drawn, step = lost.kept + lost.merged, 1 / STEPS_PER_QUARTER

    def share(part: int, whole: int, of: str) -> tuple[float, str, str, float]:
        return round(100 * part / max(whole, 1), 3), "%", of, 100.0

    return {
        "kept": share(lost.kept, lost.notes, "all notes"),
        "merged": share(lost.merged, lost.notes, "all notes"),
        "drums": share(lost.drums, lost.notes, "all notes"),
        "outside": share(lost.out_of_range, lost.notes, "all notes"),
        "shortened": share(lost.shortened, drawn, "notes kept or merged"),
        "lengthened": share(lost.lengthened, drawn, "notes kept or merged"),
        "onset_error": (round(lost.mean_onset_error, 5), "quarter notes", "a step", step),
        "duration_error": (round(lost.mean_duration_error, 5), "quarter notes", "a step", step),
    }


def results(by_genre: dict[str, RollLoss]) -> list[Result]:
    return [
        Result(f"pianoroll_{name}_{genre}", value, unit, baseline, other, round(value / other, 5), machine())
        for genre, lost in by_genre.items()
        for name, (value, unit, baseline, other) in measures(lost).items()
    ]


def losses_by_genre(files: list[Path]) -> dict[str, RollLoss]:
    """The losses of every readable file, summed by genre; the last is the total."""
    summed: defaultdict[str, RollLoss] = defaultdict(RollLoss)
    for file in files:
        try:
            lost = pianoroll.roll_loss(load_score(file))
        except (BadMidi, TooLong):
            continue
        summed[file.parts[-3]] += lost
    return {**dict(sorted(summed.items())), "total": sum(summed.values(), RollLoss())}


def speed(files: list[Path]) -> Result:
    import pretty_midi

    warnings.simplefilter("ignore")
    scores, theirs = [], []
    for file in files[:: -(-len(files) // TIMED_FILES)]:
        try:
            scores.append(load_score(file))
            theirs.append(pretty_midi.PrettyMIDI(str(file)))
        except (BadMidi, ValueError, OSError):  # the others are pretty_midi's
            scores = scores[: len(theirs)]
    return compare(
        "pianoroll_notes_per_second",
        "notes/s",
        sum(score.note_num() for score in scores),
        lambda: [pianoroll.encode(score) for score in scores],
        "pretty_midi.get_piano_roll",
        lambda: [midi.get_piano_roll(fs=8) for midi in theirs],
    )


def main() -> None:
    chosen = options(__doc__)
    with midi_files(chosen.corpus, chosen.files) as files:
        fast, by_genre = speed(files), losses_by_genre(files)
    show([fast], chosen.json)
    show(results(by_genre), only_json=True)
    if not chosen.json:
        _print_table(by_genre)


def _print_table(by_genre: dict[str, RollLoss]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="losses of the piano roll", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("genre", no_wrap=True)
    table.add_column("notes", justify="right", no_wrap=True)
    for name, (_, unit, _, _) in measures(by_genre["total"]).items():
        unit = "%" if unit == "%" else "quarters"
        table.add_column(f"{name.removesuffix('_error')}\n{unit}", justify="right", no_wrap=True)
    for genre, lost in by_genre.items():
        table.add_row(genre, str(lost.notes), *(f"{value:.3g}" for value, *_ in measures(lost).values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
