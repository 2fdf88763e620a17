"""The Lakh MIDI Dataset and the genre labels for it: where they are, and how they get into the data folder.

The collections are by Colin Raffel, "Learning-Based Methods for Comparing Sequences, with Applications to
Audio-to-MIDI Alignment and Matching", Columbia University, 2016, https://colinraffel.com/projects/lmd/.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from music_assets.corpus.fetch.archives import require_free, unpack, unpack_file, unpacked
from music_assets.corpus.fetch.download import Damaged, download
from music_assets.corpus.reading.walk import SUFFIXES
from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.hashing import file_sha256
from music_assets.paths import DataPaths

LICENCE = "CC-BY 4.0, https://creativecommons.org/licenses/by/4.0/"
ATTRIBUTION = "The Lakh MIDI Dataset by Colin Raffel, https://colinraffel.com/projects/lmd/"

_LMD = "http://hog.ee.columbia.edu/craffel/lmd"
_TU_WIEN = "https://www.ifs.tuwien.ac.at/mir/msd/partitions"
_TAGTRAUM = "https://www.tagtraum.com/genres"
_PATTERNS = "https://raw.githubusercontent.com/andrebola/patterns-genres/master/data"
_ARCHIVE_LIMIT = 8 << 30  # bytes of an archive that is not the published one

Report = Callable[[str], Callable[[int, int], None]]
"""From what is being done to a callback with (bytes done, bytes in all)."""


@dataclass(frozen=True)
class Remote:
    """A file as it is published."""

    name: str
    folder: str
    """Address of the folder that it is in."""
    bytes: int | None = None
    sha256: str | None = None

    def url(self, mirror: str | None = None) -> str:
        """Its address; a mirror has all files in one folder."""
        return f"{(mirror or self.folder).rstrip('/')}/{self.name}"


@dataclass(frozen=True)
class Collection:
    """MIDI files in one archive, which become a folder of the drop folder."""

    archive: Remote
    limit: int
    """Bytes that it may unpack to."""


@dataclass(frozen=True)
class Fetched:
    """A file or a collection that is in its place."""

    name: str
    path: Path
    bytes: int
    """Of the label file, or of all files of the collection."""
    sha256: str
    """Of the label file, or of the collection's archive."""
    files: int
    downloaded: int
    """Bytes that came over the net this time."""


COLLECTIONS = {
    "clean_midi": Collection(
        Remote(
            "clean_midi.tar.gz", _LMD, 234_283_029, "de1bb64cbc0cf35545a05b5c3e786aa6890cfa144edffc4b827ff41bf8c33dc5"
        ),
        8 << 30,
    ),
    "lmd_full": Collection(
        Remote(
            "lmd_full.tar.gz", _LMD, 1_768_163_879, "6fcfe2ac49ca08f3f214cec86ab138d4fc4dabcd7f27f491a838dae6db45a12b"
        ),
        64 << 30,
    ),
}
"""By the name of the folder that they become."""

LABELS = {
    "match_scores.json": Remote(
        "match_scores.json", _LMD, 7_237_036, "267bc606dfa21f0ad0601a4a080972cd4ae8088fe4003b9bb2811b5be060a102"
    ),
    "midi_genre_map.json": Remote("midi_genre_map.json", _PATTERNS),
    "msd-MAGD-genreAssignment.cls": Remote("msd-MAGD-genreAssignment.cls", _TU_WIEN),
    "msd-topMAGD-genreAssignment.cls": Remote("msd-topMAGD-genreAssignment.cls", _TU_WIEN),
    "msd-MASD-styleAssignment.cls": Remote("msd-MASD-styleAssignment.cls", _TU_WIEN),
    "msd_tagtraum_cd1.cls": Remote("msd_tagtraum_cd1.cls.zip", _TAGTRAUM),
    "msd_tagtraum_cd2.cls": Remote("msd_tagtraum_cd2.cls.zip", _TAGTRAUM),
    "msd_tagtraum_cd2c.cls": Remote("msd_tagtraum_cd2c.cls.zip", _TAGTRAUM),
}
"""By name in the labels folder. A zip holds its label file; only the first one has a published hash."""


def fetch_collection(
    name: str,
    paths: DataPaths,
    *,
    archive: Path | None = None,
    sha256: str | None = None,
    mirror: str | None = None,
    report: Report = lambda what: lambda done, total: None,
) -> Fetched:
    """Have ``<raw>/<name>``, a collection of ``COLLECTIONS``; nothing is done where it was unpacked before.

    The archive is ``archive``, or the one in the downloads folder, where it is fetched if it is missing. Its sha256
    must be the published one, or ``sha256`` if another archive is meant. Only MIDI files are unpacked.

    Raises:
        MusicAssetsError: there is no such collection or ``archive``; as DownloadFailed, Damaged, HostileArchive,
            BrokenArchive, FolderInTheWay, Busy or DiskFull, what else keeps it from coming.
    """
    if name not in COLLECTIONS:
        raise MusicAssetsError(f"There is no collection {name!r}: choose {' or '.join(COLLECTIONS)}.")
    known, target = COLLECTIONS[name], paths.raw / name
    wanted = sha256.lower() if sha256 else known.archive.sha256
    assert wanted is not None
    require_free(target, wanted)
    downloaded = 0
    if unpacked(target) is None:
        archive, downloaded = _archive(known.archive, paths.downloads, archive, wanted, mirror, report)
        progress = report(f"{archive.name} unpacked, bytes")
        unpack(archive, target, sha256=wanted, limit=known.limit, suffixes=SUFFIXES, progress=progress)
    made = unpacked(target)
    assert made is not None
    return Fetched(name, target, made.bytes, made.sha256, made.files, downloaded)


def _archive(
    remote: Remote, downloads: Path, given: Path | None, sha256: str, mirror: str | None, report: Report
) -> tuple[Path, int]:
    """The verified archive, and the bytes that were fetched for it."""
    if given is not None and not given.is_file():
        raise MusicAssetsError(f"There is no archive {given}: give the path of {remote.name}, or none to fetch it.")
    archive = given or downloads / remote.name
    if not archive.exists():
        size = remote.bytes if sha256 == remote.sha256 else None
        progress = report(f"{remote.name}, bytes")
        url = remote.url(mirror)
        done = download(url, archive, sha256=sha256, size=size, limit=_ARCHIVE_LIMIT, progress=progress)
        return archive, done.fetched
    found = file_sha256(archive)
    if found != sha256:
        raise Damaged(
            f"{archive} has the sha256 {found} and not {sha256}: delete it to have it fetched again, or, if this is "
            "the archive you mean, give its sha256."
        )
    return archive, 0


def require_label(name: str) -> Remote:
    """The label file of ``LABELS``; a MusicAssetsError if there is none of that name."""
    if name not in LABELS:
        raise MusicAssetsError(f"There is no label file {name!r}: choose of {', '.join(LABELS)}.")
    return LABELS[name]


def fetch_label(
    name: str,
    paths: DataPaths,
    *,
    mirror: str | None = None,
    report: Report = lambda what: lambda done, total: None,
) -> Fetched:
    """Have ``<labels>/<name>``, a file of ``LABELS``; one that is there is used as it is.

    Raises:
        MusicAssetsError: there is no such label file; as DownloadFailed, Damaged, HostileArchive, BrokenArchive, Busy
            or DiskFull, what else keeps it from coming.
    """
    remote, target, downloaded = require_label(name), paths.labels / name, 0
    zipped = remote.name != name
    if not target.exists():
        place = paths.downloads / remote.name if zipped else target
        if not place.exists():
            progress = report(f"{remote.name}, bytes")
            done = download(remote.url(mirror), place, sha256=remote.sha256, size=remote.bytes, progress=progress)
            downloaded = done.fetched
        if zipped:
            unpack_file(place, name, target)
    found = file_sha256(target)
    if not zipped and remote.sha256 not in (None, found):
        raise Damaged(f"{target} has the sha256 {found} and not {remote.sha256}: delete it to have it fetched again.")
    return Fetched(name, target, target.stat().st_size, found, 1, downloaded)


def fetch_lakh(
    collection: str,
    labels: Sequence[str],
    paths: DataPaths,
    *,
    archive: Path | None = None,
    sha256: str | None = None,
    mirror: str | None = None,
    report: Report = lambda what: lambda done, total: None,
) -> tuple[Fetched, list[Fetched]]:
    """A collection and label files, by :func:`fetch_collection` and :func:`fetch_label`. All label files are tried,
    whichever of them fail.

    Raises:
        MusicAssetsError: there is no such collection or label file, which is said before anything is fetched; or not
            all of it came. What came is in its place.
    """
    for name in labels:
        require_label(name)
    done = fetch_collection(collection, paths, archive=archive, sha256=sha256, mirror=mirror, report=report)
    fetched: list[Fetched] = []
    failures: list[str] = []
    for name in labels:
        try:
            fetched.append(fetch_label(name, paths, mirror=mirror, report=report))
        except MusicAssetsError as error:
            failures.append(str(error))
    if failures:
        raise MusicAssetsError(
            f"{collection} is in place, but not every label file: {' '.join(failures)} "
            "To do without one, leave it out of labels in lakh_archive's configuration."
        )
    return done, fetched
