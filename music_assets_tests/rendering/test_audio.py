"""What the audio files hold, measured in the sound itself."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from symusic.core import ControlChangeTick, NoteTick, ScoreTick, TrackTick

from music_assets.rendering.audio import OGG_RATE, PEAK, RenderError, encode_ogg, render_many, render_ogg, render_signal

FLUTE = 73
BEAT = 0.5  # seconds a quarter note at the default tempo


def write_midi(
    path: Path, rows: list[tuple[float, float, int]], program: int = 0, tracks: int = 1, velocity: int = 100
) -> Path:
    """Notes of (onset, duration) in beats and pitch, the same in every track."""
    score = ScoreTick(480)
    for number in range(tracks):
        track = TrackTick(str(number), program + number)
        for onset, duration, pitch in rows:
            track.notes.append(NoteTick(round(onset * 480), round(duration * 480), pitch, velocity))
        score.tracks.append(track)
    score.dump_midi(str(path))
    return path


def spectrum_peak(signal: NDArray[np.floating | np.integer]) -> float:
    """Frequency in Hz of the strongest partial."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    return float(np.fft.rfftfreq(len(signal), 1 / OGG_RATE)[spectrum.argmax()])


def test_a_note_sounds_at_its_pitch_for_its_length(tmp_path: Path):
    ogg = tmp_path / "made" / "a.ogg"
    seconds = render_ogg(write_midi(tmp_path / "a.mid", [(0, 4, 69)], FLUTE), ogg)
    signal, rate = soundfile.read(ogg, dtype="float32")
    assert rate == OGG_RATE
    assert signal.ndim == 1
    assert len(signal) / rate == pytest.approx(seconds) == pytest.approx(4 * BEAT + 1.5, abs=0.05)
    held = signal[int(0.5 * rate) : int(1.5 * rate)]
    assert spectrum_peak(held) == pytest.approx(440, abs=3)
    assert np.sqrt((held**2).mean()) > 0.05
    assert np.sqrt((signal[-rate // 10 :] ** 2).mean()) < 0.01  # the release has died away
    assert np.abs(signal).max() == pytest.approx(PEAK, abs=0.1)  # Vorbis changes a peak a little


def test_onsets_are_heard_when_they_are_written(tmp_path: Path):
    onsets = [0, 1, 2.5, 3, 5]
    signal = render_signal(write_midi(tmp_path / "a.mid", [(onset, 0.25, 60) for onset in onsets], program=12))
    energy = np.sqrt((signal[: len(signal) // 240 * 240].reshape(-1, 240) ** 2).mean(axis=1))  # 10 ms each
    before = np.append(0, energy[:-1])
    rising = np.flatnonzero((energy > 0.1) & (energy > 2.5 * before))
    heard = [step / 100 for step, gap in zip(rising, np.diff(rising, prepend=-9), strict=True) if gap > 3]
    assert heard == pytest.approx([onset * BEAT for onset in onsets], abs=0.025)


def test_a_long_piece_is_cut_and_faded(tmp_path: Path):
    midi = write_midi(tmp_path / "a.mid", [(0, 60, 60)], FLUTE)
    signal = render_signal(midi, max_seconds=5)
    assert len(signal) == 5 * OGG_RATE
    loudness = [float(np.sqrt((part**2).mean())) for part in np.split(signal, 5)]
    assert loudness[2] > 2 * loudness[4]
    assert abs(float(signal[-1])) < 0.001


def test_a_loud_piece_is_not_clipped(tmp_path: Path):
    chord = [(0.0, 2.0, pitch) for pitch in range(40, 76, 3)]
    signal = render_signal(write_midi(tmp_path / "a.mid", chord, program=56, tracks=8, velocity=127))
    assert np.abs(signal).max() == pytest.approx(PEAK)
    assert (np.abs(signal) > 0.98 * PEAK).mean() < 0.001  # no flat tops


def test_own_volume_changes_survive_the_headroom(tmp_path: Path):
    score = ScoreTick(480)
    for number in range(12):
        track = TrackTick(str(number), 56)
        for pitch in (48, 55, 60, 64, 67):
            track.notes.append(NoteTick(0, 3840, pitch, 127))
        track.controls.append(ControlChangeTick(1920, 7, 20))
        score.tracks.append(track)
    score.dump_midi(str(tmp_path / "a.mid"))
    signal = render_signal(tmp_path / "a.mid")
    loud, soft = (np.sqrt((signal[at : at + OGG_RATE] ** 2).mean()) for at in (OGG_RATE // 2, 5 * OGG_RATE // 2))
    assert loud > 4 * soft > 0


def test_an_ogg_longer_than_one_block_holds_every_frame(tmp_path: Path):
    midi = write_midi(tmp_path / "a.mid", [(beat, 1, 60) for beat in range(60)])
    seconds = render_ogg(midi, tmp_path / "a.ogg")
    assert soundfile.info(tmp_path / "a.ogg").frames == round(seconds * OGG_RATE)
    assert (tmp_path / "a.ogg").stat().st_size < 8_000 * seconds


@pytest.mark.slow
def test_many_in_worker_processes_sound_like_one(tmp_path: Path):
    midi = [write_midi(tmp_path / f"{pitch}.mid", [(0, 2, pitch)], FLUTE) for pitch in (69, 81)]
    render_many([(path, path.with_suffix(".ogg")) for path in midi], workers=2)
    for path, hertz in zip(midi, (440, 880), strict=True):
        signal, _ = soundfile.read(path.with_suffix(".ogg"), dtype="float32")
        assert spectrum_peak(signal[6000:18000]) == pytest.approx(hertz, abs=5)
    assert render_many([]) == {}


@pytest.mark.slow
def test_a_script_is_not_run_again_in_the_workers(tmp_path: Path):
    midi, ogg, script = write_midi(tmp_path / "a.mid", [(0, 1, 69)]), tmp_path / "a.ogg", tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path; from music_assets.rendering.audio import render_many\n"
        f"print('once'); print(render_many([(Path({str(midi)!r}), Path({str(ogg)!r}))]))"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("once\n{}\n", "")
    assert ogg.exists()


def test_silence_and_rubbish_are_refused_by_name(tmp_path: Path):
    empty = write_midi(tmp_path / "empty.mid", [])
    with pytest.raises(RenderError, match=r"empty\.mid has no notes"):
        render_ogg(empty, tmp_path / "a.ogg")
    rubbish = tmp_path / "rubbish.mid"
    rubbish.write_bytes(b"not music")
    with pytest.raises(RenderError, match=r"rubbish\.mid cannot be read"):
        render_ogg(rubbish, tmp_path / "a.ogg")
    absent = tmp_path / "absent.mid"
    assert "absent.mid" in render_many([(absent, tmp_path / "a.ogg")], 1)[absent]
    late = write_midi(tmp_path / "late.mid", [(40, 1, 60)])
    with pytest.raises(RenderError, match="first 5 seconds"):
        render_ogg(late, tmp_path / "a.ogg", max_seconds=5)
    assert not (tmp_path / "a.ogg").exists()


def test_bytes_sound_like_the_file(tmp_path: Path):
    midi = write_midi(tmp_path / "a.mid", [(0, 1, 60)])
    signal = render_signal(midi.read_bytes())
    assert np.array_equal(signal, render_signal(midi))
    assert soundfile.info(io.BytesIO(encode_ogg(signal))).frames == len(signal)
    with pytest.raises(RenderError, match="The MIDI data cannot be read"):
        render_signal(b"not music")
