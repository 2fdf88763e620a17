"""Small musical MIDI files for the tests: deterministic, and each style unlike the others."""

import random
from collections.abc import Mapping
from pathlib import Path

from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

TICKS = 480  # a quarter note
STYLES = ("reel", "jig", "waltz", "chorale", "band")

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_CHORDS = (0, 3, 4, 0, 5, 3, 4, 0)  # degrees of the chords, a bar each
_METRES = {"reel": (4, 4), "jig": (6, 8), "waltz": (3, 4), "chorale": (4, 4), "band": (4, 4)}
_TEMPOS = {"reel": 112.0, "jig": 116.0, "waltz": 160.0, "chorale": 72.0, "band": 124.0}


def write_tune(
    path: Path,
    *,
    style: str = "reel",
    seed: int = 0,
    bars: int = 16,
    key: int = 0,
    tempo: float | None = None,
    time_signature: tuple[int, int] | None = None,
) -> Path:
    """Write a tune of ``bars`` bars, ``key`` semitones above C, and return ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_tune(style=style, seed=seed, bars=bars, key=key, tempo=tempo, time_signature=time_signature).dump_midi(
        str(path)
    )
    return path


def write_corpus(raw: Path, genres: Mapping[str, int], seed: int = 0, bars: int = 16) -> list[Path]:
    """Write ``raw/tunes/<genre>/<artist>/<title>.mid``: so many pieces a genre, three an artist.

    The n-th genre has the n-th style, so that genres can be told apart by ear and by a classifier.
    """
    paths = []
    for index, (genre, count) in enumerate(genres.items()):
        for number in range(count):
            artist = f"{genre.title()} Artist {number // 3}"
            path = raw / "tunes" / genre / artist / f"Air {number}.mid"
            tune_seed = seed * 100_000 + index * 10_000 + number
            style = STYLES[index % len(STYLES)]
            paths.append(write_tune(path, style=style, seed=tune_seed, bars=bars, key=number % 12 - 5))
    return paths


def make_tune(
    *,
    style: str = "reel",
    seed: int = 0,
    bars: int = 16,
    key: int = 0,
    tempo: float | None = None,
    time_signature: tuple[int, int] | None = None,
) -> ScoreTick:
    """The score that :func:`write_tune` writes."""
    if style not in STYLES:
        raise ValueError(f"There is no style {style!r}; choose one of {', '.join(STYLES)}.")
    chance = random.Random(f"{style} {seed}")
    numerator, denominator = time_signature or _METRES[style]
    bar = numerator * TICKS * 4 // denominator
    tracks = {
        "reel": _reel,
        "jig": _jig,
        "waltz": _waltz,
        "chorale": _chorale,
        "band": _band,
    }[style](chance, bars, bar)
    score = ScoreTick(TICKS)
    score.tempos.append(TempoTick(0, tempo or _TEMPOS[style] + chance.randrange(-8, 9, 4)))
    score.time_signatures.append(TimeSignatureTick(0, numerator, denominator))
    for track in tracks:
        if not track.is_drum:
            track.shift_pitch(key, inplace=True)
        score.tracks.append(track)
    return score


def _reel(chance: random.Random, bars: int, bar: int) -> list[TrackTick]:
    """One fiddle in running eighths."""
    return [_melody(chance, 40, bars, bar, steps=[TICKS // 2], low=7, high=18)]


def _jig(chance: random.Random, bars: int, bar: int) -> list[TrackTick]:
    """A whistle in quarter-and-eighth or three eighths, over a bass on the strong beats."""
    steps = [[TICKS // 2] * 3, [TICKS, TICKS // 2]]
    melody = _melody(chance, 75, bars, bar, steps=chance.choice(steps), low=10, high=20)
    return [melody, _bass(24, bars, bar, every=TICKS * 3 // 2)]


def _waltz(chance: random.Random, bars: int, bar: int) -> list[TrackTick]:
    """Piano: low root on one, chords on two and three, a slow tune above."""
    melody = _melody(chance, 0, bars, bar, steps=[TICKS * 2, TICKS], low=9, high=18)
    for number in range(bars):
        degree = _CHORDS[number % len(_CHORDS)]
        _add(melody, number * bar, TICKS, _pitch(degree - 14), 78)
        for beat in range(TICKS, bar, TICKS):
            for third in (0, 2, 4):
                _add(melody, number * bar + beat, TICKS * 3 // 4, _pitch(degree + third - 7), 58)
    return [_sorted(melody)]


def _chorale(chance: random.Random, bars: int, bar: int) -> list[TrackTick]:
    """Four voices, mostly in quarters, that end on a long chord."""
    tracks = [TrackTick(name, program) for name, program in _VOICES]
    for time in range(0, bars * bar, TICKS):
        degree = chance.choice((0, 3, 4, 5, 1)) if time % bar else _CHORDS[time // bar % len(_CHORDS)]
        for voice, track in enumerate(tracks):
            third = (4, 2, 4, 0)[voice] if chance.random() < 0.7 else (2, 4, 0, 0)[voice]
            _add(track, time, TICKS, _pitch(degree % 7 + third + (7, 0, -7, -14)[voice]), 70)
    return tracks


def _band(chance: random.Random, bars: int, bar: int) -> list[TrackTick]:
    """Drums, bass guitar, power chords and a syncopated lead."""
    drums = TrackTick("Drums", 0, True)
    guitar = TrackTick("Guitar", 30)
    for number in range(bars):
        start, degree = number * bar, _CHORDS[number % len(_CHORDS)]
        for step, time in enumerate(range(0, bar, TICKS // 2)):
            _add(drums, start + time, TICKS // 4, 42, 70 + 12 * (step % 2 == 0))
            if step % 4 == 0 or chance.random() < 0.15:
                _add(drums, start + time, TICKS // 4, 36, 105)
            if step % 4 == 2:
                _add(drums, start + time, TICKS // 4, 38, 110)
            for third in (0, 4, 7):
                _add(guitar, start + time, TICKS // 2, _pitch(degree + third - 14), 85)
    lead = _melody(chance, 81, bars, bar, steps=[TICKS * 3 // 4, TICKS * 3 // 4, TICKS // 2], low=7, high=19)
    return [_sorted(drums), _bass(33, bars, bar, every=TICKS // 2), guitar, lead]


_VOICES = (("Soprano", 52), ("Alto", 53), ("Tenor", 19), ("Bass", 43))


def _melody(
    chance: random.Random, program: int, bars: int, bar: int, *, steps: list[int], low: int, high: int
) -> TrackTick:
    """A walk on the scale between two degrees; an eight-bar strain is played twice, as folk tunes do."""
    track = TrackTick("Melody", program)
    degree, strain = (low + high) // 2, []
    for number in range(min(bars, 8)):
        time = turn = 0
        while time < bar:
            length = min(steps[turn % len(steps)], bar - time)
            strain.append((number * bar + time, length, _pitch(degree), 88 if time == 0 else 74))
            degree += chance.choice((-2, -1, -1, 1, 1, 2)) if degree > low else 2
            degree -= 3 if degree > high else 0
            time, turn = time + length, turn + 1
    for repeat in range(0, bars, 8):
        for time, length, pitch, velocity in strain:
            if time + repeat * bar < bars * bar:
                _add(track, time + repeat * bar, length, pitch, velocity)
    return track


def _bass(program: int, bars: int, bar: int, *, every: int) -> TrackTick:
    track = TrackTick("Bass", program)
    for number in range(bars):
        for time in range(0, bar, every):
            _add(track, number * bar + time, min(every, bar - time), _pitch(_CHORDS[number % 8] - 21), 80)
    return track


def _pitch(degree: int) -> int:
    """MIDI pitch of a degree of the major scale above middle C."""
    octave, step = divmod(degree, 7)
    return 60 + 12 * octave + _MAJOR[step]


def _add(track: TrackTick, time: int, duration: int, pitch: int, velocity: int) -> None:
    track.notes.append(NoteTick(time, duration, pitch, velocity))


def _sorted(track: TrackTick) -> TrackTick:
    track.notes.sort(inplace=True)
    return track
