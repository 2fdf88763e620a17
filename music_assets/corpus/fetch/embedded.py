"""The corpus that needs no download: Bach chorales and dance tunes that the ``music21`` package carries."""

import contextlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from symusic.core import NoteTick, NoteTickList, ScoreTick, TempoTick, TimeSignatureTick, TrackTick
from tqdm import tqdm

from music_assets.corpus.labels.taxonomy import Taxonomy
from music_assets.corpus.reading.facts import facts
from music_assets.corpus.reading.verdicts import MINIMUM_NOTES
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.isolation import WorkerFailure, run_isolated
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.foundation.publishing import publish

if TYPE_CHECKING:
    from music21 import stream

COLLECTION = "music21"
DANCES = ("hornpipe", "jig", "reel")
"""Genres taken from the tune books; the R: field of a tune names its genre."""
BOOKS = {
    "airdsAirs": "Aird's Airs",
    "oneills1850": "O'Neill's Music of Ireland",
    "ryansMammoth": "Ryan's Mammoth Collection",
}
"""Folder in music21's corpus -> title of the tune book."""

TRIES = 3
"""Calls that try a piece whose converter dies, before it is left out for good."""

_logger = logging.getLogger(__name__)
_LAYOUT = 1  # raise it when other files would be written
_STAMP = ".written.json"
_TICKS = 480
_CHORALE_TEMPO = 80.0
_VOICES = ("Soprano", "Alto", "Tenor", "Bass")
_CHOIR = 52  # General MIDI program "Choir Aahs"
_CHORAL_VELOCITY = 80
_DOWNBEAT_VELOCITY = 105  # abc2midi's first note of a bar


@dataclass(frozen=True)
class Source:
    """A piece in music21's corpus: where it goes, and its file (a chorale) or its text (a tune in ABC)."""

    genre: str
    folder: str
    title: str
    content: Path | str


@dataclass(frozen=True)
class _CorpusPiece:
    midi: bytes
    content_hash: str | None
    notes: int


def write_embedded_corpus(
    raw: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Write ``<raw>/music21/<genre>/<book or composer>/.../<title>.mid`` and return the pieces a genre.

    Pieces with the same notes are written once, pieces with fewer than ``MINIMUM_NOTES`` notes not at all.
    Nothing is done where the folder is complete for the installed music21. Pieces whose converter dies or hangs are
    logged, and tried again by the next call, ``TRIES`` times in all. ``progress`` is called with (pieces converted,
    pieces). Raises MusicAssetsError where music21 is not installed.
    """
    spec = find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise MusicAssetsError("The embedded corpus needs the music21 package: pip install 'music-assets[demo]'.")
    target = raw / COLLECTION
    origin, tries = {"music21": version("music21"), "layout": _LAYOUT}, 0
    with contextlib.suppress(FileNotFoundError):
        stamp = json.loads((target / _STAMP).read_text("utf-8"))
        if {name: stamp[name] for name in origin} == origin:
            if not stamp.get("failed") or stamp["tries"] >= TRIES:
                return stamp["pieces"]
            tries = stamp["tries"]
    library = Path(spec.submodule_search_locations[0], "corpus")
    sources = [*_chorales(library), *_tunes(library)]
    pieces = {}
    results = run_isolated(_convert, sources, workers=workers, chunk=8)
    bar = tqdm(results, "writing the embedded corpus", len(sources), unit="piece", disable=None)
    for done, (source, piece) in enumerate(bar, start=1):
        pieces[source] = piece
        progress(done, len(sources))
    failed = {source.title: piece.detail for source, piece in pieces.items() if isinstance(piece, WorkerFailure)}
    if failed:
        again = "they are tried again the next time" if tries + 1 < TRIES else "they are left out for good"
        names = ", ".join(f"{title} ({why.removesuffix('.')})" for title, why in failed.items())
        _logger.warning("%s of the embedded corpus could not be converted, and %s: %s.", len(failed), again, names)
    with publish(target) as folder:
        counts = _write(folder, [(source, pieces[source]) for source in sources])
        stamp = origin | {"pieces": counts, "failed": [*failed], "tries": tries + 1}
        (folder / _STAMP).write_text(json.dumps(stamp), "utf-8")
    return counts


def _write(folder: Path, pieces: list[tuple[Source, _CorpusPiece | WorkerFailure]]) -> dict[str, int]:
    """The pieces worth keeping as files; two with one title are told apart as ``<title>.1``."""
    seen: set[str | None] = set()
    names: Counter[Path] = Counter()
    counts: Counter[str] = Counter()
    for source, piece in pieces:
        if isinstance(piece, WorkerFailure) or piece.notes < MINIMUM_NOTES or piece.content_hash in seen:
            continue
        seen.add(piece.content_hash)
        counts[source.genre] += 1
        path = folder / source.genre / source.folder / source.title
        names[path] += 1
        path = path.with_name(path.name + (f".{names[path] - 1}" if names[path] > 1 else "") + ".mid")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(piece.midi)
    return dict(sorted(counts.items()))


def _chorales(library: Path) -> Iterator[Source]:
    titles = _chorale_titles()
    for file in sorted((library / "bach").glob("bwv*.mxl")):
        number = file.stem.removeprefix("bwv")
        work = f"BWV {number}"
        title = titles.get(number) or titles.get(number.split("-")[0]) or work
        # the number is a folder of its own, so that settings of one hymn share their title
        yield Source("chorale", f"Johann Sebastian Bach/{work}", _file_name(title), file)


def _tunes(library: Path) -> Iterator[Source]:
    taxonomy = Taxonomy.load()
    for folder, book in BOOKS.items():
        for file in sorted((library / folder).glob("*.abc")):
            for tune in re.split(r"^(?=X:)", file.read_text("utf-8", errors="replace"), flags=re.MULTILINE)[1:]:
                rhythm, title = _field(tune, "R"), _field(tune, "T")
                if (genre := taxonomy.known(rhythm)) in DANCES and title:
                    # Ryan's Mammoth names the dance in the title
                    name = re.sub(r"\s+--\s+.*$", "", title)
                    yield Source(genre, book, _file_name(name), tune)


def _field(tune: str, name: str) -> str:
    match = re.search(rf"^{name}:\s*(\S.*?)\s*$", tune, re.MULTILINE)
    return match[1] if match else ""


def _file_name(title: str) -> str:
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]+', " ", title).strip(" .")[:100]


def _convert(source: Source) -> _CorpusPiece:
    score = _chorale_score(source.content) if isinstance(source.content, Path) else _tune_score(source.content)
    found = facts(score)
    return _CorpusPiece(midi_bytes(score), found.content_hash, found.notes)


def _chorale_score(file: Path) -> ScoreTick:
    """A track a singing voice, repeats played out, the upbeat at the end of a whole bar."""
    from music21 import bar, converter, repeat, stream, tempo

    music = converter.parseFile(file, forceSource=True, storePickle=False)
    assert isinstance(music, stream.Score)
    if music.recurse().getElementsByClass(bar.Repeat):
        # marks that contradict each other cannot be played out
        with contextlib.suppress(repeat.ExpanderException):
            music = music.expandRepeats()
    upbeat = round(music.parts[0].getElementsByClass(stream.Measure)[0].paddingLeft * _TICKS)
    score = ScoreTick(_TICKS)
    marks = music.recurse().getElementsByClass(tempo.MetronomeMark)
    score.tempos.append(TempoTick(0, next((mark.number for mark in marks if mark.number), _CHORALE_TEMPO)))
    for signature in music.parts[0].flatten().getElementsByClass("TimeSignature"):
        time = round(signature.offset * _TICKS)
        score.time_signatures.append(
            TimeSignatureTick(time + upbeat if time else 0, signature.numerator, signature.denominator)
        )
    for part in music.parts:
        if str(part.partName).startswith(_VOICES):
            score.tracks.append(_voice(part, upbeat))
    return score


def _voice(part: "stream.Part", upbeat: int) -> TrackTick:
    notes: list[NoteTick] = []
    tied: dict[int, NoteTick] = {}
    for element in part.flatten().notes:
        duration = round(element.quarterLength * _TICKS)
        for note in getattr(element, "notes", [element]):  # those of a chord, or the note itself
            pitch = note.pitch.midi
            if note.tie and note.tie.type != "start" and pitch in tied:
                tied[pitch].duration += duration
            elif duration:  # grace notes have no length
                tied[pitch] = NoteTick(round(element.offset * _TICKS) + upbeat, duration, pitch, _CHORAL_VELOCITY)
                notes.append(tied[pitch])
    track = TrackTick(str(part.partName), _CHOIR)
    track.notes = NoteTickList(notes)
    return track


def _tune_score(abc: str) -> ScoreTick:
    """The tune as abc2midi plays it, moved so that its upbeat lies at the end of a whole bar."""
    # fingerings in quotes would be read as chord names and accompanied
    header, _, body = abc.partition("\n")
    with _silence():
        score = ScoreTick.from_abc(f"{header}\n%%MIDI gchordoff\n{body}")
    if not score.tracks or not score.time_signatures:
        return score
    signature = score.time_signatures[0]
    bar = 4 * score.tpq * signature.numerator // signature.denominator
    notes = score.tracks[0].notes.numpy()
    downbeats = notes["time"][notes["velocity"] == _DOWNBEAT_VELOCITY] % bar
    if len(downbeats):
        upbeat = int(-np.bincount(downbeats).argmax() % bar)
        for track in score.tracks:
            track.shift_time(upbeat, inplace=True)
    return score


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """abc2midi is a program of its own that comments on every tune: this drops what it prints."""
    kept = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("wb") as nowhere:
        try:
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            yield
        finally:
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def _chorale_titles() -> dict[str, str]:
    """Number in Bach's catalogue -> first line of the hymn."""
    from music21.corpus.chorales import ChoraleListRKBWV

    chorales = ChoraleListRKBWV()
    chorales.prepareList()
    return {str(chorale["bwv"]): str(chorale["title"]) for chorale in chorales.byRiemenschneider.values()}
