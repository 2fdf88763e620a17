"""What is asked for is what comes, whatever the network thinks of it."""

import io
import itertools
import json
import os
import random
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mido.midifiles.meta import KeySignatureError
from numpy.typing import NDArray

from music_assets.foundation.keys import parse_key
from music_assets.foundation.midi.editing import MidiEditor
from music_assets.foundation.midi.programs import DRUMS, find_programs
from music_assets.foundation.midi.reading import read_score
from music_assets.foundation.midi.writing import write_midi
from music_assets.foundation.settings import InvalidSettings
from music_assets.generation import engine
from music_assets.generation.generate import generate, stream
from music_assets.generation.request import Request, make_request
from music_assets.generation.samples import write_candidate
from music_assets.generation.source import SourceFile
from music_assets.generation.task import BadRequest
from music_assets.tokens.grid import bar_lines
from music_assets.tokens.memory import CONTEXTS, KEY, NO_CANDIDATE, Memory
from music_assets.tokens.remi import encode, notes
from music_assets.tokens.vocabulary import RANGES, UnknownGenre
from music_assets_tests.foundation.midi.mido_reading import heard_by_mido
from music_assets_tests.generation.checkpoints import PROGRAMS, untrained
from music_assets_tests.midi_files import make_tune

INSTRUMENTS = ["piano", "bass", "Violin", "drums", "33", "nylon"]
ARCHITECTURES = ["gpt", "lstm", "gru"]


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("songs") / "song.mid"
    write_midi(make_tune(style="band", seed=5, bars=12), path)
    return path


def beside(path, start, end, program=None):
    """Notes of a file but those that begin in [start, end) ticks, of one program or of all."""
    found = heard_by_mido(path.read_bytes() if hasattr(path, "read_bytes") else path).notes
    return Counter({n: c for n, c in found.items() if not (start <= n[0] < end and program in (None, n[4]))})


def begun(data, before):
    """Notes that begin before a tick, whether or not anything ends them."""
    found = Counter()
    for track in mido.MidiFile(file=io.BytesIO(data), clip=True).tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "note_on" and message.velocity and tick < before:
                found[tick, message.channel, message.note, message.velocity] += 1
    return found


wishes = st.fixed_dictionaries(
    {},
    optional={
        "genre": st.sampled_from(["reel", "jig"]),
        "bars": st.integers(1, 6),
        "instruments": st.lists(st.sampled_from(INSTRUMENTS), min_size=1, max_size=4, unique=True),
        "tempo": st.sampled_from([30, 97, 120, 133.7, 480]),
        "time_signature": st.sampled_from(["4/4", "3/4", "6/8", "7/8", "1/8"]),
        "key": st.sampled_from(["C minor", "F# pentatonic", "Bb", "A blues"]),
        "density": st.sampled_from([1, 5, 20]),
        "temperature": st.sampled_from([0.7, 1.0, 1.3]),
        "top_p": st.sampled_from([0.9, 1.0]),
        "top_k": st.sampled_from([0, 40]),
        "min_p": st.sampled_from([0, 0.02]),
        "repetition_penalty": st.sampled_from([1, 2]),
        "guidance": st.sampled_from([1, 2, 0]),
        "seed": st.integers(0, 5),
    },
)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(wishes)
def test_every_hard_wish_is_kept(asked):
    if asked.get("instruments") == ["drums"]:
        asked.pop("key", None)
    for one in generate(untrained(), max_bars=3, count=2, **asked):
        made, score = notes(one.ids), read_score(one.midi).score
        assert np.array_equal(encode(score), one.ids)
        assert len(made.bar_starts) == asked.get("bars", len(made.bar_starts)) <= 6
        assert set(made.program.tolist()) <= set(PROGRAMS)
        for name in asked.get("instruments", []):
            assert set(made.program.tolist()) & find_programs(name)
        if "instruments" in asked:
            assert set(made.program.tolist()) <= frozenset().union(*map(find_programs, asked["instruments"]))
        if "tempo" in asked:
            assert [round(tempo.qpm, 2) for tempo in score.tempos] == [asked["tempo"]]
        if "time_signature" in asked:
            assert {f"{s.numerator}/{s.denominator}" for s in score.time_signatures} == {asked["time_signature"]}
        if "key" in asked:
            pitched = made.pitch[made.program != DRUMS]
            assert set((pitched % 12).tolist()) <= parse_key(asked["key"]).pitch_classes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_writes_whole_documents_over_many_windows(architecture):
    for one in generate(untrained(architecture), genre="jig", bars=8, count=5, seed=3):
        assert np.array_equal(encode(read_score(one.midi).score), one.ids)
        assert len(notes(one.ids).bar_starts) == 8
        assert one.ended == "length"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_candidate_is_the_same_among_any_others(architecture, guidance):
    asked = {"bars": 4, "seed": 7, "guidance": guidance}
    alone, many = (generate(untrained(architecture), count=count, **asked) for count in (1, 9))
    assert alone[0].ids.tolist() == many[0].ids.tolist()
    assert len({one.ids.tobytes() for one in many}) == 9


def test_another_seed_or_another_request_begins_otherwise():
    def first(**asked):
        return generate(untrained(), count=1, bars=2, **asked)[0].ids[:40].tolist()

    assert first(seed=1, genre="reel") == first(seed=1, genre="reel")
    assert len({str(first(**asked)) for asked in ({"seed": 1}, {"seed": 2}, {"seed": 1, "top_p": 0.97})}) == 3


def test_pitches_are_foretold_as_often_as_they_are_not_forgotten(monkeypatch):
    class Seen(Memory):
        def latest(self, rows):
            ids, candidates = super().latest(rows)
            seen.append((ids, candidates))
            return ids, candidates

    monkeypatch.setattr(engine, "Memory", Seen)
    told = []
    for forgetting in (0, 0.5, 1):
        seen: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        generate(untrained(context=512), genre="reel", bars=8, count=4, forgetting=forgetting)
        ids, candidates = map(np.concatenate, zip(*seen, strict=True))
        before_pitches, known = np.isin(ids, RANGES["Program"]), candidates != NO_CANDIDATE
        assert before_pitches.sum() > 200
        assert known[~before_pitches, :CONTEXTS].any(axis=1).mean() > 0.2
        told.append((known[before_pitches, :CONTEXTS].any(axis=1).mean(), known[before_pitches, KEY].mean()))
    contexts, key = np.transpose(told)
    assert contexts[0] > 0.2
    assert contexts[1] == pytest.approx(contexts[0] / 2, abs=0.05)
    assert contexts[2] == 0
    assert key.min() > 0.05


def test_notes_to_begin_with_and_a_length_in_notes():
    for one in generate(untrained(), notes=[60, 62, 64], length=40, count=3, instruments=["drums", "violin"], tempo=90):
        made = notes(one.ids)
        assert len(made) == 40
        assert made.pitch[:3].tolist() == [60, 62, 64]
        assert made.onset[:3].tolist() == [0, 1, 2]
        assert set(made.program.tolist()) == {40, DRUMS}
        assert len(read_score(one.midi).score.tempos) == 1


def test_a_file_goes_on_and_keeps_its_notes(song):
    score = read_score(song.read_bytes()).score
    end = int(bar_lines(score, 12)[-1])
    for asked in ({}, {"instruments": ["flute"], "key": "D"}, {"tempo": 77, "time_signature": "3/4"}):
        for one in generate(untrained(), continue_file=song, bars=3, count=2, **asked):
            assert beside(one.midi, end, 10**9) == beside(song, end, 10**9)
            new = heard_by_mido(one.midi).notes - heard_by_mido(song.read_bytes()).notes
            assert sum(new.values()) == one.note_count > 0
            assert min(note[0] for note in new) >= end
            if "instruments" in asked:
                assert {note[4] for note in new} == {73}
                assert {note[2] % 12 for note in new} <= parse_key("D").pitch_classes
            else:
                assert {note[4] for note in new} <= {note[4] for note in heard_by_mido(song.read_bytes()).notes}
            if "tempo" in asked:
                assert heard_by_mido(one.midi).tempos[end] == round(60_000_000 / 77)
                assert heard_by_mido(one.midi).time_signatures[end] == (3, 4)


def test_a_file_goes_on_from_a_bar(song):
    start = int(bar_lines(read_score(song.read_bytes()).score, 4)[-1])
    one = generate(untrained(), continue_file=song, from_bar=5, bars=2, count=1)[0]
    assert beside(one.midi, start, 10**9) == beside(song, start, 10**9)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (3, 4), (11, 12), (2, 9)])
def test_filled_bars_leave_the_rest_alone(song, first, last):
    lines = bar_lines(read_score(song.read_bytes()).score, 12)
    start, end = int(lines[first - 1]), int(lines[last])
    programs = {note[4] for note in heard_by_mido(song.read_bytes()).notes}
    for instrument in (None, "drums", "Violin"):
        program = None if instrument is None else min(find_programs(instrument))
        asked = {"fill_file": song, "from_bar": first, "to_bar": last, "instrument": instrument}
        for one in generate(untrained(), count=2, **asked):
            kept = beside(song, start, end, program)
            assert not kept - heard_by_mido(one.midi).notes
            new = heard_by_mido(one.midi).notes - kept
            assert one.note_count >= sum(new.values()) > 0
            assert all(start <= note[0] and note[1] <= max(end, note[0] + 1) for note in new)
            assert {note[4] for note in new} <= (programs if program is None else {program})


def test_bars_come_one_by_one_and_the_writing_can_be_stopped(song):
    seen = []
    for bar in stream(untrained(), make_request(fill_file=song, from_bar=2, to_bar=7, count=2)):
        seen.append((bar.candidate, bar.number))
        assert len(bar.notes.bar_starts) == 1
        if bar.candidate == 0 and bar.number == 4:
            break
    assert [number for candidate, number in seen if candidate == 0] == [2, 3, 4]

    def stop(bars, finished):
        if bars == 3:
            raise StopIteration

    request = make_request(bars=20, count=1)
    (one,) = generate(untrained(), request, stop)
    drawn = list(itertools.islice(stream(untrained(), request), 3))
    assert (one.note_count, one.ended) == (sum(len(bar.notes) for bar in drawn), "stopped")
    (one,) = generate(untrained(), make_request(fill_file=song, from_bar=2, to_bar=7, count=1), stop)
    lines = bar_lines(read_score(song.read_bytes()).score, 12)
    assert not beside(song, int(lines[1]), int(lines[4])) - heard_by_mido(one.midi).notes


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"bars": 4, "length": 9}, "exclude each other"),
        ({"key": "H dur"}, "is no key"),
        ({"instruments": ["kazoo"]}, "no instrument is called 'kazoo'"),
        ({"time_signature": "13/4"}, "no such time signature"),
        ({"tempo": 10}, "tempo cannot be 10"),
        ({"fill_file": "x.mid"}, "Say which bars"),
        ({"fill_file": "x.mid", "from_bar": 3, "tempo": 100}, "keeps the file's tempo"),
        ({"fill_file": "x.mid", "from_bar": 3, "to_bar": 2}, "to_bar comes before"),
        ({"fill_file": "x.mid", "continue_file": "x.mid", "from_bar": 3}, "Either a file"),
        ({"to_bar": 3}, "of no use without a file"),
        ({"notes": [61], "key": "C"}, "61 to begin with is not in C"),
        ({"instruments": ["drums"], "key": "C"}, "Drums have no key"),
        ({"length": 1, "instruments": ["piano", "bass"]}, "too few"),
        ({"guidance_at_end": 1.0}, "where the end is"),
        ({"notes": [60, 200]}, "0 to 127"),
    ],
)
def test_what_cannot_be_is_one_sentence(asked, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        make_request(**asked)


def test_what_this_checkpoint_or_file_cannot_do_is_said_before_anything_is_drawn(song, tmp_path):
    def refused(sentence, error: type[Exception] = BadRequest, **asked):
        with pytest.raises(error, match=sentence):
            next(stream(untrained(), make_request(**asked)))

    refused("polka", UnknownGenre, genre="polka")
    refused("never heard sitar: choose among Acoustic Grand Piano", instruments=["sitar"])
    deaf = untrained()
    deaf = replace(deaf, facts=deaf.facts.model_copy(update={"training": {"control_share": 0}}))
    with pytest.raises(BadRequest, match="knows no density"):
        next(stream(deaf, make_request(density=3)))
    with pytest.raises(BadRequest, match="no memory and cannot forget"):
        next(stream(untrained(memory=False), make_request(forgetting=0.5)))
    refused("There is no file", continue_file=tmp_path / "none.mid")
    refused("has 12 bars: fill bars from 1 to 12", fill_file=song, from_bar=12, to_bar=13)
    refused("continue it from bar 2 to 13", continue_file=song, from_bar=14)
    broken = tmp_path / "broken.mid"
    broken.write_bytes(b"<html>")
    refused("broken.mid cannot be read", continue_file=broken)
    silent = tmp_path / "silent.mid"
    mido.MidiFile().save(silent)
    refused("silent.mid", continue_file=silent)
    refused("The notes to begin with fill 2 bars", notes=[60] * 5, bars=1)
    two_basses = make_tune(style="band", seed=5, bars=4)
    for track, program in zip(two_basses.tracks, (32, 33), strict=False):
        track.program, track.is_drum = program, False
    write_midi(two_basses, tmp_path / "two.mid")
    refused("several instruments that are called bass", fill_file=tmp_path / "two.mid", from_bar=1, instrument="bass")


def test_a_candidate_is_written_with_what_made_it(tmp_path):
    request = make_request(genre="reel", bars=2, seed=4, count=2, instruments=["piano", "drums"], key="C minor")
    (_, second) = generate(untrained(), request)
    write_candidate(second, request, untrained(), tmp_path / "reel-1")
    made = json.loads((tmp_path / "reel-1.json").read_text())
    assert made["command"] == (
        "music-assets generate --instruments piano,drums --bars 2 --key 'C minor' --count 2 --seed 4 --genre reel "
        "--architecture gpt"
    )
    again = generate(untrained(), Request.model_validate(made["request"]))[made["candidate"]]
    assert again.ids.tolist() == made["ids"]
    assert again.midi == (tmp_path / "reel-1.mid").read_bytes()
    assert mido.MidiFile(file=io.BytesIO(again.midi)).tracks
    assert (tmp_path / "reel-1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
@pytest.mark.timeout(3000)
def test_real_files_go_on_and_are_filled_and_keep_what_lies_outside(tmp_path):
    done = 0
    with tarfile.open(Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "midi.tar.xz") as archive:
        for member in random.Random(1).sample([member for member in archive if member.isfile()], 550):
            file = archive.extractfile(member)
            assert file is not None
            path = tmp_path / "song.mid"
            path.write_bytes(file.read())
            try:
                heard = heard_by_mido(path.read_bytes()).notes
                bars = SourceFile(str(path)).bars
            except (BadRequest, OSError, EOFError, ValueError, LookupError, KeySignatureError):
                continue  # what we or mido refuse
            if MidiEditor(path.read_bytes()).to_bytes() != path.read_bytes():
                continue  # mended first: mido reads the damaged one otherwise
            lines = bar_lines(read_score(path.read_bytes()).score, bars)
            for first, last in ((bars, None), (bars // 2, bars // 2 + min(2, bars) - 1)):
                if last is None:
                    (one,) = generate(untrained(), continue_file=path, bars=2, count=1)
                    start, end = int(lines[-1]), 10**9
                else:
                    first = max(first, 1)
                    last = min(max(last, first), bars)
                    (one,) = generate(untrained(), fill_file=path, from_bar=first, to_bar=last, count=1)
                    start, end = int(lines[first - 1]), int(lines[last])
                after = heard_by_mido(one.midi).notes
                assert not beside(path, start, end) - after, member.name
                assert begun(one.midi, start) == begun(path.read_bytes(), start), member.name
                new = after - heard
                if last is None:  # where it goes on, notes end that nothing has ended
                    new = Counter({note: count for note, count in new.items() if not note[0] < start == note[1]})
                assert all(start <= note[0] < end for note in new), member.name
            done += 1
    assert done > 450
