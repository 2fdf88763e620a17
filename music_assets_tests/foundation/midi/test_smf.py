"""Files that are walked, cleaned and written again, beside what mido reads in them."""

import io
import struct
from collections import Counter
from random import Random

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symusic.core import ScoreTick

from music_assets.corpus.reading.verdicts import examine
from music_assets.foundation.midi import smf
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import Reading, read_score
from music_assets.tokens.remi import encode
from music_assets_tests.foundation.midi.event_streams import (
    END_OF_TRACK,
    chunk,
    event,
    header,
    meta,
    number,
    random_file,
    scale,
    tempo,
)
from music_assets_tests.foundation.midi.event_streams import smf as file_of
from music_assets_tests.foundation.midi.mido_reading import heard_by_mido, heard_in

files = st.builds(random_file, st.integers(0, 2**32).map(Random), st.integers(1, 4), st.integers(0, 150))


def onsets(data: bytes) -> list[int]:
    return sorted(note.time for track in read_score(data).score.tracks for note in track.notes)


@settings(deadline=None)  # the first call compiles
@given(files)
def test_any_events_are_heard_as_mido_reads_them(data: bytes) -> None:
    assert heard_in(read_score(data).score) == heard_by_mido(data)


@settings(deadline=None)  # the first call compiles
@given(files)
def test_a_clean_file_needs_no_cleaning(data: bytes) -> None:
    cleaned, _ = smf.clean(data)
    assert smf.clean(cleaned) == (cleaned, ())


@settings(deadline=None)
@given(files, st.data())
def test_no_bytes_are_too_damaged_for_a_verdict(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 8))):
        place = draw.draw(st.integers(0, len(damaged)))
        removed = draw.draw(st.integers(0, 4))
        damaged[place : place + removed] = draw.draw(st.binary(max_size=4))
    assert_has_a_verdict(bytes(damaged))


def test_bytes_at_random_behind_a_header_get_a_verdict() -> None:
    chance = np.random.default_rng(0)
    for size in range(300):
        assert_has_a_verdict(header(1) + b"MTrk" + struct.pack(">I", size) + chance.bytes(size))


def assert_has_a_verdict(data: bytes) -> None:
    reading = reading_or_verdict(data)
    if isinstance(reading, BadMidi):
        assert reading.verdict
        assert reading.detail.endswith(".")
    else:
        notes = [note for track in reading.score.tracks for note in track.notes]
        assert all(0 <= note.time <= note.end <= smf.LARGEST_TICK for note in notes)


def reading_or_verdict(data: bytes) -> Reading | BadMidi:
    try:
        return read_score(data)
    except BadMidi as error:
        return error


def test_system_exclusive_packets_and_escapes_are_skipped_whole() -> None:
    packets = b"\x00\xf0\x03\x43\x12\x00" + b"\x0a\xf7\x03\x44\x45\xf7"
    escape = b"\x00\xf7\x06\x90\x30\x40\x0a\x30\x00"
    expected = [240 * step for step in range(16)]
    assert onsets(file_of([scale(8) + packets + scale(8) + END_OF_TRACK])) == expected[:8] + [
        10 + onset for onset in expected[8:]
    ]
    assert onsets(file_of([scale(8) + escape + scale(8) + END_OF_TRACK])) == expected


def test_a_status_goes_on_running_behind_other_events() -> None:
    between = [meta(0, 1, b"text"), b"\x00\xf0\x02\x43\xf7", b"\x00\xf8"]
    for other in between:
        track = event(0, 0x90, 60, 80) + other + event(10, 60, 0) + END_OF_TRACK
        assert onsets(file_of([track])) == [0]


def test_a_note_has_the_program_that_any_track_has_set_last() -> None:
    setup = event(0, 0xC0, 40) + event(0, 0xC1, 32) + event(960, 0xC1, 33) + END_OF_TRACK
    reading = read_score(file_of([setup, scale(4) + END_OF_TRACK, scale(8, channel=1) + END_OF_TRACK]))
    played = {track.program: [note.time for note in track.notes] for track in reading.score.tracks}
    assert played == {40: [0, 240, 480, 720], 32: [0, 240, 480, 720], 33: [960, 1200, 1440, 1680]}
    assert reading.repairs == ("Programs that another track sets were applied.",)


def test_every_port_has_channels_of_its_own() -> None:
    def track(port: int, *events: bytes) -> bytes:
        return meta(0, 0x21, bytes([port])) + b"".join(events) + END_OF_TRACK

    reading = read_score(
        file_of([track(0, event(0, 0xC0, 40), scale(4)), track(1, event(0, 0xC0, 50), scale(4)), track(1, scale(4))])
    )
    assert [one.program for one in reading.score.tracks] == [40, 50, 50]


def test_tempos_and_time_signatures_that_cannot_be_are_left_out() -> None:
    wrong = (
        tempo(0, 0) + meta(0, 0x51, b"\x01") + meta(0, 0x58, b"\x00\x02\x18\x08") + meta(0, 0x58, b"\x04\xc8\x18\x08")
    )
    reading = read_score(file_of([tempo(0, 400_000) + wrong + scale(20) + END_OF_TRACK]))
    assert [one.mspq for one in reading.score.tempos] == [400_000]
    assert len(reading.score.time_signatures) == 0
    assert reading.repairs == (
        "Tempos of zero or without a value were left out.",
        "Time signatures that cannot be were left out.",
    )


def test_the_last_of_many_tempos_at_one_tick_counts() -> None:
    tempos = b"".join(tempo(0, 300_000 + number) for number in range(100))
    data = file_of([tempos + END_OF_TRACK, scale(8) + END_OF_TRACK])
    assert heard_in(read_score(data).score).tempos == {0: 300_099}


def test_ticks_are_counted_without_overflow() -> None:
    gap = b"".join(meta(0x0FFFFFFF, 6, b"x") for _ in range(20))
    with pytest.raises(BadMidi, match="too long: A note lies behind tick"):
        read_score(file_of([scale(20) + gap + scale(20) + END_OF_TRACK]))
    assert onsets(file_of([scale(20) + gap + END_OF_TRACK])) == [240 * step for step in range(20)]


def test_a_long_wait_of_many_skipped_events_is_kept() -> None:
    wait = b"".join(number(0x0FFFFFFF) + b"\xf0\x01\xf7" for _ in range(3))
    assert onsets(file_of([scale(1) + wait + scale(1) + END_OF_TRACK], division=32_000)) == [0, 240 + 3 * 0x0FFFFFFF]


def test_what_lies_behind_the_last_note_changes_nothing(tmp_path) -> None:
    behind = meta(0, 6, b"end") + tempo(0, 1) + meta(1, 0x58, b"\x05\x03\x18\x08") + meta(99, 5, b"la")
    plain, longer = tmp_path / "plain.mid", tmp_path / "longer.mid"
    plain.write_bytes(file_of([scale(20) + END_OF_TRACK]))
    longer.write_bytes(file_of([scale(20) + behind + END_OF_TRACK]))
    rows = [examine(file) for file in (plain, longer)]
    for row in rows:
        row["md5"], row["fingerprint"] = "", row["fingerprint"].tolist()
    assert rows[0] == rows[1]
    first, second = (encode(read_score(file.read_bytes()).score) for file in (plain, longer))
    assert np.array_equal(first, second)


def test_patterns_of_format_2_are_no_piece_but_a_single_one_is() -> None:
    one = tempo(0, 250_000) + scale(8) + END_OF_TRACK
    with pytest.raises(BadMidi, match="independent patterns: The file is of format 2 and holds 2 patterns"):
        read_score(file_of([one, one], form=2))
    reading = read_score(file_of([tempo(0, 900_000) + END_OF_TRACK, one], form=2))
    assert [tempo.mspq for tempo in reading.score.tempos] == [250_000]
    assert heard_in(read_score(file_of([one], form=2)).score) == heard_in(read_score(file_of([one])).score)


@pytest.mark.parametrize(
    ("data", "notes", "repair"),
    [
        (header(1, extra=b"more") + chunk(b"MTrk", scale(8) + END_OF_TRACK), 8, ""),
        (header(1, form=7) + chunk(b"MTrk", scale(8) + END_OF_TRACK), 8, "There is no format 7"),
        (header(1) + chunk(b"XFIH", b"data") + chunk(b"MTrk", scale(8) + END_OF_TRACK), 8, ""),
        (header(1) + chunk(b"MTrk", scale(8) + END_OF_TRACK) + bytes(100), 8, "Bytes behind the last track"),
        (header(1) + 2 * chunk(b"MTrk", scale(8) + END_OF_TRACK), 16, "promises 1 tracks, and the file has 2"),
        (header(50_000) + chunk(b"MTrk", scale(8) + END_OF_TRACK), 8, "promises 50000 tracks, and the file has 1"),
        (header(1) + chunk(b"MTrk", scale(8) + END_OF_TRACK + scale(2)), 8, "behind the end of a track"),
        (header(1) + chunk(b"MTrk", scale(8) + b"\x00\xf4" + scale(2)), 10, "System messages"),
        (header(1) + chunk(b"MTrk", b"\x80" * 6 + scale(8)), 8, "more than four bytes"),
        (header(1) + chunk(b"MTrk", scale(8, velocity=200) + END_OF_TRACK), 8, "over 127 were clamped"),
    ],
)
def test_what_can_be_put_right_is_put_right_and_told(data: bytes, notes: int, repair: str) -> None:
    reading = read_score(data)
    assert len(onsets(data)) == notes
    assert [repair in sentence for sentence in reading.repairs] == ([True] if repair else [])


@pytest.mark.parametrize("length", [0, 1, 10, 100_000, 2**32 - 1])
def test_tracks_of_a_wrong_length_are_read_to_their_end(length: int) -> None:
    track = scale(30) + END_OF_TRACK
    for data in (
        header(2) + b"MTrk" + struct.pack(">I", length) + track + chunk(b"MTrk", track),
        header(2) + chunk(b"MTrk", track) + b"MTrk" + struct.pack(">I", length) + track,
    ):
        assert len(onsets(data)) == 60


def test_a_file_that_breaks_off_is_read_up_to_there_if_most_of_it_is_left() -> None:
    data = file_of([scale(50) + END_OF_TRACK, scale(50) + END_OF_TRACK])
    whole = onsets(data)
    for size in range(14, len(data) - 1):
        reading = reading_or_verdict(data[:size])
        if isinstance(reading, BadMidi):
            assert reading.verdict == "truncated"
            assert size < 0.6 * len(data)
        else:
            assert size > 0.4 * len(data)
            assert not Counter(onsets(data[:size])) - Counter(whole)
            assert any("missing" in sentence or "promises" in sentence for sentence in reading.repairs)


def test_garbage_in_one_track_costs_that_track_alone() -> None:
    tracks = [scale(50) + END_OF_TRACK, b"\x00\x40\x40" + scale(10) + END_OF_TRACK, scale(50) + END_OF_TRACK]
    reading = read_score(file_of(tracks))
    assert len(reading.score.tracks) == 2
    assert reading.repairs[0].startswith("Track 2 breaks off at byte")


def test_what_is_written_again_keeps_what_a_score_has_beside_notes() -> None:
    track = meta(0, 3, b"Flute") + event(0, 0xB0, 64, 127) + scale(2) + meta(0, 5, b"la") + event(0, 0xE0, 1, 65)
    data = file_of([meta(0, 0x59, b"\xfd\x00") + meta(0, 6, b"A") + track + scale(2) + END_OF_TRACK])
    cleaned, repairs = smf.clean(data)
    assert repairs == ()
    assert ScoreTick.from_midi(cleaned) == ScoreTick.from_midi(data)
    first, again = (mido.MidiFile(file=io.BytesIO(one)).tracks[0] for one in (data, cleaned))
    assert [str(message) for message in first] == [str(message) for message in again]
