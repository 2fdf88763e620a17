"""What became of the corpus and of one file, in words."""

import os
from pathlib import Path
from typing import Any

from music_assets.corpus.index import reading_index
from music_assets.corpus.verdicts import OK
from music_assets.paths import DataPaths

MENTIONED = 8
"""Other files that a story names of each kind; of the rest it says how many."""


def index_path(path: str, raw: Path) -> str:
    """The path of a file as the index spells it, given so, absolute, or relative to the working directory."""
    plain = Path(os.path.normpath(Path(path).absolute()))
    for there, folder in ((plain, raw), (plain, raw.absolute()), (plain.resolve(), raw.resolve())):
        if there.is_relative_to(folder):
            path = there.relative_to(folder).as_posix()
            break
    return os.fsencode(os.path.normpath(path)).decode(errors="backslashreplace")


def story(paths: DataPaths, path: str) -> list[tuple[str, str]]:
    """One file's way through the index, as pairs of a heading and a text.

    Raises:
        ValueError: the index has no such file; names the one whose name is most like it.
        FileNotFoundError: there is no index.
    """
    path = index_path(path, paths.raw)
    with reading_index(paths.index) as connection:

        def rows(sql: str, *parameters: Any) -> list[dict[str, Any]]:
            return connection.sql(sql, params=list(parameters)).pl().to_dicts()

        found = rows("from files where path = ?", path)
        if not found and (paths.raw / path).is_file():
            raise ValueError(f"{path} is not in the index yet: run `music-assets corpus update`.")
        if not found:
            likest = rows(
                "select path from files order by jaro_winkler_similarity(parse_filename(path), ?) desc, path limit 1",
                Path(path).name,
            )
            hint = f" Did you mean {likest[0]['path']}?" if likest else ""
            raise ValueError(f"The index has no file {path}; paths are relative to {paths.raw}.{hint}")
        file = found[0]
        told = [("file", path), ("verdict", f"{file['verdict']}. {file['detail']}".removesuffix(" "))]
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
        ("shards", f"in none: {reason[0]['reason']}" if reason else f"in those of {piece['genre']}"),
    ]
    return told


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
