"""Bytes to a score: wrappers, repairs and verdicts."""

import csv
import gzip
import io
import os
import struct
import tarfile
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import mido
import pytest

from music_assets.corpus.reading.verdicts import examine
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import (
    MAXIMUM_BYTES,
    MAXIMUM_UNPACKED_BYTES,
    load_bytes,
    load_score,
    read_score,
)
from music_assets_tests.foundation.midi.mido_reading import heard_by_mido, heard_in
from music_assets_tests.midi_files import make_tune

MIDI = make_tune(bars=4).dumps_midi()


def riff(midi: bytes) -> bytes:
    chunks = b"DISP" + struct.pack("<I", 3) + b"abc\0" + b"data" + struct.pack("<I", len(midi)) + midi
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"RMID" + chunks + b"LIST\0\0\0\0"


@pytest.mark.parametrize(
    ("wrapped", "repairs"),
    [
        (MIDI, ()),
        (gzip.compress(MIDI, mtime=0), ("Unpacked from gzip.",)),
        (riff(MIDI), ("Unwrapped from RIFF.",)),
        (gzip.compress(riff(MIDI), mtime=0), ("Unpacked from gzip.", "Unwrapped from RIFF.")),
        (bytes(128) + MIDI, ("Skipped 128 bytes before the MIDI header.",)),
    ],
)
def test_a_wrapper_changes_nothing_but_the_report(wrapped: bytes, repairs: tuple[str, ...]) -> None:
    reading = read_score(wrapped)
    assert reading.score == read_score(MIDI).score
    assert reading.repairs == repairs


def test_data_bytes_over_127_are_clamped_as_mido_does() -> None:
    events = b"".join(bytes([0, 0x90, 60 + i, 200 if i % 2 else 64, 60, 0x80, 60 + i, 0]) for i in range(20))
    track = events + b"\x00\xff\x2f\x00"
    data = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(track)) + track
    reading = read_score(data)
    expected = [m.velocity for m in mido.MidiFile(file=io.BytesIO(data), clip=True).tracks[0] if m.type == "note_on"]
    assert [note.velocity for note in reading.score.tracks[0].notes] == expected
    assert reading.repairs == ("Data bytes over 127 were clamped.",)


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html></html>", "not MIDI"),
        (b"PK\x03\x04 and so on", "not MIDI"),
        (b"RIFF\x04\0\0\0RMID", "not MIDI"),
        (gzip.compress(gzip.compress(MIDI), mtime=0), "not MIDI"),
        (gzip.compress(MIDI, mtime=0)[:10] + b"\xff\xff damaged", "unreadable"),
        (gzip.compress(MIDI, mtime=0)[:-20], "truncated"),
        (gzip.compress(bytes(MAXIMUM_UNPACKED_BYTES + 1), mtime=0), "too large"),
        (MIDI[:10], "truncated"),
        (MIDI[: len(MIDI) // 3], "truncated"),
        (MIDI[:12] + b"\xe7\x28" + MIDI[14:], "unreadable"),
        (MIDI[:12] + b"\0\0" + MIDI[14:], "unreadable"),
    ],
)
def test_verdict_of_bytes_that_are_no_usable_midi(data: bytes, verdict: str) -> None:
    with pytest.raises(BadMidi) as caught:
        read_score(data)
    assert caught.value.verdict == verdict


def test_an_error_names_the_file(tmp_path: Path) -> None:
    large = tmp_path / "large.mid"
    with large.open("wb") as file:
        file.truncate(MAXIMUM_BYTES + 1)
    with pytest.raises(BadMidi, match=f"^too large: {large}: "):
        load_score(large)
    broken = tmp_path / "broken.mid"
    broken.symlink_to("/proc/self/mem")  # opens, and gives an input/output error
    for path, error in [
        (tmp_path / "missing.mid", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (broken, OSError),
    ]:
        with pytest.raises(error, match=str(path)):
            load_score(path)


def test_a_file_that_is_written_to_while_it_is_read_is_no_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "growing.mid"
    path.write_bytes(MIDI)
    done = threading.Event()

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            while not done.is_set():
                file.seek(0)
                file.write(MIDI)

    def read_until_refused() -> None:
        while load_bytes(path):
            pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(OSError, match=f"Written to while it was read: '{path}'"):
            read_until_refused()
    finally:
        done.set()
        writer.join()


@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_broken_files_get_the_verdict_that_they_deserve(tmp_path: Path) -> None:
    corpus = Path(os.environ["MUSIC_ASSETS_CORPUS"])
    with tarfile.open(corpus / "midi.tar.xz") as archive:
        broken = [member for member in archive if member.name.startswith("./broken/")]
        archive.extractall(tmp_path, broken, filter="data")
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    repaired = []
    for row in csv.DictReader((corpus / "broken.csv").read_text().splitlines()):
        found = examine(tmp_path / row["path"])
        verdicts[row["reason"]][found["verdict"]] += 1
        if found["verdict"] == "ok" and found["detail"]:
            repaired.append(tmp_path / row["path"])
    assert verdicts == {
        "data-byte-out-of-range": {"ok": 8, "truncated": 2},  # of the two less than half is left, too
        "empty-file": {"empty file": 1},
        "finale-file": {"not MIDI": 4},
        "gzip": {"ok": 2, "unreadable": 1},  # the bytes of one are damaged
        "html-page": {"not MIDI": 6},
        "not-midi-other": {"not MIDI": 4},
        "odd-drums-only": {"ok": 3},
        "odd-few-notes": {"too few notes": 6},
        "odd-many-tempos": {"ok": 4},
        "odd-very-long": {"ok": 3, "too long": 1},  # 55,537 seconds
        "odd-zero-notes": {"no notes": 2},
        "other-parse-error": {"unreadable": 1},
        "riff-rmi": {"ok": 4},
        "truncated": {"ok": 7, "truncated": 1},  # of one, less than half is left
    }
    assert len(repaired) == 21
    compared = 0
    for path in repaired:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data[max(data.find(b"MThd"), 0) :]
        with suppress(EOFError, OSError):  # mido reads no file that breaks off
            assert heard_in(load_score(path)) == heard_by_mido(data)
            compared += 1
    assert compared == 14
