"""The index from real files: pieces, labels, splits, documented SQL, and no work without a reason."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pytest

from music_assets.corpus.index.build import build_index, missing_digest
from music_assets.corpus.index.database import IndexUnavailable, NoIndex, reading_index
from music_assets.corpus.index.queries import (
    GENRE_COLUMNS,
    IndexSummary,
    genre_rows,
    index_summary,
    publish_genre,
    songs_in_two_splits,
    verdict_counts,
)
from music_assets.corpus.index.settings import IndexSettings
from music_assets.corpus.reading.scan import NoFilesTable, scan
from music_assets.paths import DataPaths
from music_assets_tests.midi_files import make_tune, write_corpus, write_tune

pytestmark = pytest.mark.slow


@pytest.fixture
def paths(tmp_path: Path) -> DataPaths:
    """A drop folder with thirty reels, twelve jigs, and two tunes without a label."""
    paths = DataPaths(tmp_path)
    write_corpus(paths.raw, {"reel": 30, "jig": 12}, bars=4)
    for number in range(2):
        write_tune(paths.raw / "clean_midi" / "Nobody Known" / f"Song {number}.mid", style="band", seed=number, bars=4)
    return paths


def build(paths: DataPaths, minimum_pieces: int = 10) -> IndexSummary:
    scan(paths.raw, paths.files, workers=1)
    return build_index(paths, IndexSettings(minimum_pieces=minimum_pieces))


def query(paths: DataPaths, sql: str) -> list[tuple]:
    with duckdb.connect(str(paths.index), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_counts(paths: DataPaths) -> None:
    (paths.raw / "broken.mid").write_bytes(b"nothing")
    summary = build(paths)
    assert (summary.files, summary.ok, summary.pieces, summary.copies) == (45, 44, 44, 0)
    assert (summary.unlabelled, summary.excluded) == (2, 0)
    assert {name: genre.train + genre.valid + genre.test for name, genre in summary.genres.items()} == {
        "jig": 12,
        "reel": 30,
    }
    assert summary.enough == [name for name in ("jig", "reel") if summary.genres[name].train >= 10]
    assert songs_in_two_splits(paths.index) == []


def test_nothing_is_done_without_a_reason(paths: DataPaths) -> None:
    first = build(paths)
    assert first.rewritten
    written = paths.index.stat()
    again = build(paths)
    assert not again.rewritten
    assert (paths.index.stat().st_mtime_ns, paths.index.stat().st_ino) == (
        written.st_mtime_ns,
        written.st_ino,
    )
    assert again.digest == first.digest
    assert build(paths, minimum_pieces=11).rewritten
    (paths.raw / "clean_midi" / "genres.csv").write_text("path,genre\nNobody Known/Song 0.mid,pop\n")
    assert build(paths, minimum_pieces=11).genres.keys() == {"jig", "pop", "reel"}


def test_new_files_rewrite_their_genre_only_and_move_nothing(paths: DataPaths) -> None:
    build(paths)
    for genre in ("jig", "reel"):
        assert publish_genre(paths.index, genre, paths.genre_pieces(genre))[2]
        assert not publish_genre(paths.index, genre, paths.genre_pieces(genre))[2]
    before = dict(query(paths, "select piece_id, split from pieces"))
    for number in range(5):
        write_tune(paths.raw / "tunes" / "jig" / "New" / f"New {number}.mid", style="jig", seed=900 + number, bars=4)
    # another version of a known song, in another genre
    write_tune(paths.raw / "tunes" / "jig" / "Reel Artist 0" / "Air 0.1.mid", style="jig", seed=999, bars=4)
    build(paths)
    after = dict(query(paths, "select piece_id, split from pieces"))
    assert before.items() <= after.items()
    assert publish_genre(paths.index, "jig", paths.genre_pieces("jig"))[2]
    assert not publish_genre(paths.index, "reel", paths.genre_pieces("reel"))[2]


def test_copies_are_one_piece_with_the_labels_of_all(paths: DataPaths) -> None:
    before = build(paths)
    score = make_tune(style="band", seed=0, bars=4)
    score.tracks[0].name = "the same music in other bytes"
    copy = paths.raw / "a collection" / "polka" / "Somebody" / "Song 0.mid"
    copy.parent.mkdir(parents=True)
    score.dump_midi(str(copy))
    after = build(paths)
    assert (after.pieces, after.copies, after.unlabelled) == (before.pieces, 1, before.unlabelled - 1)
    assert query(paths, "select path, copies, genre from pieces where copies > 1") == [
        ("a collection/polka/Somebody/Song 0.mid", 2, "polka")
    ]
    dropped = query(paths, "from dropped")
    assert ("clean_midi/Nobody Known/Song 0.mid", f"copy of {copy.relative_to(paths.raw)}") in dropped


def test_a_piece_takes_its_surest_label(paths: DataPaths) -> None:
    (paths.raw / "genres.csv").write_text(
        "path,genre,confidence\ntunes/reel/Reel Artist 0/Air 0.mid,polka,1\n"
        "tunes/reel/Reel Artist 0/Air 1.mid,polka,0.9\ntunes/reel/Reel Artist 0/Air 2.mid,polka,0.1\n"
    )
    build(paths)
    sql = "select genre, genre_source from pieces where artist = 'Reel Artist 0' order by title"
    assert query(paths, sql) == [("polka", "genres.csv"), ("polka", "genres.csv"), ("reel", "folder")]
    assert query(paths, "select count(*) from labels where path like '%Reel Artist 0%'") == [(6,)]


def test_published_rows(paths: DataPaths) -> None:
    summary = build(paths)
    rows = genre_rows(paths.index, "reel")
    assert rows.columns == GENRE_COLUMNS
    assert rows["piece_id"].is_sorted()
    assert set(rows["split"]) <= {"train", "valid", "test"}
    count, digest, _ = publish_genre(paths.index, "reel", paths.genre_pieces("reel"))
    assert (count, digest) == (30, summary.rows_hash("reel"))
    assert pl.read_parquet(paths.genre_pieces("reel")).equals(rows)
    # a genre that has lost its pieces is an empty file and no error
    count, digest, _ = publish_genre(paths.index, "polka", paths.genre_pieces("polka"))
    assert (count, digest) == (0, summary.rows_hash("polka"))
    assert pl.read_parquet(paths.genre_pieces("polka")).schema == rows.schema


def test_every_table_view_and_column_is_documented(paths: DataPaths) -> None:
    build(paths)
    assert query(paths, "select table_name from duckdb_tables() where comment is null") == []
    columns = "select * from duckdb_columns() semi join duckdb_tables() using (table_name) where comment is null"
    assert query(paths, columns) == []
    assert query(paths, "select view_name from duckdb_views() where comment is null and not internal") == []


def test_the_views_answer(paths: DataPaths) -> None:
    (paths.raw / "broken.mid").write_bytes(b"nothing")
    summary = build(paths, minimum_pieces=1000)
    assert [title for (title,) in query(paths, "select title from unlabelled order by title")] == [
        "Song 0",
        "Song 1",
    ]
    splits = query(paths, "select genre, sum(pieces)::int from genre_splits group by all order by all")
    assert splits == [("jig", 12), ("reel", 30)]
    dropped = dict(query(paths, "from dropped"))
    assert len(dropped) == summary.files == 45
    assert dropped["broken.mid"] == "not MIDI"
    assert dropped["clean_midi/Nobody Known/Song 0.mid"] == "no label"
    assert dropped["tunes/jig/Jig Artist 0/Air 0.mid"] == "genre jig has too few pieces"
    build(paths, minimum_pieces=1)
    assert len(query(paths, "from dropped")) == 3


def test_every_query_of_the_documentation_answers(paths: DataPaths) -> None:
    build(paths)
    text = (Path(__file__).parents[3] / "data" / "README.md").read_text("utf-8")
    statements = [
        s for block in re.findall(r"```sql\n(.*?)```", text, re.DOTALL) for s in block.split(";") if s.strip()
    ]
    assert len(statements) >= 12
    with duckdb.connect(str(paths.index), read_only=True) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()
        views = [
            name for (name,) in connection.execute("select view_name from duckdb_views() where not internal").fetchall()
        ]
    undocumented = [view for view in views if view not in text]
    assert not undocumented


def test_a_genre_that_has_no_longer_enough_publishes_nothing(paths: DataPaths) -> None:
    assert build(paths).genres["reel"].enough
    assert not genre_rows(paths.index, "reel").is_empty()
    publish_genre(paths.index, "reel", paths.genre_pieces("reel"))
    summary = build(paths, minimum_pieces=1000)
    count, digest, rewritten = publish_genre(paths.index, "reel", paths.genre_pieces("reel"))
    assert (count, rewritten) == (0, True)
    assert digest == summary.rows_hash("reel") == summary.rows_hash("no such genre")
    assert pl.read_parquet(paths.genre_pieces("reel")).is_empty()


def test_settings_stay_as_they_were_the_last_time(paths: DataPaths) -> None:
    scan(paths.raw, paths.files, workers=1)
    build_index(paths, IndexSettings(minimum_pieces=5, keep_near_duplicates=True))
    assert build_index(paths).settings == IndexSettings(minimum_pieces=5, keep_near_duplicates=True)
    changed = build_index(paths, IndexSettings(minimum_pieces=6))
    assert (changed.rewritten, changed.settings) == (
        True,
        IndexSettings(minimum_pieces=6, keep_near_duplicates=True),
    )
    assert missing_digest(paths) is None


def test_an_index_of_another_version_is_built_anew_with_its_settings(paths: DataPaths) -> None:
    before = build(paths, minimum_pieces=7)
    paths.index_settings.unlink()
    with duckdb.connect(str(paths.index)) as connection:
        connection.execute(
            "drop view dropped; alter table build drop keep_near_duplicates; alter table genres drop train"
        )
    with pytest.raises(NoIndex, match="no index of this version"):
        index_summary(paths.index)
    assert missing_digest(paths)
    after = build_index(paths)
    assert (after.rewritten, after.genres) == (True, before.genres)
    assert after.settings.minimum_pieces == 7


@pytest.mark.parametrize("left", [0.0, 0.001, 0.5, 0.9, None])
def test_a_damaged_index_is_built_anew_with_its_settings(paths: DataPaths, left: float | None) -> None:
    before, whole = build(paths, minimum_pieces=7), paths.index.read_bytes()
    paths.index.write_bytes(b"no database" if left is None else whole[: int(left * len(whole))])
    if left != 0.9:  # DuckDB sees that only when it reads what is missing
        with pytest.raises(NoIndex, match="is damaged, or of another version of DuckDB: delete it and run") as caught:
            index_summary(paths.index)
        assert "\n" not in str(caught.value)
    assert missing_digest(paths)
    after = build_index(paths)
    assert (after.rewritten, after.genres) == (True, before.genres)
    assert after.settings.minimum_pieces == 7


def test_damage_inside_tells_what_to_do_and_no_settings_are_lost(paths: DataPaths) -> None:
    build(paths, minimum_pieces=7)
    content = bytearray(paths.index.read_bytes())
    place = content.index(b"Reel Artist 0")
    content[place : place + 4] = b"Real"
    paths.index.write_bytes(content)
    with pytest.raises(NoIndex, match="is damaged"), reading_index(paths.index) as connection:
        connection.execute("select max(hash(columns(*))) from files").fetchall()
    paths.index.unlink()
    assert build_index(paths).settings.minimum_pieces == 7


@contextmanager
def held(index: Path, statement: str = "select 1") -> Iterator[subprocess.Popen[str]]:
    """Another program has the index open for writing, as DuckDB opens a file by itself."""
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute(sys.argv[2]); print(flush=True); input()"
    command = [sys.executable, "-c", script, str(index), statement]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield holder
        holder.kill()


def test_an_index_that_is_open_elsewhere_is_not_replaced(paths: DataPaths) -> None:
    build(paths, minimum_pieces=7)
    written = paths.index.stat().st_ino
    (paths.raw / "clean_midi" / "genres.csv").write_text("path,genre\nNobody Known/Song 0.mid,pop\n")
    with held(paths.index) as holder:
        for use in (lambda: index_summary(paths.index), lambda: build_index(paths), lambda: missing_digest(paths)):
            with pytest.raises(
                IndexUnavailable, match=rf"is open for writing in .*\(PID {holder.pid}\): close it"
            ) as caught:
                use()
            assert str(paths.index) in str(caught.value)
            assert "\n" not in str(caught.value)
    assert paths.index.stat().st_ino == written
    assert build_index(paths).settings.minimum_pieces == 7


def test_an_index_that_is_open_in_this_program(paths: DataPaths) -> None:
    build(paths)
    with duckdb.connect(str(paths.index)), pytest.raises(IndexUnavailable, match="is open for writing in this program"):
        index_summary(paths.index)


def test_a_wrong_query_is_no_fault_of_the_index(paths: DataPaths) -> None:
    build(paths)
    with pytest.raises(duckdb.ParserException), reading_index(paths.index) as connection:
        connection.execute("selects 1")


def test_what_a_killed_program_left_to_be_written_does_not_reach_the_new_index(paths: DataPaths) -> None:
    build(paths)
    with held(paths.index, "create table mine as select 1"):
        pass
    assert paths.index.with_name(f"{paths.index.name}.wal").exists()
    assert not build(paths).rewritten
    assert build(paths, minimum_pieces=11).rewritten
    assert index_summary(paths.index).settings.minimum_pieces == 11


def test_what_cannot_be_read_now_is_not_taken_for_nothing(paths: DataPaths) -> None:
    build(paths, minimum_pieces=7)
    index, settings = paths.index.read_bytes(), paths.index_settings.read_bytes()
    for file, content in ((paths.index, index), (paths.index_settings, settings)):
        file.unlink()
        file.mkdir()
        with pytest.raises(IndexUnavailable, match=rf"{re.escape(str(file))} cannot be read \(Is a directory\)"):
            build_index(paths)
        file.rmdir()
        file.write_bytes(content)
    if Path("/proc/self/mem").exists():  # opens, and gives an error when it is read
        paths.index.unlink()
        paths.index.symlink_to("/proc/self/mem")
        with pytest.raises(IndexUnavailable, match="Input/output error"):
            build_index(paths)
        paths.index.unlink()
    assert build_index(paths).settings.minimum_pieces == 7


def test_settings_that_are_none_get_one_sentence(paths: DataPaths) -> None:
    build(paths)
    paths.index_settings.write_text('{"minimum_pieces": 0}')
    with pytest.raises(
        IndexUnavailable, match=r"settings\.json has no settings of the index \(minimum_pieces: Input"
    ) as caught:
        build_index(paths)
    assert "\n" not in str(caught.value)


def test_a_data_folder_may_have_any_name(tmp_path: Path) -> None:
    paths = DataPaths(tmp_path / "50% [done]? #1 'x' é*{a,b}")
    write_corpus(paths.raw, {"reel": 12}, bars=4)
    assert build(paths, minimum_pieces=1).genres["reel"].train
    for rewritten in (True, False):
        assert publish_genre(paths.index, "reel", paths.genre_pieces("reel"))[2] == rewritten
    assert not build(paths, minimum_pieces=1).rewritten


def test_a_damaged_publication_is_written_again(paths: DataPaths) -> None:
    build(paths)
    target = paths.genre_pieces("reel")
    publish_genre(paths.index, "reel", target)
    target.write_bytes(target.read_bytes()[:-20])
    assert publish_genre(paths.index, "reel", target)[2]
    assert len(pl.read_parquet(target)) == 30


def test_a_damaged_table_of_files_is_read_anew(paths: DataPaths) -> None:
    build(paths)
    paths.files.write_bytes(paths.files.read_bytes()[:1000])
    with pytest.raises(NoFilesTable, match="no table of files of this version"):
        build_index(paths)
    assert scan(paths.raw, paths.files, workers=1).read == 44


def test_versions_disagreements_and_verdicts(paths: DataPaths) -> None:
    (paths.raw / "broken.mid").write_bytes(b"nothing")
    write_tune(paths.raw / "tunes" / "reel" / "Reel Artist 0" / "Air 0.1.mid", seed=500, bars=4)
    (paths.raw / "genres.csv").write_text("path,genre\ntunes/reel/Reel Artist 0/Air 1.mid,polka\n")
    build(paths)
    assert query(paths, "select title, path, split from versions order by path") == [
        ("Air 0", "tunes/reel/Reel Artist 0/Air 0.1.mid", "train"),
        ("Air 0", "tunes/reel/Reel Artist 0/Air 0.mid", "train"),
    ]
    assert query(paths, "select path, chosen, claims from disagreements") == [
        ("tunes/reel/Reel Artist 0/Air 1.mid", "polka", "folder: reel, genres.csv: polka")
    ]
    assert verdict_counts(paths.index) == [{"verdict": "ok", "files": 45}, {"verdict": "not MIDI", "files": 1}]


def test_a_reader_does_not_hold_up_a_build(paths: DataPaths) -> None:
    build(paths)
    script = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print(flush=True); input();"
        "print(c.execute('select count(*) from pieces').fetchone()[0])"
    )
    command = [sys.executable, "-c", script, str(paths.index)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        reader.stdout.readline()
        write_tune(paths.raw / "tunes" / "jig" / "New" / "New.mid", style="jig", seed=900, bars=4)
        assert build(paths).pieces == 45
        assert reader.communicate("\n")[0].strip() == "44"


def test_a_build_killed_while_it_writes_leaves_the_old_index(paths: DataPaths) -> None:
    build(paths)
    before = query(paths, "from pieces order by piece_id")
    write_corpus(paths.raw, {"waltz": 12}, seed=5, bars=4)
    scan(paths.raw, paths.files, workers=1)
    script = (
        "import sys; from pathlib import Path; from music_assets.corpus.index.build import build_index;"
        "from music_assets.paths import DataPaths; build_index(DataPaths(Path(sys.argv[1])))"
    )
    killed = 0
    for delay in (0, 0.02, 0.05):  # after the new file's folder has appeared
        with subprocess.Popen([sys.executable, "-c", script, str(paths.root)]) as builder:
            while builder.poll() is None:
                if any(paths.index.parent.glob(".midi_index.*")):
                    time.sleep(delay)
                    builder.kill()
                    break
        if builder.returncode == 0:
            break
        killed += 1
        assert query(paths, "from pieces order by piece_id") == before
    assert killed
    assert build(paths).pieces == len(before) + 12
    assert len(query(paths, "select distinct piece_id from pieces")) == len(before) + 12


def test_an_empty_drop_folder_gives_an_empty_index(tmp_path: Path) -> None:
    summary = build(DataPaths(tmp_path))
    assert (summary.files, summary.genres, summary.enough) == (0, {}, [])


def test_missing_inputs_get_one_sentence(tmp_path: Path) -> None:
    paths = DataPaths(tmp_path)
    with pytest.raises(
        NoFilesTable, match=r"no table of files of this version at .*: run `music-assets corpus update`"
    ):
        build_index(paths)
    with pytest.raises(NoIndex, match=r"no index of this version at .*: run `music-assets corpus update`"):
        index_summary(paths.index)


def test_importing_the_corpus_is_light() -> None:
    script = (
        "import sys, music_assets.corpus.index.build, music_assets.corpus.fetch.embedded;"
        "heavy = {'torch', 'miditok', 'mlflow', 'sklearn', 'matplotlib', 'music21', 'dagster', 'scipy'};"
        "print(*heavy & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_broken_files_of_the_real_corpus_all_end_in_a_verdict(tmp_path: Path) -> None:
    import tarfile

    paths = DataPaths(tmp_path)
    with tarfile.open(Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "midi.tar.xz") as archive:
        broken = [member for member in archive if member.name.startswith("./broken/")]
        archive.extractall(paths.raw, broken, filter="data")
    summary = scan(paths.raw, paths.files)
    assert summary.seen == 60
    assert {"ok", "not MIDI", "truncated", "too few notes", "no notes", "empty file", "too long"} <= set(
        summary.verdicts
    )
    odd = pl.read_parquet(paths.files).filter(pl.col("verdict") == "ok", pl.col("detail") != "")
    assert len(odd) == 14  # gzip, RIFF and data bytes over 127
