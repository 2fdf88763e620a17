"""Building the shards of a genre: what is encoded, what is reused, what a kill leaves, what it takes."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from symusic.core import ScoreTick

from music_assets.foundation.midi.reading import load_score
from music_assets.foundation.publishing import DiskFull
from music_assets.tokens import build, documents, remi
from music_assets.tokens.build import ShardSummary, build_shards
from music_assets.tokens.documents import Document, Failure, _encode_file, encode_files
from music_assets.tokens.shards import Shard, make_shard, read_shard
from music_assets.tokens.transposition import TRANSPOSITIONS, BadTranspositions, transpose
from music_assets_tests.midi_files import STYLES, make_tune, write_tune

pytestmark = pytest.mark.slow


class Genre:
    """A folder of tunes with its pieces table and its shards."""

    def __init__(self, root: Path) -> None:
        self.raw, self.shards = root / "raw", root / "shards"
        self.pieces = pl.DataFrame(schema=dict.fromkeys(("piece_id", "path", "group_id", "split"), pl.String))

    def add(self, *seeds: int, split: str = "train") -> None:
        for seed in seeds:
            path = write_tune(self.raw / f"{seed}.mid", style=STYLES[seed % 5], seed=seed, bars=4)
            self.add_file(path, f"group {seed}", split)

    def add_file(self, path: Path, group: str, split: str) -> None:
        row = (hashlib.md5(path.read_bytes()).hexdigest(), path.name, group, split)
        self.pieces = self.pieces.vstack(pl.DataFrame([row], self.pieces.schema, orient="row"))

    def path(self, transposition: str) -> Path:
        return self.shards / f"{transposition}.arrow"

    def build(self, *transpositions: str, workers: int = 1) -> list[ShardSummary]:
        return build_shards(self.pieces, self.raw, self.path, "jazz", transpositions, workers)

    def expected(self, transposition: str) -> Shard:
        """The shard, made piece by piece and all at once."""
        rows = []
        for piece, path, group, split in self.pieces.select("piece_id", "path", "group_id", "split").iter_rows():
            encoding = remi.encode_measured(load_score(self.raw / path))
            ids = transpose(encoding.ids, TRANSPOSITIONS[transposition])
            if ids is not None and (split == "train" or transposition == "original"):
                rows.append((piece, group, split, encoding.notes, encoding.seconds, ids))
        piece_ids, groups, splits, notes, seconds, ids = zip(*rows, strict=True)
        return make_shard("jazz", transposition, piece_ids, groups, splits, notes, seconds, ids)

    def check(self, *transpositions: str) -> None:
        """Stored shards are the expected ones to the last bit."""
        for name in transpositions:
            stored, expected = read_shard(self.path(name)), self.expected(name)
            assert stored.rows.equals(expected.rows)
            np.testing.assert_array_equal(stored.offsets, expected.offsets)
            np.testing.assert_array_equal(stored.ids, expected.ids)
            assert stored.content_hash == expected.content_hash


def test_shards_hold_the_encodings_and_copies_of_training_pieces_only(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1, 2, 3, 4)
    genre.add(5, split="valid")
    genre.add(6, split="test")
    genre.add(7, 8)
    summaries = genre.build(*TRANSPOSITIONS)
    genre.check(*TRANSPOSITIONS)
    for summary in summaries:
        shard = read_shard(genre.path(summary.transposition))
        assert summary.rewritten
        assert (summary.pieces, summary.tokens, summary.notes) == (len(shard), len(shard.ids), shard.notes.sum())
        assert (summary.encoded, summary.reused, summary.failed) == (9, 0, {})
        if summary.transposition != "original":
            assert set(shard.splits) == {"train"}
            assert summary.pieces + summary.out_of_range == 7


def test_a_piece_that_would_leave_the_range_is_left_out_and_counted(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 5)
    for seed, (highest, split) in enumerate([(126, "train"), (127, "train"), (127, "valid")]):
        score = make_tune(style="reel", seed=seed, bars=4)
        score.shift_pitch(highest - max(note.pitch for note in score.tracks[0].notes), inplace=True)
        score.dump_midi(str(genre.raw / f"high {seed}.mid"))
        genre.add_file(genre.raw / f"high {seed}.mid", f"high {seed}", split)
    up1, up2 = genre.build("up1", "up2")
    assert [(up1.pieces, up1.out_of_range), (up2.pieces, up2.out_of_range)] == [(3, 1), (2, 2)]
    genre.check("up1", "up2")


def test_only_new_pieces_are_encoded_and_only_changed_shards_written(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1, 2, split="train")
    genre.build("original", "up1")
    before = {name: genre.path(name).stat() for name in ("original", "up1")}
    again = genre.build("up1", "original")
    assert [(s.encoded, s.reused, s.rewritten) for s in again] == [(0, 3, False)] * 2
    assert {name: genre.path(name).stat() for name in ("original", "up1")} == before

    genre.add(3, split="test")
    more = genre.build("up1", "original")
    assert [(s.encoded, s.reused, s.rewritten) for s in more] == [(1, 3, False), (1, 3, True)]

    genre.pieces = genre.pieces.with_columns(split=pl.lit("train"), group_id=pl.lit("one"))
    moved = genre.build("original", "up1")
    assert [(s.encoded, s.rewritten, s.pieces) for s in moved] == [(0, True, 4), (0, True, 4)]
    assert set(read_shard(genre.path("up1")).group_ids) == {"one"}

    genre.pieces = genre.pieces.head(2)
    assert [(s.encoded, s.pieces) for s in genre.build("original", "up1")] == [(0, 2), (0, 2)]
    genre.check("original", "up1")


def test_stored_and_new_encodings_make_the_same_file_as_new_ones_alone(tmp_path: Path) -> None:
    one, other = Genre(tmp_path / "one"), Genre(tmp_path / "other")
    for seeds in ((4, 1, 7), (2, 0), (6, 3, 5)):
        one.add(*seeds)
        one.build("original", "down2")
    other.add(*range(8))
    other.pieces = other.pieces.reverse()
    other.build("original", "down2")
    for name in ("original", "down2"):
        assert one.path(name).read_bytes() == other.path(name).read_bytes()


def test_the_original_shard_keeps_encodings_also_when_it_is_not_asked_for(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1)
    assert [s.encoded for s in genre.build("up1")] == [2]
    assert [s.encoded for s in genre.build("up2")] == [0]
    assert [(s.encoded, s.rewritten) for s in genre.build("original")] == [(0, False)]


def test_what_was_lost_is_known_also_of_reused_pieces(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0)
    score = make_tune(style="reel", bars=4)
    score.tracks[0].notes.append(score.tracks[0].notes[0])
    score.dump_midi(str(genre.raw / "doubled.mid"))
    genre.add_file(genre.raw / "doubled.mid", "doubled", "train")
    for _ in range(2):
        genre.build("original", "up1")
        for name in ("original", "up1"):
            assert read_shard(genre.path(name)).rows["dropped"].sum() == 1
        genre.add(2)


def test_another_vocabulary_encodes_everything_again(tmp_path: Path, monkeypatch) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1)
    genre.build("original")
    for module in ("vocabulary", "shards"):
        monkeypatch.setattr(f"music_assets.tokens.{module}.DOCUMENT_FINGERPRINT", "another")
    assert [(s.encoded, s.reused, s.rewritten) for s in genre.build("original")] == [(2, 0, True)]
    assert read_shard(genre.path("original")).fingerprint == "another"


def test_a_damaged_shard_is_written_anew(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1)
    genre.build("original")
    good = genre.path("original").read_bytes()
    genre.path("original").write_bytes(good[:200])
    assert [(s.encoded, s.rewritten) for s in genre.build("original")] == [(2, True)]
    assert genre.path("original").read_bytes() == good


def test_a_bug_in_reading_a_shard_is_not_taken_for_a_shard_of_another_version(tmp_path: Path, monkeypatch) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1)
    genre.build("original")
    good = genre.path("original").read_bytes()
    monkeypatch.setattr("music_assets.tokens.shards.check_fingerprint", lambda *_: np.zeros(2) + np.zeros(3))
    with pytest.raises(ValueError, match="operands could not be broadcast"):
        genre.build("original")
    assert genre.path("original").read_bytes() == good


def test_a_piece_that_cannot_be_encoded_is_reported_once_and_left_out(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0)
    broken = genre.raw / "broken.mid"
    broken.write_bytes(b"not MIDI")
    genre.add_file(broken, "broken", "train")
    first, second = genre.build("original")[0], genre.build("original")[0]
    assert (first.pieces, first.encoded, second.encoded, second.rewritten) == (1, 2, 0, False)
    assert list(first.failed.values()) == list(second.failed.values())
    assert "broken.mid" in next(iter(first.failed.values()))


def test_what_failed_stays_failed_until_its_file_or_the_reader_changes(tmp_path: Path, monkeypatch) -> None:
    genre = Genre(tmp_path)
    genre.add(0)
    broken = genre.raw / "broken.mid"
    broken.write_bytes(b"not MIDI")
    genre.add_file(broken, "broken", "train")
    genre.pieces = genre.pieces.with_columns(md5="piece_id")
    assert [genre.build("original")[0].encoded for _ in range(2)] == [2, 0]

    monkeypatch.setattr(build, "READER_VERSION", f"{build.READER_VERSION} newer")
    again = genre.build("original")[0]
    assert (again.encoded, again.pieces, again.content_hash) == (1, 1, genre.build("original")[0].content_hash)
    assert genre.build("original")[0].encoded == 0

    write_tune(broken, seed=7, bars=4)
    md5 = pl.when(pl.col("path") == broken.name).then(pl.lit(hashlib.md5(broken.read_bytes()).hexdigest()))
    genre.pieces = genre.pieces.with_columns(md5=md5.otherwise("md5"))
    mended = genre.build("original")[0]
    assert (mended.encoded, mended.pieces, mended.failed) == (1, 2, {})
    genre.check("original")

    genre.pieces = genre.pieces.head(1)
    assert genre.build("original")[0].failed == {}


def test_a_disk_that_is_away_costs_a_piece_only_as_long_as_it_is(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1)
    genre.build("original", "up1")
    genre.add(2, 3)
    genre.raw.rename(tmp_path / "away")
    for _ in range(2):
        original, up1 = genre.build("original", "up1")
        assert (original.pieces, original.encoded, original.reused) == (2, 2, 2)
        assert not original.rewritten
        assert original.failed == original.refused == up1.refused
        assert sorted(original.refused.values()) == [
            f"{genre.raw / name}: No such file or directory." for name in ("2.mid", "3.mid")
        ]
        assert read_shard(genre.path("original")).failed == {}
    (tmp_path / "away").rename(genre.raw)
    back = genre.build("original", "up1")[0]
    assert (back.pieces, back.encoded, back.failed) == (4, 2, {})
    genre.check("original", "up1")


def test_a_file_that_is_not_the_one_that_was_indexed_is_not_taken_for_it(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1, 2)
    genre.pieces = genre.pieces.with_columns(md5="piece_id")
    indexed = {name: (genre.raw / name).read_bytes() for name in ("1.mid", "2.mid")}
    write_tune(genre.raw / "1.mid", seed=50, bars=4)
    (genre.raw / "2.mid").write_bytes(b"half copied")
    swapped = genre.build("original")[0]
    assert (swapped.pieces, len(swapped.refused)) == (1, 2)
    assert all("has changed since it was indexed" in why for why in swapped.refused.values())
    for name, data in indexed.items():
        (genre.raw / name).write_bytes(data)
    assert genre.build("original")[0].failed == {}
    genre.check("original")


def test_a_bug_costs_the_file_that_meets_it_and_keeps_its_traceback(tmp_path: Path, monkeypatch, caplog) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1, 2)
    odd = load_score(genre.raw / "1.mid")

    def encode(score: ScoreTick) -> remi.Encoding:
        if score == odd:
            np.add(np.zeros(2), np.zeros(3))
        return remi.encode_measured(score)

    monkeypatch.setattr(documents, "encode_measured", encode)
    for _ in range(2):
        caplog.clear()
        summary = genre.build("original")[0]
        assert (summary.pieces, summary.refused) == (2, {})
        (why,) = summary.failed.values()
        assert why.startswith(f"{genre.raw / '1.mid'}: ValueError: operands could not be broadcast")
        assert "in encode\n" in caplog.text
        assert read_shard(genre.path("original")).failed == summary.failed
    monkeypatch.undo()
    assert genre.build("original")[0].failed == {}
    genre.check("original")


def encode_or_die(task: tuple[int, Path]) -> Document | Failure:
    if (task[1].parent / "deadly").exists() and task[1].name == "1.mid":
        os.kill(os.getpid(), signal.SIGKILL)
    return _encode_file(task)


def test_a_worker_that_was_killed_costs_its_file_only_this_time(tmp_path: Path, monkeypatch) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1, 2)
    monkeypatch.setattr(documents, "_encode_file", encode_or_die)
    monkeypatch.setattr(documents, "_FILES_PER_WORKER", 1)
    (genre.raw / "deadly").touch()
    summary = genre.build("original", workers=2)[0]
    assert summary.pieces == 2
    assert [*summary.refused.values()] == [f"{genre.raw / '1.mid'}: The worker process ended with code -9."]
    (genre.raw / "deadly").unlink()
    assert genre.build("original", workers=2)[0].failed == {}
    genre.check("original")


def test_no_piece_and_no_readable_piece_give_empty_shards(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    assert [s.pieces for s in genre.build("original", "up1")] == [0, 0]
    genre.raw.mkdir()
    (genre.raw / "broken.mid").write_bytes(b"not MIDI")
    genre.add_file(genre.raw / "broken.mid", "broken", "train")
    assert [(s.pieces, s.rewritten) for s in genre.build("original", "up1")] == [(0, True), (0, False)]


def test_an_unknown_transposition_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(BadTranspositions, match="no transposition 'up7'; choose from down5"):
        Genre(tmp_path).build("original", "up7")
    assert not (tmp_path / "shards").exists()


def test_files_are_encoded_in_process_and_in_workers_alike(tmp_path: Path, monkeypatch) -> None:
    paths = [write_tune(tmp_path / f"{seed}.mid", seed=seed, bars=2) for seed in range(4)]
    paths.append(tmp_path / "broken.mid")
    paths[-1].write_bytes(b"no MIDI at all")
    paths.append(tmp_path / "silent.mid")
    ScoreTick(480).dump_midi(str(paths[-1]))
    alone = dict(encode_files(paths))
    monkeypatch.setattr(documents, "_FILES_PER_WORKER", 1)
    together = dict(encode_files(paths, workers=2))
    assert alone.keys() == together.keys() == set(range(6))
    for index, seed in enumerate(range(4)):
        one, other = alone[index], together[index]
        assert isinstance(one, Document)
        assert isinstance(other, Document)
        np.testing.assert_array_equal(one.ids, remi.encode(make_tune(seed=seed, bars=2)))
        np.testing.assert_array_equal(one.ids, other.ids)
        assert one.facts == other.facts
        assert one.facts.seconds == pytest.approx(remi.notes(one.ids).seconds)
    assert "broken.mid" in str(alone[4])
    assert "no notes" in str(alone[5])


# Builds the shards of a folder and says what it is about to do; then waits to be killed.
_BUILDER = """
import sys, time
from pathlib import Path
from music_assets.tokens import build
from music_assets_tests.tokens.test_build import Genre

encode_files, write_shard = build.encode_files, build.write_shard

def some_files(*arguments):
    for count, result in enumerate(encode_files(*arguments)):
        if count == 2 and sys.argv[2] == "encoding":
            halt()
        yield result

def some_blocks(path, listing, blocks):
    def halting():
        for count, block in enumerate(blocks):
            if count == 1 and sys.argv[2] == path.stem:
                halt()
            yield block
    write_shard(path, listing, halting())

def halt():
    print("now", flush=True)
    time.sleep(60)

build.encode_files, build.write_shard = some_files, some_blocks
genre = Genre(Path(sys.argv[1]))
genre.add(*range(8))
genre.pieces = genre.pieces.with_columns(split=build.pl.Series(["train", "valid"] * 4))
genre.build("original", "up1")
"""


@pytest.mark.parametrize("moment", ["encoding", "original", "up1"])
def test_a_killed_build_leaves_the_old_shards_and_the_next_one_completes(moment: str, tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1)
    genre.build("original", "up1")
    before = {name: genre.path(name).read_bytes() for name in ("original", "up1")}
    builder = subprocess.Popen(
        [sys.executable, "-c", _BUILDER, str(tmp_path), moment], stdout=subprocess.PIPE, text=True
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "now\n"
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate()
    assert genre.path("up1").read_bytes() == before["up1"]
    assert (genre.path("original").read_bytes() == before["original"]) is (moment != "up1")

    genre.add(*range(2, 8))
    genre.pieces = genre.pieces.with_columns(split=pl.Series(["train", "valid"] * 4))
    summaries = genre.build("original", "up1")
    assert [s.encoded for s in summaries] == [0 if moment == "up1" else 6] * 2
    genre.check("original", "up1")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        genre = Genre(tmp_path)
        genre.shards = disk
        genre.add(0)
        genre.build("original")
        before = genre.path("original").read_bytes()
        path = write_tune(genre.raw / "long.mid", style="band", bars=2000)
        genre.add_file(path, "long", "train")
        with pytest.raises(DiskFull, match="is full: free some space"):
            genre.build("original")
        assert genre.path("original").read_bytes() == before
        assert list(disk.iterdir()) == [genre.path("original")]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Documents of a million ids arrive as from workers; prints by how much memory that no file backs grew at most, in MiB.
_BIG_BUILD = """
import sys, threading, time
from pathlib import Path
import numpy as np, polars as pl
from music_assets.tokens import build
from music_assets.tokens.documents import Document, describe

ids = np.full(1_000_000, 60, np.uint16)
facts = describe(ids, 1, 1.0)
build.encode_files = lambda paths, workers: ((index, Document(ids.copy(), facts)) for index in range(len(paths)))

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

def build_genre(name, count):
    names = [str(index) for index in range(count)]
    splits = ["train", "valid"] * (count // 2)
    pieces = pl.DataFrame({"piece_id": names, "path": names, "group_id": names, "split": splits})
    folder = Path(sys.argv[1]) / name
    build.build_shards(pieces, folder, lambda key: folder / f"{key}.arrow", name, ["original", "up1"])

def watch():
    while True:
        highest[0] = max(highest[0], resident())
        time.sleep(0.001)

build_genre("small", 2)
highest = [resident()]
threading.Thread(target=watch, daemon=True).start()
before = resident()
build_genre("big", 60)
print(highest[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process as Linux tells it")
def test_a_genre_of_any_size_is_built_in_the_same_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _BIG_BUILD, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (tmp_path / "big" / "original.arrow").stat().st_size > 120_000_000
    assert int(done.stdout) < 30
