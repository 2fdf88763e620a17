"""Reading MIDI into rows of facts and fingerprints, against parsing with pretty_midi; one core each."""

import warnings

import pretty_midi

from benchmarks.harness import compare, midi_files, options, show
from music_assets.corpus.verdicts import OK, examine


def main() -> None:
    chosen = options(__doc__)
    with midi_files(chosen.corpus, chosen.files) as files:
        usable = [file for file in files if examine(file)["verdict"] == OK]
        warnings.simplefilter("ignore")
        result = compare(
            "index_files_per_second",
            "files/s",
            len(usable),
            lambda: [examine(file) for file in usable],
            "pretty_midi",
            lambda: [pretty_midi.PrettyMIDI(str(file)) for file in usable],
        )
    show([result], chosen.json)


if __name__ == "__main__":
    main()
