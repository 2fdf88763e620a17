"""MIDI to OGG Vorbis with the General MIDI soundfont that ships inside pretty_midi."""

import importlib.util
import io
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import midirenderer
import numpy as np
import soundfile
from symusic.core import ControlChangeSecond, ScoreSecond
from tqdm import tqdm

from music_assets.foundation.errors import MusicAssetsError
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.foundation.processes import worker_context
from music_assets.foundation.publishing import publish

RENDER_RATE = 48_000  # what midirenderer always delivers
OGG_RATE = 24_000
OGG_COMPRESSION = 0.8  # of soundfile's 0 (large) to 1 (small): about 5 kB a second
PEAK = 0.9
RELEASE_SECONDS = 1.5
FADE_SECONDS = 2.0
OGG_BLOCK = 65_536  # frames; one long Vorbis write overruns libsndfile's stack
MASTER_VOLUME, ALL_NOTES_OFF = 7, 123


class RenderError(MusicAssetsError):
    """A MIDI file that gives no sound; the message names the file and the reason."""


def render_ogg(midi: Path, ogg: Path, max_seconds: float = 40.0) -> float:
    """Write ``midi`` as mono OGG Vorbis (24 kHz, peak 0.9) to ``ogg`` and return its length in seconds.

    A piece longer than ``max_seconds`` is cut there and faded out over its last two seconds; a shorter one
    keeps 1.5 s for its last notes to ring. Raises :class:`RenderError`.
    """
    signal = render_signal(midi, max_seconds)
    with (
        publish(ogg) as fresh,
        soundfile.SoundFile(fresh, "w", OGG_RATE, 1, "VORBIS", format="OGG", compression_level=OGG_COMPRESSION) as file,
    ):
        for start in range(0, len(signal), OGG_BLOCK):
            file.write(signal[start : start + OGG_BLOCK])
    return len(signal) / OGG_RATE


def render_many(jobs: Sequence[tuple[Path, Path]], workers: int = 2, max_seconds: float = 40.0) -> dict[Path, str]:
    """:func:`render_ogg` for every (MIDI, OGG) pair, in worker processes because midirenderer holds the GIL.

    Returns why, for every MIDI file that gives no sound; the others are written.
    """
    if not jobs:
        return {}
    silent = {}
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=worker_context(__name__)) as pool:
        futures = {pool.submit(render_ogg, midi, ogg, max_seconds): midi for midi, ogg in jobs}
        for future in tqdm(as_completed(futures), "rendering", len(futures), unit="file", disable=None):
            try:
                future.result()
            except RenderError as error:
                silent[futures[future]] = str(error)
    return silent


def render_signal(midi: Path, max_seconds: float = 40.0) -> np.ndarray:
    """The sound of ``midi``: float32 samples at 24 kHz, mono, peak 0.9. Raises :class:`RenderError`."""
    # scipy.signal takes most of a second to import; pictures and tables of samples do without it.
    from scipy.signal import resample_poly

    try:
        score = ScoreSecond(midi)
    except (RuntimeError, ValueError) as error:
        raise RenderError(f"{midi} cannot be read as MIDI: {error}") from error
    if score.note_num() == 0:
        raise RenderError(f"{midi} has no notes, so there is nothing to render.")
    is_cut = score.end() > max_seconds
    if is_cut:
        score = score.clip(0, max_seconds)
        for note in (note for track in score.tracks for note in track.notes):
            note.duration = min(note.duration, max_seconds - note.time)
    if score.note_num() == 0:
        raise RenderError(f"{midi} is silent for its first {max_seconds:g} seconds.")
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
        raise RenderError(f"{midi} renders to silence: its notes may have velocity 0 or no length.")
    return (signal * (PEAK / peak)).astype(np.float32)


def _add_control(score: ScoreSecond, seconds: float, number: int, value: int) -> None:
    for track in score.tracks:
        track.controls.append(ControlChangeSecond(seconds, number, value))
        track.controls.sort(key=lambda control: control.time, inplace=True)


def _synthesize(score: ScoreSecond) -> np.ndarray:
    """The score's sound, float32 (frames, 2) at 48 kHz."""
    wave = midirenderer.render_wave_from(_soundfont(), midi_bytes(score.resample(score.ticks_per_quarter)))
    return soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)[0]


@cache
def _soundfont() -> bytes:
    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or not spec.submodule_search_locations:
        raise RenderError("The soundfont is missing: it ships inside the package pretty_midi.")
    return (Path(spec.submodule_search_locations[0]) / "TimGM6mb.sf2").read_bytes()
