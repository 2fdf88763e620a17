"""The files table: verdicts, and no more work than there are new files."""

import gzip
import os
import random
from pathlib import Path

import polars as pl
import pytest

from music_assets.corpus import scan as scan_module
from music_assets.corpus.scan import FILES_SCHEMA, LOOSE, pending, scan
from music_assets.corpus.verdicts import READER_VERSION, examine
from music_assets_tests.midi_files import make_tune, write_tune


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A drop folder with four tunes."""
    raw = tmp_path / "raw"
    for seed in range(4):
        write_tune(raw / "mine" / "reel" / "Band" / f"Tune {seed}.mid", seed=seed)
    return raw


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "index" / "files.parquet"


def test_only_new_changed_and_removed_files_cost_work(raw: Path, table: Path) -> None:
    first = scan(raw, table, workers=1)
    assert (first.seen, first.read, first.unchanged, first.removed) == (4, 4, 0, 0)
    assert first.verdicts == {"ok": 4}
    written = table.stat()
    again = scan(raw, table, workers=1)
    assert (again.read, again.unchanged, again.rewritten) == (0, 4, False)
    assert (table.stat().st_mtime_ns, table.stat().st_ino) == (written.st_mtime_ns, written.st_ino)
    assert again.digest == first.digest
    write_tune(raw / "mine" / "reel" / "Band" / "Tune 0.mid", seed=77, bars=8)
    write_tune(raw / "theirs" / "New.mid", seed=5)
    (raw / "mine" / "reel" / "Band" / "Tune 3.mid").unlink()
    changes = pending(raw, table)
    assert (changes.new, changes.changed, changes.removed, changes.count) == (1, 1, 1, 3)
    third = scan(raw, table, workers=1)
    assert (third.seen, third.read, third.unchanged, third.removed) == (4, 2, 2, 1)
    assert third.digest != first.digest
    assert pending(raw, table).count == 0
    rows = pl.read_parquet(table)
    assert rows.schema == FILES_SCHEMA
    assert rows["path"].to_list() == sorted(rows["path"])
    assert rows["collection"].to_list() == ["mine", "mine", "mine", "theirs"]


def test_a_touched_file_is_read_again_and_changes_no_digest(raw: Path, table: Path) -> None:
    first = scan(raw, table, workers=1)
    os.utime(raw / "mine" / "reel" / "Band" / "Tune 1.mid", ns=(1, 1))
    second = scan(raw, table, workers=1)
    assert (second.read, second.digest) == (1, first.digest)


def test_what_counts_as_a_midi_file(raw: Path, table: Path) -> None:
    midi = make_tune(bars=4).dumps_midi()
    for name in ("a.MID", "b.midi", "c.kar", "d.rmi", "loose.mid"):
        (raw / name).write_bytes(midi)
    (raw / "e.mid.gz").write_bytes(gzip.compress(midi))
    for name in (".hidden.mid", "f.mid.part", "g.mid.tmp", "h.txt"):
        (raw / name).write_bytes(midi)
    (raw / ".Trash").mkdir()
    (raw / ".Trash" / "i.mid").write_bytes(midi)
    scan(raw, table, workers=1)
    loose = pl.read_parquet(table).filter(pl.col("collection") == LOOSE)
    assert loose["path"].to_list() == ["a.MID", "b.midi", "c.kar", "d.rmi", "e.mid.gz", "loose.mid"]
    assert set(loose["verdict"]) == {"ok"}


def test_links_are_followed_and_circles_end(raw: Path, table: Path, tmp_path: Path) -> None:
    write_tune(tmp_path / "elsewhere" / "Linked.mid")
    (raw / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(raw)
    (raw / "dead.mid").symlink_to(tmp_path / "nowhere.mid")
    assert scan(raw, table, workers=1).seen == 5


def test_a_name_that_is_not_utf8_gets_a_verdict(raw: Path, table: Path) -> None:
    name = os.fsencode(raw) + b"/mine/caf\xe9.mid"
    with open(name, "wb") as file:  # noqa: PTH123 (pathlib has no byte names)
        file.write(make_tune(bars=4).dumps_midi())
    assert scan(raw, table, workers=1).verdicts == {"ok": 4, "unreadable": 1}
    row = pl.read_parquet(table).row(by_predicate=pl.col("verdict") == "unreadable", named=True)
    assert row["path"] == "mine/caf\\xe9.mid"
    assert "UTF-8" in row["detail"]


def test_a_file_that_may_still_be_copied_waits(raw: Path, table: Path) -> None:
    assert pending(raw, table, settle_seconds=60).unsettled == 4
    assert scan(raw, table, workers=1, settle_seconds=60).seen == 0
    for path in raw.rglob("*.mid"):
        os.utime(path, ns=(10**18, 10**18))
    assert scan(raw, table, workers=1, settle_seconds=60).read == 4
    write_tune(raw / "mine" / "reel" / "Band" / "Tune 0.mid", seed=9)
    waiting = scan(raw, table, workers=1, settle_seconds=60)
    assert (waiting.read, waiting.unsettled, waiting.seen, waiting.rewritten) == (0, 1, 4, False)
    future = os.stat(raw / "mine" / "reel" / "Band" / "Tune 0.mid").st_mtime_ns + 10**15  # noqa: PTH116
    os.utime(raw / "mine" / "reel" / "Band" / "Tune 0.mid", ns=(future, future))
    assert scan(raw, table, workers=1, settle_seconds=60).read == 1


def test_the_digest_of_pending_changes_is_new_for_the_same_change_at_another_time(raw: Path, table: Path) -> None:
    scan(raw, table, workers=1)
    path = raw / "mine" / "reel" / "Band" / "Tune 0.mid"
    away = raw.parent / "away.mid"
    path.rename(away)
    first = pending(raw, table)
    assert pending(raw, table).digest == first.digest
    scan(raw, table, workers=1)
    away.rename(path)
    scan(raw, table, workers=1)
    path.rename(away)
    assert pending(raw, table).digest != first.digest


def test_an_interrupted_scan_goes_on_where_it_was(raw: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "ROWS_IN_A_PART", 2)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(raw, table, workers=1, progress=interrupt)
    assert not table.exists()
    resumed = scan(raw, table, workers=1)
    assert (resumed.read, resumed.unchanged, resumed.seen) == (2, 2, 4)
    assert [path.name for path in table.parent.iterdir()] == ["files.parquet"]


def test_rows_of_an_older_reader_are_read_again(raw: Path, table: Path) -> None:
    scan(raw, table, workers=1)
    rows = pl.read_parquet(table)
    rows.write_parquet(table, metadata={"reader_version": str(READER_VERSION - 1)})
    assert scan(raw, table, workers=1).read == 4


def test_an_empty_drop_folder(tmp_path: Path, table: Path) -> None:
    summary = scan(tmp_path / "raw", table)
    assert (summary.seen, summary.verdicts) == (0, {})
    assert len(pl.read_parquet(table)) == 0


@pytest.mark.parametrize(("bars", "verdict"), [(0, "no notes"), (1, "too few notes"), (16, "ok"), (30_000, "too long")])
def test_verdict_by_length(bars: int, verdict: str, tmp_path: Path) -> None:
    score = make_tune(style="waltz", bars=8)
    del score.tracks[1:]
    notes = score.tracks[0].notes
    if bars == 30_000:
        notes[-1].time += 30_000 * 3 * score.tpq
    elif bars < 16:
        del notes[bars * 8 :]
    path = tmp_path / "tune.mid"
    score.dump_midi(str(path))
    row = examine(path)
    assert row["verdict"] == verdict
    assert bool(row["detail"]) == (verdict != "ok")


def test_a_thousand_damaged_files_end_in_verdicts(tmp_path: Path, table: Path) -> None:
    chance = random.Random(0)
    folder = tmp_path / "raw" / "damaged"
    folder.mkdir(parents=True)
    good = [make_tune(style=style, bars=4).dumps_midi() for style in ("reel", "band", "chorale")]
    for number in range(1000):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.choice([0, 127, 128, 255, chance.randrange(256)])
        (folder / f"{number}.mid").write_bytes(data[: chance.choice([None, None, chance.randrange(len(data))])])
    summary = scan(tmp_path / "raw", table)
    assert summary.seen == sum(summary.verdicts.values()) == 1000
    assert {"ok", "truncated", "not MIDI", "unreadable"} <= set(summary.verdicts)
    told = pl.read_parquet(table).filter(pl.col("verdict") != "ok")["detail"]
    assert (told.str.len_chars() > 10).all()
