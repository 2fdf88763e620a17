from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from symusic.core import ScoreTick, TempoTick, TimeSignatureTick

from music_assets.foundation.keys import KEYS, estimate_key
from music_assets.tokens import remi
from music_assets.tokens.controls import CLASS_EDGES, control_class, controls, hide
from music_assets.tokens.transposition import transpose
from music_assets.tokens.vocabulary import CONTROLS, DRUMS, RANGES, TIME_SIGNATURES, Controls
from music_assets_tests.midi_files import make_tune
from music_assets_tests.tokens.scores import scores


def test_there_is_a_class_between_any_two_edges():
    for name, edges in CLASS_EDGES.items():
        assert len(edges) + 1 == CONTROLS[name]
        assert (np.diff(edges) > 0).all()
        assert control_class(name, edges[0] - 0.01) == 0
        assert [control_class(name, float(edge)) for edge in edges] == list(range(1, CONTROLS[name]))
        assert control_class(name, 1e9) == CONTROLS[name] - 1


def test_bars_are_counted_in_powers_of_two():
    assert [control_class("bars", n) for n in (1, 2, 3, 4, 7, 8, 31, 32, 2047, 2048, 99999)] == [
        *(0, 1, 1, 2, 2, 3, 4, 5, 10, 11, 11)
    ]


@pytest.mark.parametrize(
    ("style", "tempo", "expected"),
    [
        ("reel", 150.0, Controls((9,), 6, 1, 4, KEYS.index("D minor"), TIME_SIGNATURES.index((4, 4)))),
        ("waltz", 60.0, Controls((0,), 0, 1, 4, KEYS.index("C major"), TIME_SIGNATURES.index((3, 4)))),
    ],
)
def test_controls_of_a_tune(style, tempo, expected):
    score = make_tune(style=style, seed=0, bars=16, tempo=tempo)
    measured = controls(remi.encode(score))
    assert measured._replace(instruments=expected.instruments, density=expected.density) == expected
    assert measured.instruments == tuple(sorted({16 if t.is_drum else t.program // 8 for t in score.tracks}))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(scores())
def test_controls_are_what_the_decoded_score_says(score: ScoreTick):
    ids = remi.encode(score)
    assume(len(ids))
    decoded = remi.decode(ids)
    seconds = 0.0
    time = 0
    quarters = remi.notes(ids).bar_lengths.sum()
    tempos = [(tempo.time / decoded.tpq, tempo.qpm) for tempo in decoded.tempos]
    for (start, qpm), (end, _) in zip(tempos, [*tempos[1:], (quarters, 0)], strict=True):
        assert start >= time
        time = start
        seconds += (end - start) * 60 / qpm
    measured = controls(ids)
    tempo = 60 * quarters / seconds
    made = remi.notes(ids)
    pitched = made.program != DRUMS
    key = estimate_key(np.bincount(made.pitch[pitched] % 12, weights=made.duration[pitched], minlength=12))
    bars = Counter(TIME_SIGNATURES[token - RANGES["TimeSig"].start] for token in ids if token in RANGES["TimeSig"])
    assert measured == Controls(
        instruments=tuple(sorted({16 if track.is_drum else track.program // 8 for track in decoded.tracks})),
        # The decoded tempo is rounded to microseconds.
        tempo=measured.tempo if np.isclose(tempo, CLASS_EDGES["tempo"]).any() else control_class("tempo", tempo),
        density=control_class("density", decoded.note_num() / quarters),
        bars=control_class("bars", ids.tolist().count(RANGES["Bar"].start)),
        key=None if key is None else key[0],
        time_signature=min(TIME_SIGNATURES.index(one) for one in bars if bars[one] == max(bars.values())),
    )


def test_a_tempo_that_changes_counts_by_its_time():
    score = make_tune(style="reel", seed=0, bars=8, tempo=60)
    score.tempos.append(TempoTick(4 * 4 * score.tpq, 180))  # 16 s and then 5.3 s: 90 quarters a minute
    assert controls(remi.encode(score)).tempo == control_class("tempo", 90)
    score.time_signatures.append(TimeSignatureTick(4 * 4 * score.tpq, 6, 8))
    assert controls(remi.encode(score)).tempo == control_class("tempo", 90)


@pytest.mark.parametrize("semitones", [-5, 3, 6])
def test_transposition_changes_the_key_alone(semitones):
    for style in ("chorale", "band", "jig"):
        ids = remi.encode(make_tune(style=style, seed=2))
        moved = transpose(ids, semitones)
        assert moved is not None
        whole = controls(ids)
        assert whole.key is not None
        mode, tonic = divmod(whole.key, 12)
        assert controls(moved) == whole._replace(key=12 * mode + (tonic + semitones) % 12)


def test_parts_and_nothing():
    ids = remi.encode(make_tune(style="reel", seed=0, bars=8))
    second = int(np.flatnonzero(ids == RANGES["Bar"].start)[1])
    part = controls(ids[second:])
    assert part == controls(ids)._replace(tempo=None, bars=2, key=part.key)
    assert controls(ids[:0]) == Controls()


def test_each_control_is_hidden_by_a_chance_of_its_own():
    whole, random = Controls((0, 16), 3, 4, 5, 6, 7), np.random.default_rng(0)
    assert hide(whole, 0.0, random) == whole
    assert hide(whole, 1.0, random) == Controls()
    shown = [hide(whole, 0.3, random) for _ in range(2000)]
    for field, none in enumerate(Controls()):
        kept = [controls[field] == whole[field] for controls in shown]
        assert all(controls[field] in (whole[field], none) for controls in shown)
        assert np.mean(kept) == pytest.approx(0.7, abs=0.04)
    assert len({tuple(map(bool, controls)) for controls in shown}) > 50  # of 64
