from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from music_assets.tokens import remi
from music_assets.tokens.shards import (
    ROWS_SCHEMA,
    BadShard,
    NoShard,
    Shard,
    make_shard,
    read_shard,
    stored_hash,
    write_shard,
)
from music_assets.tokens.transposition import BadTranspositions, transpose
from music_assets.tokens.vocabulary import DOCUMENT_FINGERPRINT, TOKEN_TYPES, Vocabulary, VocabularyMismatch
from music_assets_tests.midi_files import STYLES, make_tune


def shard(genre: str = "jazz", transposition: str = "original", **changes) -> Shard:
    rows = {
        "piece_ids": ["b", "a"],
        "group_ids": ["group b", "group a"],
        "splits": ["train", "test"],
        "notes": [3, 2],
        "seconds": [1.5, 0.25],
        "documents": [np.arange(5, dtype=np.uint16), np.arange(3, dtype=np.uint16)],
    }
    return make_shard(genre, transposition, **(rows | changes))


def write(path: Path, shard: Shard) -> None:
    write_shard(path, shard, [shard.ids])


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "jazz" / "original.arrow"
    write(path, shard())
    read = read_shard(path)
    assert (read.genre, read.transposition, read.fingerprint) == ("jazz", "original", DOCUMENT_FINGERPRINT)
    assert (read.piece_ids, read.group_ids) == (["a", "b"], ["group a", "group b"])
    np.testing.assert_array_equal(read.where("train"), [1])
    np.testing.assert_array_equal(read.document(0), [0, 1, 2])
    np.testing.assert_array_equal(read.document(1), range(5))
    np.testing.assert_array_equal(read.notes, [2, 3])
    np.testing.assert_array_equal(read.seconds, np.array([0.25, 1.5], np.float32))
    assert len(read) == 2
    assert [read.ids.dtype, read.offsets.dtype, read.notes.dtype] == [np.uint16, np.int64, np.int32]
    assert read.rows.equals(shard().rows)
    assert read.content_hash == shard().content_hash == stored_hash(path)


def test_ids_are_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "big.arrow"
    write(path, shard(documents=[np.zeros(1, np.uint16), np.ones(5_000_000, np.uint16)]))
    before = pa.total_allocated_bytes()
    read = read_shard(path)
    assert pa.total_allocated_bytes() - before < 100_000
    assert not read.ids.flags.writeable
    assert not read.ids.flags.owndata
    assert not read.offsets.flags.owndata
    assert read.ids.sum() == 5_000_000


def test_polars_reads_a_shard_without_our_code(tmp_path: Path) -> None:
    write(tmp_path / "x.arrow", shard())
    frame = pl.scan_ipc(tmp_path / "x.arrow").collect()
    assert frame.schema == {**ROWS_SCHEMA, "ids": pl.List(pl.UInt16)}
    first = frame.select("piece_id", "group_id", "split", "notes", "seconds", "ids").row(0)
    assert first == ("a", "group a", "test", 2, 0.25, [0, 1, 2])
    assert frame["ids"].list.len().to_list() == frame["token_types"].arr.sum().to_list()


def test_equal_content_gives_equal_bytes_and_hash(tmp_path: Path) -> None:
    write(tmp_path / "one", shard())
    other_order = {
        "piece_ids": ["a", "b"],
        "group_ids": ["group a", "group b"],
        "splits": ["test", "train"],
        "notes": [2, 3],
        "seconds": [0.25, 1.5],
        "documents": [np.arange(3, dtype=np.uint16), np.arange(5, dtype=np.uint16)],
    }
    write(tmp_path / "two", shard(**other_order))
    read = read_shard(tmp_path / "one")
    write_shard(tmp_path / "three", read, (read.ids[place : place + 1] for place in range(8)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()
    others = [
        shard("rock"),
        shard(notes=[4, 2]),
        shard(splits=["train", "valid"]),
        shard(failed={"c": "It is broken."}),
    ]
    others.append(shard(documents=[np.arange(4, dtype=np.uint16), np.arange(4, dtype=np.uint16)]))
    others.append(shard(documents=[np.array([0, 1, 2, 4, 3], np.uint16), np.arange(3, dtype=np.uint16)]))
    assert len({shard().content_hash, *(other.content_hash for other in others)}) == 7


def test_a_transposed_shard_has_the_digests_of_its_pieces_in_their_own_key() -> None:
    tunes = {seed: remi.encode(make_tune(style="band", seed=seed, bars=4)) for seed in (0, 1)}

    def moved(semitones: int, **changes: np.ndarray) -> list[np.ndarray]:
        documents = [transpose(changes.get(f"seed{seed}", ids), semitones) for seed, ids in tunes.items()]
        return [document for document in documents if document is not None]

    original = shard(documents=moved(0))
    up, down = shard(transposition="up2", documents=moved(2)), shard(transposition="down3", documents=moved(-3))
    assert up.rows["digest"].to_list() == down.rows["digest"].to_list() == original.rows["digest"].to_list()
    assert (up.rows["lowest"] - original.rows["lowest"]).to_list() == [2, 2]
    assert (down.rows["highest"] - original.rows["highest"]).to_list() == [-3, -3]
    other = shard(transposition="up2", documents=moved(2, seed1=tunes[0]))
    assert len({original.content_hash, up.content_hash, down.content_hash, other.content_hash}) == 4
    with pytest.raises(BadTranspositions, match="no transposition 'sideways'; choose from"):
        shard(transposition="sideways")


@pytest.mark.parametrize("style", STYLES)
def test_facts_are_those_of_the_document(style: str) -> None:
    ids = remi.encode(make_tune(style=style))
    row = shard(piece_ids=["a"], documents=[ids]).rows.row(0, named=True)
    heard = remi.notes(ids)
    pitches = heard.pitch[heard.program < 128]
    assert (row["lowest"], row["highest"]) == (pitches.min(), pitches.max())
    names = [Vocabulary().name(int(token)).split("_")[0] for token in ids]
    assert row["token_types"] == [names.count(kind) for kind in TOKEN_TYPES]


def test_a_piece_of_drums_alone_has_no_pitches_in_any_key() -> None:
    drums = np.array([Vocabulary().ranges["PitchDrum"].start], np.uint16)
    for transposition in ("original", "up3"):
        rows = shard(transposition=transposition, documents=[drums, drums]).rows
        assert (rows["lowest"].to_list(), rows["highest"].to_list()) == ([127, 127], [0, 0])


def test_an_empty_shard_is_fine(tmp_path: Path) -> None:
    empty = shard(piece_ids=[], group_ids=[], splits=[], notes=[], seconds=[], documents=[])
    write(tmp_path / "x", empty)
    read = read_shard(tmp_path / "x")
    assert len(read) == len(read.where("train")) == len(read.ids) == 0
    assert read.content_hash == empty.content_hash


@pytest.mark.parametrize("given", [range(7), range(9)])
def test_too_few_or_too_many_ids_are_refused_and_the_old_shard_stays(given: range, tmp_path: Path) -> None:
    path = tmp_path / "x"
    write(path, shard("rock"))
    with pytest.raises(ValueError, match=f"{len(given)} ids were given for .*x, which is to hold 8."):
        write_shard(path, shard(), [np.array(given, np.uint16)])
    assert read_shard(path).genre == "rock"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(NoShard, match="There is no token shard at"):
        read_shard(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"something else")
    with pytest.raises(BadShard, match="is not a token shard"):
        read_shard(tmp_path / "x")
    assert stored_hash(tmp_path / "x") is None
    write(tmp_path / "x", shard())
    with pa.ipc.open_file(tmp_path / "x") as file:
        fewer = file.get_batch(0).drop_columns(["dropped"])
    with pa.ipc.new_file(tmp_path / "older", fewer.schema) as writer:
        writer.write_batch(fewer)
    with pytest.raises(BadShard, match="has the columns of another version: materialise token_shards again"):
        read_shard(tmp_path / "older")
    for module in ("vocabulary", "shards"):
        monkeypatch.setattr(f"music_assets.tokens.{module}.DOCUMENT_FINGERPRINT", "another")
    with pytest.raises(VocabularyMismatch, match=f"was made with vocabulary {DOCUMENT_FINGERPRINT}"):
        read_shard(tmp_path / "x")
