"""The files table: verdicts, and no more work than there are new files."""

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from music_assets.corpus.reading import scan as scan_module
from music_assets.corpus.reading.facts import ScoreFacts
from music_assets.corpus.reading.fingerprints import fingerprint
from music_assets.corpus.reading.scan import FILES_SCHEMA, TRIES, FilesGone, pending, scan, tried_again
from music_assets.corpus.reading.verdicts import READER_VERSION, examine
from music_assets.corpus.reading.walk import LOOSE
from music_assets.foundation.locks import Busy, exclusive
from music_assets.foundation.midi.reading import load_score
from music_assets_tests.midi_files import make_tune, write_tune
from music_assets_tests.permissions import bound, bound_by_permissions


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


@pytest.mark.slow
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
    for name in (".hidden.mid", "._a.mid", "f.mid.part", "g.mid.tmp", "h.txt"):
        (raw / name).write_bytes(midi)
    for path in (".38 Special/Caught Up in You.mid", "Metallica/...and Justice for All.mid"):  # as in Clean MIDI
        (raw / path).parent.mkdir()
        (raw / path).write_bytes(midi)
    (raw / ".Trash").mkdir()
    (raw / ".Trash" / "i.mid").write_bytes(midi)
    scan(raw, table, workers=1)
    loose = pl.read_parquet(table).filter(pl.col("collection") == LOOSE)
    assert loose["path"].to_list() == ["a.MID", "b.midi", "c.kar", "d.rmi", "e.mid.gz", "loose.mid"]
    assert set(loose["verdict"]) == {"ok"}
    artists = pl.read_parquet(table).filter(pl.col("collection").is_in([".38 Special", "Metallica"]))
    assert len(artists) == 2


def test_what_is_no_file_is_not_read(raw: Path, table: Path) -> None:
    os.mkfifo(raw / "pipe.mid")
    (raw / "folder.mid").mkdir()
    assert scan(raw, table, workers=1).seen == 4


def test_rows_hold_the_facts_and_the_fingerprint_of_usable_files(raw: Path, table: Path) -> None:
    write_tune(raw / "short.mid", bars=1)
    scan(raw, table, workers=1)
    for row in pl.read_parquet(table).iter_rows(named=True):
        examined = examine(raw / row["path"])
        assert {name: row[name] for name in ScoreFacts.descriptions()} == {
            name: examined[name] for name in ScoreFacts.descriptions()
        }
        if row["verdict"] == "ok":
            assert row["fingerprint"] == fingerprint(load_score(raw / row["path"])).tolist() != []
        else:
            assert (row["verdict"], row["fingerprint"]) == ("too few notes", None)


def examine_or_die(path: str) -> dict[str, Any]:
    if "deadly" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    return examine(path)


@pytest.mark.slow
def test_a_file_that_kills_its_reader_is_a_row(raw: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "examine", examine_or_die)
    for name in ("deadly.mid", "mine/deadly too.mid"):
        write_tune(raw / name)
    assert scan(raw, table, workers=2).verdicts == {"ok": 4, "crashed the parser": 2}
    rows = pl.read_parquet(table).filter(pl.col("verdict") != "ok")
    assert rows["path"].to_list() == ["deadly.mid", "mine/deadly too.mid"]
    assert rows["detail"].to_list() == ["The worker process ended with code -11."] * 2
    assert rows["notes"].null_count() == 2


@pytest.mark.slow
def test_a_file_that_kills_its_reader_each_time_is_tried_in_three_scans(
    raw: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "examine", examine_or_die)
    deadly = write_tune(raw / "deadly.mid")
    told = []
    for _ in range(4):
        summary = scan(raw, table, workers=1)
        assert summary.verdicts == {"ok": 4, "crashed the parser": 1}
        assert pending(raw, table).count == 0
        told.append((summary.read, len(summary.warnings)))
    assert told == [(5, 1), (1, 1), (1, 0), (0, 0)]
    os.utime(deadly, ns=(1, 1))
    assert scan(raw, table, workers=1).read == 1


@pytest.mark.slow
def test_a_file_that_killed_its_reader_once_is_read_by_the_next_scan(
    raw: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune(raw / "deadly.mid")
    with monkeypatch.context() as patch:
        patch.setattr(scan_module, "examine", examine_or_die)
        summary = scan(raw, table, workers=1)
    assert summary.again == {"deadly.mid": "The worker process ended with code -11."}
    assert "deadly.mid (The worker process ended with code -11)" in summary.warnings[0]
    assert tried_again(table) == 1
    summary = scan(raw, table, workers=1)
    assert (summary.read, summary.verdicts, summary.again, summary.warnings) == (1, {"ok": 5}, {}, [])
    assert tried_again(table) == 0


def test_links_are_followed_and_circles_end(raw: Path, table: Path, tmp_path: Path) -> None:
    write_tune(tmp_path / "elsewhere" / "Linked.mid")
    (raw / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(raw)
    (raw / "dead.mid").symlink_to(tmp_path / "nowhere.mid")
    (raw / "a loop").symlink_to(raw)
    (raw / "an alias").symlink_to(raw / "mine")
    assert scan(raw, table, workers=1).seen == 5
    assert set(pl.read_parquet(table)["collection"]) == {"linked", "mine"}


def test_files_that_are_all_gone_may_be_on_a_disk_that_is_not_mounted(raw: Path, table: Path) -> None:
    scan(raw, table, workers=1)
    before = table.read_bytes()
    raw.rename(raw.with_name("unmounted"))
    with pytest.raises(FilesGone, match=r"All 4 known MIDI files are gone from .*raw: if its disk"):
        scan(raw, table, workers=1)
    assert table.read_bytes() == before
    raw.with_name("unmounted").rename(raw)
    assert scan(raw, table, workers=1).read == 0


def test_a_folder_that_cannot_be_listed_keeps_its_rows(raw: Path, table: Path) -> None:
    for seed in range(5, 7):
        write_tune(raw / "mine" / "jig" / "Band" / f"Tune {seed}.mid", seed=seed)
    first = scan(raw, table, workers=1)
    before = table.read_bytes()
    reel = raw / "mine" / "reel"
    reel.chmod(0)
    with bound_by_permissions():
        changes = pending(raw, table)
        summary = scan(raw, table, workers=1)
    assert (changes.count, changes.unseen) == (0, {"mine/reel": "Permission denied"})
    assert (summary.seen, summary.removed, summary.kept, summary.digest) == (6, 0, 4, first.digest)
    assert summary.warnings == [
        "Cannot be looked into: mine/reel (Permission denied). The 4 files known to be there stay as they were."
    ]
    assert table.read_bytes() == before

    # what is seen to be gone is gone, beside it and at once
    for path in (raw / "mine" / "jig").rglob("*.mid"):
        path.unlink()
    with bound_by_permissions():
        assert (pending(raw, table).removed, scan(raw, table, workers=1).removed) == (2, 2)
    reel.chmod(0o755)
    (reel / "Band" / "Tune 0.mid").unlink()
    assert pending(raw, table).removed == 1
    summary = scan(raw, table, workers=1)
    assert (summary.seen, summary.removed, summary.warnings) == (3, 1, [])
    shutil.rmtree(reel / "Band")
    write_tune(raw / "other.mid")
    assert scan(raw, table, workers=1).removed == 3


def test_a_folder_whose_files_cannot_be_looked_at_keeps_its_rows(raw: Path, table: Path) -> None:
    scan(raw, table, workers=1)
    band = raw / "mine" / "reel" / "Band"
    band.chmod(0o644)  # its names can be listed, and no more
    with bound_by_permissions():
        summary = scan(raw, table, workers=1)
    assert (summary.seen, summary.removed, summary.kept, len(summary.unseen)) == (4, 0, 4, 4)


def test_a_drop_folder_that_cannot_be_listed_keeps_every_row(raw: Path, table: Path) -> None:
    scan(raw, table, workers=1)
    raw.chmod(0)
    with bound_by_permissions():
        summary = scan(raw, table, workers=1)
    assert (summary.seen, summary.kept) == (4, 4)
    assert "the drop folder (Permission denied)" in summary.warnings[0]


def test_what_a_link_led_to_stays_until_the_link_is_gone(raw: Path, table: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for seed in range(2):
        write_tune(disk / "folder" / f"Linked {seed}.mid", seed=10 + seed)
    (raw / "linked").symlink_to(disk / "folder")
    (raw / "single.mid").symlink_to(disk / "folder" / "Linked 0.mid")
    assert scan(raw, table, workers=1).seen == 7
    disk.rename(tmp_path / "away")
    summary = scan(raw, table, workers=1)
    assert (summary.seen, summary.kept) == (7, 3)
    assert summary.unseen == dict.fromkeys(["linked", "single.mid"], "a link that leads nowhere")
    (raw / "single.mid").unlink()
    (raw / "linked").unlink()
    (raw / "linked").symlink_to("linked")
    summary = scan(raw, table, workers=1)
    assert (summary.removed, summary.unseen) == (1, {"linked": "Too many levels of symbolic links"})
    (raw / "linked").unlink()
    assert scan(raw, table, workers=1).removed == 2


@contextmanager
def folders_in_one_another(outer: Path, name: str, count: int) -> Iterator[int]:
    """A descriptor of the innermost."""
    descriptor = os.open(outer, os.O_RDONLY)
    try:
        for _ in range(count):
            os.mkdir(name, dir_fd=descriptor)
            inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)
        subprocess.run(["rm", "-r", outer / name], check=True)  # deeper than Python can remove


def test_a_folder_deeper_than_a_path_may_be_is_told(raw: Path, table: Path) -> None:
    with folders_in_one_another(raw, "x" * 200, 30):
        summary = scan(raw, table, workers=1)
    assert summary.seen == 4
    assert [*summary.unseen.values()] == ["File name too long"]


def test_a_thousand_folders_in_one_another(raw: Path, table: Path) -> None:
    with folders_in_one_another(raw, "a", 1500) as inner:
        os.link(raw / "mine" / "reel" / "Band" / "Tune 0.mid", "deep.mid", dst_dir_fd=inner)
        assert scan(raw, table, workers=1).verdicts == {"ok": 5}


def test_a_file_that_cannot_be_read_is_tried_by_every_scan(raw: Path, table: Path) -> None:
    broken = raw / "broken.mid"
    broken.symlink_to("/proc/self/mem")  # opens, and gives an input/output error
    summary = scan(raw, table, workers=1)
    assert summary.verdicts == {"ok": 4, "cannot be read": 1}
    assert summary.warnings == ["Could not be read, and tried again at the next scan: broken.mid (Input/output error)."]
    for _ in range(TRIES + 1):
        summary = scan(raw, table, workers=1)
        assert summary.verdicts == {"ok": 4, "cannot be read": 1}
        assert len(summary.warnings) == 1


@pytest.mark.slow
def test_permissions_that_are_mended_later(raw: Path, table: Path) -> None:
    closed = raw / "mine" / "reel" / "Band" / "Tune 1.mid"
    closed.chmod(0)
    command = bound(sys.executable, "-c", TWO_SCANS, str(raw), str(table))
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert read.stdout.splitlines() == [
        "4 read, {'ok': 3, 'cannot be read': 1}, then 0 pending",
        "1 read, {'ok': 3, 'cannot be read': 1}, then 0 pending",
    ]
    row = pl.read_parquet(table).row(by_predicate=pl.col("verdict") == "cannot be read", named=True)
    assert (row["path"], row["detail"]) == ("mine/reel/Band/Tune 1.mid", "Permission denied.")
    closed.chmod(0o644)
    changes = pending(raw, table)
    assert (changes.changed, changes.count) == (1, 1)
    assert scan(raw, table, workers=1).verdicts == {"ok": 4}


TWO_SCANS = """
import sys
from pathlib import Path
from music_assets.corpus.reading.scan import pending, scan

raw, table = map(Path, sys.argv[1:])
for _ in range(2):
    summary = scan(raw, table, workers=1)
    print(f"{summary.read} read, {summary.verdicts}, then {pending(raw, table).count} pending")
"""


def write_bytes_named(folder: Path, name: bytes, **tune: Any) -> None:
    with open(os.path.join(os.fsencode(folder), name), "wb") as file:  # noqa: PTH118, PTH123 (pathlib has no byte names)
        file.write(make_tune(bars=4, **tune).dumps_midi())


def test_a_name_that_is_not_utf8_gets_a_verdict(raw: Path, table: Path) -> None:
    write_bytes_named(raw / "mine", b"caf\xe9.mid")
    assert scan(raw, table, workers=1).verdicts == {"ok": 4, "unreadable": 1}
    row = pl.read_parquet(table).row(by_predicate=pl.col("verdict") == "unreadable", named=True)
    assert row["path"] == "mine/caf\\xe9.mid"
    assert "UTF-8" in row["detail"]
    again = scan(raw, table, workers=1)
    assert (again.read, again.rewritten, again.warnings) == (0, False, [])


@pytest.mark.parametrize("names", [(b"caf\xe9.mid", b"caf\\xe9.mid"), (b"\xe9\\xff.mid", b"\\xe9\xff.mid")])
def test_a_name_that_is_not_utf8_is_spelled_like_no_other(raw: Path, table: Path, names: tuple[bytes, bytes]) -> None:
    for seed, name in enumerate(names):
        write_bytes_named(raw, name, seed=10 + seed)
    utf8 = sum(b"\xe9" not in name and b"\xff" not in name for name in names)
    assert scan(raw, table, workers=1).verdicts == {"ok": 4 + utf8, "unreadable": 2 - utf8}
    assert pending(raw, table).count == 0
    assert scan(raw, table, workers=1).read == 0


def test_folders_whose_names_would_be_spelled_alike_do_not_share_rows(raw: Path, table: Path) -> None:
    for seed, folder in enumerate((b"caf\\xe9", b"caf\xe9")):
        os.mkdir(os.path.join(os.fsencode(raw), folder))  # noqa: PTH102, PTH118
        write_bytes_named(raw, folder + b"/Tune.mid", seed=10 + seed)
    assert scan(raw, table, workers=1).verdicts == {"ok": 5, "unreadable": 1}
    (raw / "caf\\xe9" / "Tune.mid").unlink()
    assert scan(raw, table, workers=1).verdicts == {"ok": 4, "unreadable": 1}


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "saved"),
    [
        ("1 read", 0),
        ("3 read", 2),
        ("writing 000001.parquet", 2),
        ("wrote 000001.parquet", 4),
        ("writing files.parquet", 6),
        ("wrote files.parquet", 6),
    ],
)
def test_a_scan_killed_at_any_moment_is_taken_up_by_the_next(
    raw: Path, table: Path, moment: str, saved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4, 6):
        write_tune(raw / "more" / f"Tune {seed}.mid", seed=seed)
    expected = table.with_name("expected.parquet")
    scan(raw, expected, workers=1)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_SCAN, raw, table, moment], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = [psutil.Process(int(pid)) for pid in killed.stdout.split() if psutil.pid_exists(int(pid))]
    assert psutil.wait_procs(left, timeout=20)[1] == []
    monkeypatch.setattr(scan_module, "ROWS_IN_A_PART", 2)
    resumed = scan(raw, table, workers=1)
    assert (resumed.read, resumed.unchanged, resumed.seen) == (6 - saved, saved, 6)
    assert pl.read_parquet(table).equals(pl.read_parquet(expected))
    assert {path.name for path in table.parent.iterdir()} == {"files.parquet", "expected.parquet"}


KILLED_SCAN = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import psutil
from music_assets.corpus.reading import scan as module

raw, table, moment = sys.argv[1:]
module.ROWS_IN_A_PART = 2
publish = module.publish

def reach(now):
    if now == moment:
        print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

@contextmanager
def publish_and_reach(target):
    with publish(target) as fresh:
        yield fresh
        reach(f"writing {target.name}")
    reach(f"wrote {target.name}")

module.publish = publish_and_reach
module.scan(Path(raw), Path(table), workers=2, progress=lambda done, total: reach(f"{done} read"))
"""


def test_a_part_that_is_left_never_beats_a_newer_one(raw: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "ROWS_IN_A_PART", 1)
    scan(raw, table, workers=1)
    table.with_suffix(".parts").mkdir()
    table.rename(table.with_suffix(".parts") / "000007.parquet")
    for number in range(2):
        write_tune(raw / "mine" / "reel" / "Band" / f"Tune {number}.mid", seed=77, bars=8)

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(raw, table, workers=1, progress=interrupt)
    assert scan(raw, table, workers=1).read == 1
    assert pending(raw, table).count == 0


def test_two_scans_at_once_are_refused(raw: Path, table: Path) -> None:
    with exclusive(table), pytest.raises(Busy, match="Another process is writing"):
        scan(raw, table, workers=1)


def test_rows_of_an_older_reader_are_read_again(raw: Path, table: Path) -> None:
    scan(raw, table, workers=1)
    rows = pl.read_parquet(table)
    rows.write_parquet(table, metadata={"reader_version": f"{READER_VERSION} older"})
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
