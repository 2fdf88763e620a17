"""MIDI to OGG Vorbis with the General MIDI soundfont that ships inside pretty_midi."""

import importlib.util
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import midirenderer
import numpy as np
import soundfile
from numpy.typing import NDArray
from symusic.core import ControlChangeSecond, ScoreSecond
from tqdm import tqdm

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.isolation import WorkerFailure, run_isolated
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.foundation.publishing import publish

RENDER_RATE = 48_000  # what midirenderer always delivers
OGG_RATE = 24_000
OGG_COMPRESSION = 0.8  # of soundfile's 0 (large) to 1 (small): about 5 kB a second
PEAK = 0.9
RELEASE_SECONDS = 1.5
FADE_SECONDS = 2.0
OGG_BLOCK = 65_536  # frames; one long Vorbis write overruns libsndfile's stack
MASTER_VOLUME, ALL_NOTES_OFF = 7, 123
WORKER_SECONDS = 300.0
"""Time after which a worker that renders a piece is killed."""


class RenderError(MusicAssetsError):
    """A MIDI file that gives no sound; the message names the file and the reason."""


def render_ogg(midi: Path, ogg: Path, max_seconds: float = 40.0) -> float:
    """Write the sound of ``midi`` to ``ogg`` and return its length in seconds; see :func:`render_signal`.

    Raises:
        RenderError: there is nothing to hear.
    """
    signal = render_signal(midi, max_seconds)
    with publish(ogg) as fresh:
        fresh.write_bytes(encode_ogg(signal))
    return len(signal) / OGG_RATE


def render_many(jobs: Sequence[tuple[Path, Path]], workers: int = 2, max_seconds: float = 40.0) -> dict[Path, str]:
    """Call :func:`render_ogg` for every (MIDI, OGG) pair, in worker processes because midirenderer holds the GIL.

    Returns why, for every MIDI file that gives no sound; the others are written.
    """
    silent = {}
    work = [(midi, ogg, max_seconds) for midi, ogg in jobs]
    rendered = run_isolated(_why_silent, work, workers=workers, chunk=1, seconds=WORKER_SECONDS)
    for (midi, *_), result in tqdm(rendered, "rendering", len(jobs), unit="file", disable=None):
        if isinstance(result, WorkerFailure):
            silent[midi] = f"{midi} could not be rendered: {result.detail}"
        elif result is not None:
            silent[midi] = result
    return silent


def _why_silent(job: tuple[Path, Path, float]) -> str | None:
    try:
        render_ogg(*job)
    except RenderError as error:
        return str(error)
    return None


def encode_ogg(signal: NDArray[np.float32]) -> bytes:
    """Compress mono samples at ``OGG_RATE`` to OGG Vorbis."""
    ogg = io.BytesIO()
    with soundfile.SoundFile(ogg, "w", OGG_RATE, 1, "VORBIS", format="OGG", compression_level=OGG_COMPRESSION) as file:
        for start in range(0, len(signal), OGG_BLOCK):
            file.write(signal[start : start + OGG_BLOCK])
    return ogg.getvalue()


def render_signal(midi: Path | bytes, max_seconds: float = 40.0) -> NDArray[np.float32]:
    """Synthesise a MIDI file: float32 samples at ``OGG_RATE`` (24 kHz), mono, peak 0.9.

    A piece longer than ``max_seconds`` is cut there and faded out over its last two seconds; a shorter one keeps 1.5 s
    for its last notes to ring.

    Raises:
        RenderError: it cannot be read, or there is nothing to hear.
    """
    # scipy.signal takes most of a second to import; pictures and tables of samples do without it.
    from scipy.signal import resample_poly

    name = "The MIDI data" if isinstance(midi, bytes) else midi
    try:
        score = ScoreSecond.from_midi(midi) if isinstance(midi, bytes) else ScoreSecond(midi)
    except (RuntimeError, ValueError) as error:
        raise RenderError(f"{name} cannot be read as MIDI: {error}") from error
    if score.note_num() == 0:
        raise RenderError(f"{name} has no notes, so there is nothing to render.")
    is_cut = score.end() > max_seconds
    if is_cut:
        score = score.clip(0, max_seconds)
        for note in (note for track in score.tracks for note in track.notes):
            note.duration = min(note.duration, max_seconds - note.time)
    if score.note_num() == 0:
        raise RenderError(f"{name} is silent for its first {max_seconds:g} seconds.")
    if not is_cut:
        _add_control(score, score.end() + RELEASE_SECONDS, ALL_NOTES_OFF, 0)

    stereo = _synthesize(score)
    if np.abs(stereo).max() > 0.999:  # clipped at full scale: again with 12 dB of headroom
        for track in score.tracks:
            for control in track.controls:
                if control.number == MASTER_VOLUME:
                    control.value //= 2
        _add_control(score, 0.0, MASTER_VOLUME, 50)  # half of the General MIDI default
        stereo = _synthesize(score)

    signal = resample_poly(stereo.mean(axis=1), OGG_RATE, RENDER_RATE)
    if is_cut:
        signal = signal[: int(max_seconds * OGG_RATE)]
        fade = min(len(signal), int(FADE_SECONDS * OGG_RATE))
        signal[len(signal) - fade :] *= np.linspace(1, 0, fade)
    peak = np.abs(signal).max(initial=0.0)
    if peak == 0.0:
        raise RenderError(f"{name} renders to silence: its notes may have velocity 0 or no length.")
    return (signal * (PEAK / peak)).astype(np.float32)


def _add_control(score: ScoreSecond, seconds: float, number: int, value: int) -> None:
    for track in score.tracks:
        track.controls.append(ControlChangeSecond(seconds, number, value))
        track.controls.sort(key=lambda control: control.time, inplace=True)


def _synthesize(score: ScoreSecond) -> NDArray[np.float32]:
    """The score's sound, float32 (frames, 2) at 48 kHz."""
    wave = midirenderer.render_wave_from(_soundfont(), midi_bytes(score.resample(score.ticks_per_quarter)))
    return soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)[0].astype(np.float32, copy=False)


@cache
def _soundfont() -> bytes:
    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or not spec.submodule_search_locations:
        raise RenderError("The soundfont is missing: it ships inside the package pretty_midi.")
    return (Path(spec.submodule_search_locations[0]) / "TimGM6mb.sf2").read_bytes()
