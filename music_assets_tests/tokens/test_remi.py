import os
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import assume, given, settings
from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from music_assets.foundation.midi.reading import load_score, read_score
from music_assets.foundation.midi.writing import midi_bytes, write_midi
from music_assets.tokens import remi
from music_assets.tokens.remi import TooLong
from music_assets.tokens.vocabulary import VELOCITIES, Vocabulary
from music_assets_tests.midi_files import STYLES, make_tune, write_tune
from music_assets_tests.tokens.scores import corpus_scores, miditok_ids, miditok_remi, plausible_ids, scores


def score_of(*notes: tuple[int, int, int, int], program: int = 0, tpq: int = 12) -> ScoreTick:
    score = ScoreTick(tpq)
    track = TrackTick("", program, False)
    for note in notes:
        track.notes.append(NoteTick(*note))
    score.tracks.append(track)
    return score


def names(ids: np.ndarray) -> list[str]:
    return [Vocabulary().name(int(token)) for token in ids]


def content(score: ScoreTick) -> tuple[Counter, list, list]:
    """Notes by program, tempos and time signatures, whatever the order of tracks."""
    notes = Counter(
        (128 if track.is_drum else track.program, note.time, note.duration, note.pitch, note.velocity)
        for track in score.tracks
        for note in track.notes
    )
    tempos = [(tempo.time, round(tempo.qpm, 1)) for tempo in score.tempos]
    return notes, tempos, [(sig.time, sig.numerator, sig.denominator) for sig in score.time_signatures]


def test_one_bar_reads_as_documented() -> None:
    score = score_of((0, 12, 60, 64), (12, 24, 64, 64))
    score.time_signatures.append(TimeSignatureTick(0, 3, 4))
    assert names(remi.encode(score)) == [
        *("Bar_None", "TimeSig_3/4", "Position_0", "Tempo_120.0"),
        *("Program_0", "Pitch_60", "Velocity_63", "Duration_1.0.12"),
        *("Position_12", "Program_0", "Pitch_64", "Velocity_63", "Duration_2.0.12"),
    ]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(scores())
def test_ids_are_miditoks(score: ScoreTick) -> None:
    np.testing.assert_array_equal(remi.encode(score), miditok_ids(score))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(scores())
def test_encoding_is_canonical_also_through_a_midi_file(score: ScoreTick) -> None:
    ids = remi.encode(score)
    decoded = remi.decode(ids)
    np.testing.assert_array_equal(remi.encode(decoded), ids)
    np.testing.assert_array_equal(remi.encode(read_score(midi_bytes(decoded)).score), ids)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(scores())
def test_decoding_is_miditoks(score: ScoreTick) -> None:
    ids = remi.encode(score)
    assume(len(ids))
    assert content(remi.decode(ids)) == content(miditok_remi().decode(ids.tolist()))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(plausible_ids())
def test_any_ids_decode_and_become_canonical(ids: np.ndarray) -> None:
    document = remi.canonical(ids)
    np.testing.assert_array_equal(remi.canonical(document), document)
    # Only notes with equal onset, program and pitch are lost.
    heard, kept = remi.notes(ids), remi.notes(document)
    assert {(o, p, k) for o, p, k in zip(heard.onset, heard.program, heard.pitch, strict=True)} == {
        (o, p, k) for o, p, k in zip(kept.onset, kept.program, kept.pitch, strict=True)
    }


def test_of_equal_notes_the_shortest_and_then_the_softest_stays() -> None:
    score = score_of((0, 12, 60, 64), (0, 6, 60, 100), (0, 6, 60, 40))
    score.tracks.append(score_of((0, 3, 60, 64), program=1).tracks[0])
    heard = remi.notes(remi.encode(score))
    np.testing.assert_array_equal(heard.program, [0, 1])
    np.testing.assert_array_equal(heard.duration, [0.5, 0.25])
    assert heard.velocity[0] == VELOCITIES[np.abs(VELOCITIES - 40).argmin()]


def test_what_follows_the_last_note_is_dropped() -> None:
    score = score_of((0, 12, 60, 64))
    expected = remi.encode(score)
    score.tempos.append(TempoTick(480, 90))
    score.time_signatures.append(TimeSignatureTick(960, 3, 4))
    np.testing.assert_array_equal(remi.encode(score), expected)


@pytest.mark.parametrize(
    ("signature", "written"), [((2, 2), "4/4"), ((3, 2), "6/4"), ((12, 16), "3/4"), ((6, 8), "6/8")]
)
def test_a_time_signature_outside_the_vocabulary_keeps_its_bar_length(signature: tuple[int, int], written: str) -> None:
    score = score_of((0, 12, 60, 64))
    score.time_signatures.append(TimeSignatureTick(0, *signature))
    assert names(remi.encode(score))[1] == f"TimeSig_{written}"


def test_no_notes_give_no_ids() -> None:
    assert len(remi.encode(ScoreTick(480))) == 0
    heard = remi.notes(np.empty(0, np.uint16))
    assert (len(heard), heard.seconds, heard.tempo) == (0, 0.0, 120.0)
    assert remi.decode(np.empty(0, np.uint16)).note_num() == 0


def test_a_piece_that_is_too_long_is_refused() -> None:
    with pytest.raises(TooLong, match=r"1 notes in 1,000,001 bars .* the limit is 1,000,000"):
        remi.encode(score_of((48_000_000, 12, 60, 64)))


def test_notes_beats_bars_and_seconds() -> None:
    score = score_of((0, 12, 60, 64), (36, 24, 62, 64))
    score.time_signatures.append(TimeSignatureTick(0, 3, 4))
    score.tempos.append(TempoTick(0, 60))
    score.tempos.append(TempoTick(36, 120))
    heard = remi.notes(remi.encode(score))
    np.testing.assert_array_equal(heard.onset, [0, 3])
    np.testing.assert_array_equal(heard.duration, [1, 2])
    np.testing.assert_array_equal(heard.bar, [0, 1])
    np.testing.assert_array_equal(heard.bar_starts, [0, 3])
    np.testing.assert_array_equal(heard.bar_lengths, [3, 3])
    assert heard.seconds == pytest.approx(3 + 1)
    assert heard.tempo == 60


@pytest.mark.parametrize("style", STYLES)
def test_the_decoded_file_sounds_like_the_original(style: str, tmp_path: Path) -> None:
    original = write_tune(tmp_path / "tune.mid", style=style, seed=3)
    write_midi(remi.decode(remi.encode(load_score(original))), tmp_path / "again.mid")

    def heard(path: Path) -> list[tuple]:
        midi = pretty_midi.PrettyMIDI(str(path))
        return sorted(
            (round(note.start, 1), note.pitch, track.program, track.is_drum)
            for track in midi.instruments
            for note in track.notes
        )

    ours, theirs = heard(tmp_path / "again.mid"), heard(original)
    assert len(ours) == len(theirs)
    assert remi.notes(remi.encode(load_score(original))).seconds == pytest.approx(
        pretty_midi.PrettyMIDI(str(tmp_path / "again.mid")).get_end_time(), rel=1e-3
    )


def metre_at(score: ScoreTick, time: int) -> int:
    """Denominator of the time signature in which a time of a decoded score lies."""
    return next(sig.denominator for sig in reversed(list(score.time_signatures)) if sig.time <= time)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(scores())
def test_losses_are_those_that_a_loop_over_the_notes_finds(score: ScoreTick) -> None:
    # A pitch of its own for every note, so that each can be found again in the decoded score.
    exact = {}
    for track in score.tracks:
        for note in track.notes:
            note.pitch = len(exact)
            exact[note.pitch] = note.copy()
    assume(exact)
    encoding = remi.encode_measured(score)
    decoded = remi.decode(encoding.ids)
    found = {note.pitch: note for track in decoded.tracks for note in track.notes}
    assert found.keys() == exact.keys()
    onset_errors, duration_errors, clipped = [], [], 0
    for pitch, note in exact.items():
        onset_errors.append(abs(Fraction(found[pitch].time, 24) - Fraction(note.time, score.tpq)))
        duration_errors.append(abs(Fraction(found[pitch].duration, 24) - Fraction(note.duration, score.tpq)))
        clipped += Fraction(note.duration, score.tpq) > 12 * Fraction(4, metre_at(decoded, found[pitch].time))
    losses = encoding.loss
    assert losses.onset_error == pytest.approx(float(sum(onset_errors) / len(exact)))
    assert losses.duration_error == pytest.approx(float(sum(duration_errors) / len(exact)))
    assert losses.clipped == clipped
    errors = zip(onset_errors, duration_errors, strict=True)
    assert losses.displaced == sum(max(pair) > Fraction(1, 8) for pair in errors)
    assert max(onset_errors) <= Fraction(1, 16)
    assert losses.dropped == 0
    assert losses.clipped_tempos == sum(not 30 <= Fraction(60_000_000, tempo.mspq) <= 480 for tempo in score.tempos)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(scores())
def test_notes_are_kept_or_counted_as_dropped(score: ScoreTick) -> None:
    encoding = remi.encode_measured(score)
    assert encoding.notes == len(remi.notes(encoding.ids)) == remi.decode(encoding.ids).note_num()
    assert encoding.notes + encoding.loss.dropped == score.note_num()
    assert encoding.seconds == pytest.approx(remi.notes(encoding.ids).seconds)
    np.testing.assert_array_equal(remi.encode(score), encoding.ids)


def test_an_encoding_of_a_decoding_loses_nothing() -> None:
    for style in STYLES:
        again = remi.encode_measured(remi.decode(remi.encode(make_tune(style=style))))
        assert again.loss == remi.EncodingLoss()


def test_losses_of_one_bar() -> None:
    longest = 12 * 24
    score = score_of((0, 24, 60, 64), (0, 48, 60, 64), (25, 24, 60, 64), tpq=24)
    for pitch, length in ((61, longest), (62, longest + 3), (63, longest + 4)):
        score.tracks[0].notes.append(NoteTick(24, length, pitch, 64))
    for time, tempo in ((0, 600), (12, 480), (24, 30), (36, 29)):
        score.tempos.append(TempoTick(time, tempo))
    losses = remi.encode_measured(score).loss
    assert (losses.dropped, losses.clipped, losses.displaced, losses.clipped_tempos) == (1, 2, 1, 2)
    assert losses.onset_error == pytest.approx(1 / 24 / 6)
    assert losses.duration_error == pytest.approx((3 + 4) / 24 / 6)


@pytest.mark.slow
@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_real_files_are_encoded_as_by_miditok_and_canonically() -> None:
    compared = 0
    for name, score in corpus_scores(50):
        ids = remi.encode(score)
        np.testing.assert_array_equal(remi.encode(remi.decode(ids)), ids, err_msg=name)
        signatures = {(sig.numerator, sig.denominator) for sig in score.time_signatures}
        if all(denominator in (4, 8) and numerator <= 12 for numerator, denominator in signatures):
            np.testing.assert_array_equal(ids, miditok_ids(score), err_msg=name)
            compared += 1
    assert compared > 40
