"""What became of the corpus and of one file, in words."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from music_assets.corpus.index.database import reading_index
from music_assets.corpus.reading.scan import NoFilesTable, read_files
from music_assets.corpus.reading.verdicts import OK
from music_assets.corpus.reading.walk import HIDDEN, SUFFIXES
from music_assets.foundation.errors import MusicAssetsError
from music_assets.paths import DataPaths

MENTIONED = 8
"""Other files that a story names of each kind; of the rest it says how many."""
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_FRESH_SECONDS = 60
"""A file that changed so recently may still be copied."""

Rows = Callable[..., list[dict[str, Any]]]


def index_path(path: str, raw: Path) -> str:
    """The path of a file as the index spells it, given so, absolute, or relative to the working directory."""
    below = _below(path, raw)
    return _spelling(os.path.normpath(path) if below is None else below)


def _below(path: str, folder: Path) -> str | None:
    """The path as seen from a folder; None if it leads elsewhere."""
    plain = Path(os.path.normpath(Path(path).absolute()))
    real = (Path(os.path.realpath(plain)), Path(os.path.realpath(folder)))  # resolve() fails at a circle of links
    for there, above in ((plain, folder), (plain, folder.absolute()), real):
        if there.is_relative_to(above):
            return there.relative_to(above).as_posix()
    return None


def _spelling(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def story(paths: DataPaths, path: str, in_shards: Callable[[str, str], str] | None = None) -> list[tuple[str, str]]:
    """One file's way through the index, as pairs of a heading and a text.

    ``in_shards`` says of a genre and a piece id that are meant for shards what has become of them there, see
    :func:`music_assets.tokens.membership.in_shards`; without it that is left open.

    Raises:
        MusicAssetsError: the index has no such file; says why or, if there is none on the disk either, which name is
            most like it.
        NoIndex, IndexUnavailable: there is no index, or it cannot be read now.
    """
    given, path = path, index_path(path, paths.raw)
    with reading_index(paths.index) as connection:

        def rows(sql: str, *parameters: Any) -> list[dict[str, Any]]:
            return connection.sql(sql, params=list(parameters)).pl().to_dicts()

        found = rows("from files where path = ?", path) or _found_otherwise(rows, given, path, paths)
        file = found[0]
        path = file["path"]
        told = [("file", path), ("verdict", f"{file['verdict']}. {file['detail']}".removesuffix(" "))]
        told += [("since then", news) for news in _since(path, paths)]
        if file["notes"] is not None:
            told.append(("music", _music(file)))
        if file["verdict"] != OK:
            return told
        piece = rows("from pieces where piece_id = ?", file["piece_id"])[0]
        stands = piece["duplicate_of"] or piece["piece_id"]
        copies = rows("select path from files where piece_id = ? and path <> ? order by path", piece["piece_id"], path)
        near = rows(
            "select path from pieces where coalesce(duplicate_of, piece_id) = ? and piece_id <> ? order by path",
            stands,
            piece["piece_id"],
        )
        song = rows(
            "select path, split from pieces where group_id = ? and coalesce(duplicate_of, piece_id) <> ? order by path",
            piece["group_id"],
            stands,
        )
        claims = rows(
            """
            select labels.path, labels.genre, source, confidence
            from labels join files using (path) join pieces using (piece_id)
            where coalesce(duplicate_of, piece_id) = ? order by labels.path <> ?, confidence desc, source, labels.path
            """,
            stands,
            path,
        )
        reason = rows("select reason from dropped where path = ?", path)
    told += [
        ("same music", _list([copy["path"] for copy in copies])),
        ("near-duplicates", _list([one["path"] for one in near])),
        ("same song", _list([f"{one['path']} ({one['split']})" for one in song])),
        ("labels", _list([_claim(claim, path) for claim in claims])),
        ("genre", f"{piece['genre']}, says {piece['genre_source']}" if piece["genre"] else "none: no source knows it"),
        ("split", piece["split"]),
    ]
    if reason:
        shards = f"in none: {reason[0]['reason']}"
    else:
        shards = in_shards(piece["genre"], piece["piece_id"]) if in_shards else f"meant for those of {piece['genre']}"
    return [*told, ("shards", shards)]


def _found_otherwise(rows: Rows, given: str, path: str, paths: DataPaths) -> list[dict[str, Any]]:
    """The row of a file that the index spells in another way.

    Raises:
        MusicAssetsError: it has none; says why.
    """
    if found := rows("from files where nfc_normalize(path) = nfc_normalize(?) order by path limit 1", path):
        return found
    below = _below(given, paths.raw) if os.path.lexists(given) else None
    if below is None and not Path(given).is_absolute() and os.path.lexists(paths.raw / given):
        below = os.path.normpath(given)
    if below is None or below.startswith("../"):
        raise MusicAssetsError(_why_nowhere(rows, given, path, paths))
    for other in rows("from files where parse_filename(path) = ? order by path", Path(path).name):
        if _is_one_folder((paths.raw / other["path"]).parent, (paths.raw / below).parent):
            return [other]
    raise MusicAssetsError(_why_unread(rows, below, path, paths))


def _is_one_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _why_nowhere(rows: Rows, given: str, path: str, paths: DataPaths) -> str:
    """Of a path that does not lead into the drop folder."""
    if os.path.lexists(given):
        place = "among the downloads, which no scan reads" if _below(given, paths.downloads) else "elsewhere"
        return f"Files are read in the drop folder {paths.raw}, and {given} lies {place}: copy it there."
    likest = rows(
        "select path from files order by jaro_winkler_similarity(parse_filename(path), ?) desc, path limit 1",
        Path(path).name,
    )
    hint = f" Did you mean {likest[0]['path']}?" if likest else ""
    return f"The index has no file {path}; paths are relative to {paths.raw}.{hint}"


def _why_unread(rows: Rows, below: str, path: str, paths: DataPaths) -> str:
    """Of something in the drop folder, by its place there and as the index would spell it."""
    name = Path(path).name
    try:
        status = (paths.raw / below).stat()
    except FileNotFoundError:
        return f"{path} is a link that leads nowhere."
    except OSError as error:
        return f"{path} cannot be looked at ({error.strerror}), so that no scan reads it."
    hidden = next((part for part in Path(path).parts if HIDDEN.match(part)), None)
    if hidden:
        return (
            f"{path} is not read: {hidden} begins with a dot and a letter, and such names are passed over; rename it."
        )
    if stat.S_ISDIR(status.st_mode):
        inside = "" if path == "." else f"{path}/"
        count = rows("select count(*) as files from files where starts_with(path, ?)", inside)[0]["files"]
        return f"{path} is a folder, in which the index has {count:,} files: name one of them."
    if not name.lower().endswith(SUFFIXES):
        what = "it is an archive: unpack it" if name.lower().endswith(_ARCHIVES) else "rename it if it is MIDI"
        return f"{path!r} is not read, for its name ends in none of {', '.join(SUFFIXES)}; {what}."
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not read, for it is a pipe, a socket or a device, and no file."
    try:
        was_read = path in read_files(paths.files, ["path"])["path"]
    except NoFilesTable:
        was_read = False
    if was_read:
        return f"{path} has been read since the index was built: run `music-assets corpus relabel`."
    age = time.time() - status.st_mtime
    if 0 <= age < _FRESH_SECONDS:
        return (
            f"{path} is not in the index yet: it changed {age:.0f} seconds ago and may still be copied, which sensors "
            "wait for; run `music-assets corpus update` when it is whole."
        )
    return f"{path} is not in the index yet: run `music-assets corpus update`."


def _since(path: str, paths: DataPaths) -> list[str]:
    """What has happened to a file since it was read."""
    try:
        known = read_files(paths.files, ["path", "bytes", "mtime_ns"]).filter(path=path).rows()
        status = (paths.raw / path).stat()
    except NoFilesTable:
        return []
    except FileNotFoundError:  # a name that is not UTF-8 is spelled with escapes, which name no file
        return [] if "\\x" in path else ["the file is gone: `music-assets corpus update` takes it out of the index"]
    except OSError as error:
        return [f"the file cannot be looked at ({error.strerror}); what is known of it stays"]
    changed = known and known[0][1:] != (status.st_size, status.st_mtime_ns)
    return ["the file has changed: `music-assets corpus update` reads it again"] if changed else []


def _music(file: dict[str, Any]) -> str:
    parts = [
        f"{file['notes']:,} notes ({file['drum_notes']:,} of drums) in {file['tracks']} tracks",
        f"{file['bars']} bars of {file['time_signature']}",
        f"{file['seconds']:.1f} s at {file['tempo']:.0f} quarter notes a minute",
        file["key"] or "no pitches",
        f"{file['velocity_levels']} velocities",
    ]
    return "; ".join(parts)


def _claim(claim: dict[str, Any], path: str) -> str:
    of = "" if claim["path"] == path else f", of {claim['path']}"
    return f"{claim['genre']} {claim['confidence']:.2f} ({claim['source']}{of})"


def _list(items: list[str]) -> str:
    more = len(items) - MENTIONED
    return "\n".join(items[:MENTIONED] + ([f"and {more} more"] if more > 0 else [])) or "none"
