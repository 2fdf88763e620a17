"""Edited files as mido reads them: what lies outside an edit is as it was."""

import io
import os
import random
import tarfile
from collections import Counter
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mido.midifiles.meta import KeySignatureError

from music_assets.foundation.midi.editing import MidiEditor, Note
from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import read_score
from music_assets.foundation.midi.writing import midi_bytes
from music_assets_tests.foundation.midi.event_streams import smf
from music_assets_tests.foundation.midi.mido_reading import DRUMS, heard_by_mido
from music_assets_tests.midi_files import STYLES, make_tune

LENGTH = 400
notes = st.builds(
    lambda onset, length, pitch, velocity, program: Note(onset, onset + length, pitch, velocity, program),
    st.integers(0, LENGTH), st.integers(1, 60), st.integers(58, 62), st.integers(1, 127),
    st.sampled_from([0, 5, DRUMS]),
)  # fmt: skip


def random_file(seed: int, form: int) -> bytes:
    """Tracks that play together on a few channels, with all that files hold beside notes."""
    chance = random.Random(seed)
    file = mido.MidiFile(type=form, ticks_per_beat=96)
    for _ in range(1 if form == 0 else chance.randint(1, 4)):
        track, sounding = mido.MidiTrack(), set()
        file.tracks.append(track)
        for _ in range(chance.randint(0, 40)):
            channel, pitch, time = chance.choice([0, 1, 9]), chance.randint(58, 62), chance.choice([0, 0, 7, 40])
            kind = chance.randrange(9)
            if kind < 4 and (channel, pitch) not in sounding:
                sounding.add((channel, pitch))
                track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=50, time=time))
            elif kind < 6 and sounding:
                channel, pitch = chance.choice(sorted(sounding))
                sounding.remove((channel, pitch))
                velocity_zero = chance.random() < 0.5
                name = "note_on" if velocity_zero else "note_off"
                track.append(mido.Message(name, channel=channel, note=pitch, velocity=0, time=time))
            elif kind == 6:
                track.append(mido.Message("program_change", channel=channel, program=chance.choice([0, 5]), time=time))
            elif kind == 7:
                track.append(mido.Message("control_change", channel=channel, control=64, value=100, time=time))
            else:
                track.append(chance.choice([
                    mido.MetaMessage("lyrics", text="la", time=time),
                    mido.MetaMessage("set_tempo", tempo=400_000, time=time),
                    mido.MetaMessage("time_signature", numerator=3, denominator=4, time=time),
                    mido.Message("sysex", data=(1, 2, 3), time=time),
                    mido.Message("pitchwheel", channel=channel, pitch=99, time=time),
                ]))  # fmt: skip
        for channel, pitch in sorted(sounding):
            track.append(mido.Message("note_off", channel=channel, note=pitch, time=11))
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def others(data: bytes, until: float = float("inf")) -> list[Counter]:
    """What each track holds beside notes before a tick, by tick and in words."""
    found = []
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks:
        tick, events = 0, Counter()
        for message in track:
            tick += message.time
            if message.type not in ("note_on", "note_off", "end_of_track") and tick < until:
                events[tick, str(message.copy(time=0))] += 1
        found.append(events)
    return found


def heard(data: bytes) -> Counter:
    return heard_by_mido(data).notes


files = st.tuples(st.integers(0, 10**6), st.sampled_from([0, 1]))


@settings(deadline=None, max_examples=300)
@given(files)
def test_a_file_that_nothing_happens_to_keeps_its_bytes(file):
    data = random_file(*file)
    editor = MidiEditor(data)
    editor.remove(50, 50)
    editor.add([])
    assert editor.to_bytes() == data


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(
    files, st.lists(notes, max_size=12), st.integers(0, LENGTH), st.integers(0, 200), st.sampled_from([None, 0, DRUMS])
)
def test_filled_bars_leave_the_rest_alone(file, added, start, length, program):
    data = random_file(*file)
    end = start + length
    editor = MidiEditor(data)
    editor.remove(start, end, program)
    editor.add(added)
    edited = editor.to_bytes()
    before, after = heard(data), heard(edited)
    kept = Counter({n: c for n, c in before.items() if not (start <= n[0] < end and program in (None, n[4]))})
    assert not kept - after  # every note outside is there, tick for tick
    new = after - kept
    wanted = Counter((n.onset, n.pitch, n.velocity, n.program) for n in added)
    assert {(n[0], n[2], n[3], n[4]) for n in new} <= set(wanted)
    assert all(any(n[1] <= a.end for a in added if (a.onset, a.pitch) == (n[0], n[2])) for n in new)
    old, now = others(data), others(edited)
    for track, events in enumerate(old):
        extra = now[track] - events
        assert not events - now[track]
        assert all("program_change" in message and tick == 0 for tick, message in extra)
    read_score(edited)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(files, st.integers(0, LENGTH))
def test_what_begins_before_a_cut_is_kept(file, at):
    data = random_file(*file)
    editor = MidiEditor(data)
    editor.cut(at)
    editor.set_tempo(at, 150)
    editor.set_time_signature(at, 6, 8)
    edited = editor.to_bytes()
    assert heard(edited) == Counter({note: count for note, count in heard(data).items() if note[0] < at})
    assert others(edited, at) == others(data, at)
    now = heard_by_mido(edited)
    assert now.tempos.get(at, 400_000) == 400_000
    held = {}
    for track in mido.MidiFile(file=io.BytesIO(edited)).tracks:
        for message in track:
            if message.type in ("control_change", "pitchwheel"):
                held[id(track), message.channel, message.type] = message
    assert all((m.value if m.type == "control_change" else m.pitch) == 0 for m in held.values())


def test_new_notes_go_where_their_instrument_plays():
    data = midi_bytes(make_tune(style="band", seed=1, bars=4))
    before = mido.MidiFile(file=io.BytesIO(data))
    heard_programs = {note[4] for note in heard(data)}
    program = min(heard_programs)
    editor = MidiEditor(data)
    end = max(note[1] for note in heard(data))
    editor.add([Note(end + 10, end + 20, 60, 90, program), Note(end + 10, end + 20, 60, 90, DRUMS)])
    assert len(mido.MidiFile(file=io.BytesIO(editor.to_bytes())).tracks) == len(before.tracks)
    unheard = next(p for p in range(128) if p not in heard_programs)
    editor.add([Note(end + 10, end + 20, 60, 90, unheard)])
    edited = editor.to_bytes()
    assert len(mido.MidiFile(file=io.BytesIO(edited)).tracks) == len(before.tracks) + 1
    assert heard(edited) - heard(data) == Counter(
        {(end + 10, end + 20, 60, 90, p): 1 for p in (program, unheard, DRUMS)}
    )


def test_a_note_where_its_key_sounds_takes_another_channel():
    data = random_file(0, 1)
    file = smf([bytes([0, 0x90, 60, 80, 100, 0x80, 60, 0, 0, 0xFF, 0x2F, 0])])
    editor = MidiEditor(file)
    editor.add([Note(50, 70, 60, 90, 0), Note(120, 140, 60, 90, 0)])
    assert heard(editor.to_bytes()) == Counter(
        {(0, 100, 60, 80, 0): 1, (50, 70, 60, 90, 0): 1, (120, 140, 60, 90, 0): 1}
    )
    assert data


def test_a_note_that_nothing_ends_ends_at_the_cut():
    """Else the end of the first new note on its key is its end, and the new one never ends."""
    sounding = [0, 0x90, 60, 80, 10, 0x90, 60, 80, 10, 0x90, 64, 80, 40, 0x80, 60, 0]
    editor = MidiEditor(smf([bytes([*sounding, 40, 0xFF, 0x2F, 0])]))
    editor.cut(40)
    editor.add([Note(40, 50, 64, 90, 0), Note(70, 80, 60, 90, 0)])
    kept = {(0, 60, 60, 80, 0): 1, (10, 60, 60, 80, 0): 1, (20, 40, 64, 80, 0): 1}
    assert heard(editor.to_bytes()) == Counter(kept | {(40, 50, 64, 90, 0): 1, (70, 80, 60, 90, 0): 1})


def test_running_status_goes_on_behind_a_meta_event():
    text = bytes([10, 0xFF, 1, 2, 37, 43])
    file = smf([bytes([0, 0x90, 60, 80]) + text + bytes([90, 60, 0, 10, 64, 80, 20, 64, 0, 0, 0xFF, 0x2F, 0])])
    editor = MidiEditor(file)
    assert editor.to_bytes() == file
    editor.cut(50)
    assert heard(editor.to_bytes()) == Counter({(0, 100, 60, 80, 0): 1})
    assert others(editor.to_bytes()) == others(file)


def test_what_is_no_music_is_refused():
    for data in (b"", b"<html>", smf([])[:10]):
        with pytest.raises(BadMidi):
            MidiEditor(data)


def test_a_damaged_file_is_mended_first():
    whole = midi_bytes(make_tune(style=STYLES[0], seed=0, bars=16))
    editor = MidiEditor(whole[: len(whole) * 3 // 4])
    editor.cut(100)
    assert max(note[0] for note in heard(editor.to_bytes())) < 100


@pytest.mark.slow
@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_real_files_keep_what_lies_outside():
    edited_files = 0
    with tarfile.open(Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "midi.tar.xz") as archive:
        members = [member for member in archive if member.isfile()]
        for member in random.Random(0).sample(members, 500):
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            try:
                before = heard(data)
                editor = MidiEditor(data)
            except (BadMidi, OSError, EOFError, ValueError, LookupError, KeySignatureError):  # what either refuses
                continue
            if editor.to_bytes() != data:  # mended first: mido reads the damaged one otherwise
                continue
            last = max(note[0] for note in before)
            start, end = last // 3, last // 2
            editor.remove(start, end)
            edited = editor.to_bytes()
            assert heard(edited) == Counter({n: c for n, c in before.items() if not start <= n[0] < end}), member.name
            assert others(edited) == others(data), member.name
            edited_files += 1
    assert edited_files > 400
