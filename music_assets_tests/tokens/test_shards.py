import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from music_assets.tokens import remi
from music_assets.tokens.build import ShardSummary, build_shards
from music_assets.tokens.shards import make_shard, read_shard, stored_hash, write_shard
from music_assets.tokens.transposition import TRANSPOSITIONS, transpose
from music_assets.tokens.vocabulary import FINGERPRINT, VocabularyMismatch
from music_assets_tests.midi_files import STYLES, write_tune


def shard(genre: str = "jazz", **changes):
    rows = {
        "piece_ids": ["b", "a"],
        "group_ids": ["group b", "group a"],
        "splits": ["train", "test"],
        "notes": [3, 2],
        "seconds": [1.5, 0.25],
        "documents": [np.arange(5, dtype=np.uint16), np.arange(3, dtype=np.uint16)],
    }
    return make_shard(genre, "original", **(rows | changes))


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "jazz" / "original.arrow"
    write_shard(path, shard())
    read = read_shard(path)
    assert (read.genre, read.transposition, read.fingerprint) == ("jazz", "original", FINGERPRINT)
    assert (read.piece_ids, read.group_ids) == (["a", "b"], ["group a", "group b"])
    np.testing.assert_array_equal(read.where("train"), [1])
    np.testing.assert_array_equal(read.document(0), [0, 1, 2])
    np.testing.assert_array_equal(read.document(1), range(5))
    np.testing.assert_array_equal(read.notes, [2, 3])
    np.testing.assert_array_equal(read.seconds, np.array([0.25, 1.5], np.float32))
    assert len(read) == 2
    assert [read.ids.dtype, read.offsets.dtype, read.notes.dtype] == [np.uint16, np.int64, np.int32]
    assert read.content_hash == shard().content_hash == stored_hash(path)


def test_ids_are_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "big.arrow"
    write_shard(path, shard(documents=[np.zeros(1, np.uint16), np.ones(5_000_000, np.uint16)]))
    before = pa.total_allocated_bytes()
    read = read_shard(path)
    assert pa.total_allocated_bytes() - before < 100_000
    assert not read.ids.flags.writeable
    assert not read.ids.flags.owndata
    assert read.ids.sum() == 5_000_000


def test_polars_reads_a_shard_without_our_code(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.arrow", shard())
    frame = pl.scan_ipc(tmp_path / "x.arrow").collect()
    assert frame.schema["ids"] == pl.List(pl.UInt16)
    assert frame.row(0) == ("a", "group a", "test", 2, 0.25, [0, 1, 2])


def test_equal_content_gives_equal_bytes_and_hash(tmp_path: Path) -> None:
    write_shard(tmp_path / "one", shard())
    write_shard(tmp_path / "two", shard(piece_ids=["b", "a"]))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    others = [shard("rock"), shard(notes=[4, 2]), shard(splits=["train", "valid"])]
    others.append(shard(documents=[np.arange(4, dtype=np.uint16), np.arange(4, dtype=np.uint16)]))
    assert len({shard().content_hash, *(other.content_hash for other in others)}) == 5


def test_an_empty_shard_is_fine(tmp_path: Path) -> None:
    empty = shard(piece_ids=[], group_ids=[], splits=[], notes=[], seconds=[], documents=[])
    write_shard(tmp_path / "x", empty)
    read = read_shard(tmp_path / "x")
    assert len(read) == len(read.where("train")) == len(read.ids) == 0


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(FileNotFoundError, match="There is no token shard at"):
        read_shard(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not a token shard"):
        read_shard(tmp_path / "x")
    assert stored_hash(tmp_path / "x") is None
    write_shard(tmp_path / "x", shard())
    another_vocabulary(monkeypatch)
    with pytest.raises(VocabularyMismatch, match=f"was made with vocabulary {FINGERPRINT}"):
        read_shard(tmp_path / "x")


def another_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("vocabulary", "shards"):
        monkeypatch.setattr(f"music_assets.tokens.{module}.FINGERPRINT", "another")


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

    def build(self, *transpositions: str) -> list[ShardSummary]:
        return build_shards(self.pieces, self.raw, self.path, "jazz", transpositions)


def test_shards_hold_the_encodings_and_copies_of_training_pieces_only(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1, 2, 3, 4)
    genre.add(5, split="valid")
    genre.add(6, split="test")
    summaries = genre.build(*TRANSPOSITIONS)
    original = read_shard(genre.path("original"))
    assert original.piece_ids == sorted(genre.pieces["piece_id"])
    for row in range(len(original)):
        heard = remi.notes(original.document(row))
        assert original.notes[row] == len(heard)
        assert original.seconds[row] == pytest.approx(heard.seconds)
    for summary in summaries:
        shard = read_shard(genre.path(summary.transposition))
        assert summary.rewritten
        assert (summary.pieces, summary.tokens, summary.notes) == (
            len(shard),
            len(shard.ids),
            shard.notes.sum(),
        )
        assert sum(summary.token_types.values()) == summary.tokens
        assert (summary.encoded, summary.reused, summary.failed) == (7, 0, {})
        if summary.transposition == "original":
            continue
        assert set(shard.splits) == {"train"}
        assert summary.pieces + summary.out_of_range == 5
        for row, piece in enumerate(shard.piece_ids):
            untransposed = original.document(original.piece_ids.index(piece))
            expected = transpose(untransposed, TRANSPOSITIONS[summary.transposition])
            np.testing.assert_array_equal(shard.document(row), expected)


def test_only_new_pieces_are_encoded_and_only_changed_shards_written(tmp_path: Path) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1, 2, split="train")
    genre.build("original", "up1")
    before = {name: genre.path(name).stat() for name in ("original", "up1")}
    again = genre.build("original", "up1")
    assert [(s.encoded, s.reused, s.rewritten) for s in again] == [(0, 3, False)] * 2
    assert {name: genre.path(name).stat() for name in ("original", "up1")} == before

    genre.add(3, split="test")
    more = genre.build("original", "up1")
    assert [(s.encoded, s.reused, s.rewritten) for s in more] == [(1, 3, True), (1, 3, False)]

    genre.pieces = genre.pieces.with_columns(split=pl.lit("train"), group_id=pl.lit("one"))
    moved = genre.build("original", "up1")
    assert [(s.encoded, s.rewritten, s.pieces) for s in moved] == [(0, True, 4), (0, True, 4)]
    assert set(read_shard(genre.path("up1")).group_ids) == {"one"}

    genre.pieces = genre.pieces.head(2)
    assert [(s.encoded, s.pieces) for s in genre.build("original", "up1")] == [(0, 2), (0, 2)]


def test_another_vocabulary_encodes_everything_again(tmp_path: Path, monkeypatch) -> None:
    genre = Genre(tmp_path)
    genre.add(0, 1)
    genre.build("original")
    another_vocabulary(monkeypatch)
    assert [(s.encoded, s.reused, s.rewritten) for s in genre.build("original")] == [(2, 0, True)]


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


def test_an_unknown_transposition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no transposition 'up7'; choose from down5"):
        Genre(tmp_path).build("up7")
