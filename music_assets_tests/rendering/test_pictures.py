"""What the pictures show, measured in their pixels."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray
from symusic.core import NoteTick, ScoreTick, TimeSignatureTick, TrackTick

from music_assets.rendering import pictures as pianoroll
from music_assets.rendering.pictures import COLOURS, draw_pianoroll


def score(
    *tracks: tuple[int, bool, Sequence[tuple[float, float, int]]], time_signature: tuple[int, int] = (4, 4)
) -> ScoreTick:
    """Tracks of (program, drums, notes of onset and duration in beats and pitch)."""
    made = ScoreTick(480)
    made.time_signatures.append(TimeSignatureTick(0, *time_signature))
    for program, is_drum, rows in tracks:
        track = TrackTick("", program, is_drum)
        for onset, duration, pitch in rows:
            track.notes.append(NoteTick(round(onset * 480), round(duration * 480), pitch, 127))
        made.tracks.append(track)
    return made


def draw(made: ScoreTick, tmp_path: Path, **size: int) -> NDArray[np.float64]:
    """Pixels (height, width, 3) of the roll; title and legend cut off."""
    draw_pianoroll(made, tmp_path / "roll.png", "A title", **size)
    return matplotlib.image.imread(tmp_path / "roll.png")[:, :, :3]


def painted(picture: NDArray[np.float64], colour: str, top: int = 42) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels of one colour, below the legend."""
    wanted = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    rows, columns = np.nonzero(np.abs(picture[top:] - wanted).max(axis=2) < 0.02)
    return rows, columns


def test_size_and_the_place_of_notes(tmp_path: Path):
    made = score((0, False, [(0, 2, 60), (6, 2, 72)]), time_signature=(4, 4))
    picture = draw(made, tmp_path)
    assert picture.shape == (300, 800, 3)
    rows, columns = painted(picture, COLOURS[0])
    low, high = columns < 400, columns > 420
    assert rows[low].mean() > rows[high].mean()  # the later note is the higher one
    # Two bars fill the axes, from pixel 44 to 790: the notes are their first and their last quarter.
    assert columns.min() == pytest.approx(44, abs=2)
    assert columns[low].max() == pytest.approx(44 + 746 / 4, abs=2)
    assert columns[high].min() == pytest.approx(44 + 746 * 3 / 4, abs=2)
    assert columns.max() == pytest.approx(790, abs=2)


def test_programs_have_colours_and_drums_a_strip_below(tmp_path: Path):
    beats = [(beat, 1.0, 60) for beat in range(4)]
    melody = (40, False, [(0.0, 1.0, 72), (2.0, 1.0, 74)])
    plain = draw(score((0, False, beats), melody), tmp_path)
    assert len(painted(plain, COLOURS[0])[0])
    assert len(painted(plain, COLOURS[1])[0])
    drums = (0, True, [(beat / 2, 0.1, 36 + beat % 2 * 6) for beat in range(8)])
    with_drums = draw(score((0, False, beats), melody, drums), tmp_path)
    strip = with_drums[235:265, 60:780]
    assert (strip.min(axis=2) < 0.5).any()
    assert painted(with_drums, COLOURS[0])[0].max() < painted(plain, COLOURS[0])[0].max()


@pytest.mark.parametrize(
    "title", ["ガラス", "हिन्दी", "발라드 (gpt)", "\U0001d11e \uffff", "a\tb\nc\x00", "100 $ or $x^", "العربية"]
)
def test_any_title_can_be_drawn(title: str, tmp_path: Path):
    blank, titled = tmp_path / "blank.png", tmp_path / "titled.png"
    draw_pianoroll(score((0, False, [(0, 2, 60)])), blank)
    draw_pianoroll(score((0, False, [(0, 2, 60)])), titled, title)
    different = (matplotlib.image.imread(blank) != matplotlib.image.imread(titled)).any(axis=2)
    assert different[:28].any()
    assert not different[42:].any()


def test_a_title_takes_every_font_that_it_needs():
    assert pianoroll._drawable("Ab Я") == ("Ab Я", [pianoroll.FONT])
    only = min(pianoroll._characters("STIXGeneral") - pianoroll._characters(pianoroll.FONT))
    shown, fonts = pianoroll._drawable(f"A{chr(only)}\ufdd0")
    assert shown == f"A{chr(only)}{pianoroll.NO_GLYPH}"
    assert len(fonts) == 2


def test_a_very_short_note_is_still_seen(tmp_path: Path):
    made = score((0, False, [(beat, 0.01, 60) for beat in range(1, 128, 9)]))
    picture = draw(made, tmp_path)[60:260, 46:788]
    blue = (picture[..., 2] - picture[..., 0] > 0.2).any(axis=0)
    assert (np.diff(blue.astype(int)) == 1).sum() == len(range(1, 128, 9))


def test_drums_alone_nothing_at_all_and_any_size(tmp_path: Path):
    assert draw(score((0, True, [(0, 1, 36)])), tmp_path, width=400, height=200).shape == (200, 400, 3)
    empty = draw(ScoreTick(480), tmp_path)
    assert (empty[120:200, 350:480] < 0.7).any()  # the words "no notes"


def test_bars_follow_the_metre_and_stop_at_32(tmp_path: Path):
    def lines(made: ScoreTick) -> int:
        row = draw(made, tmp_path)[60, 46:788, 0]
        grey = (row < 0.95) & (row > 0.6)
        return int((np.diff(grey.astype(int)) == 1).sum())

    long = [(beat, 0.1, 40) for beat in range(12)]
    high = [(0.0, 0.1, 90)]
    assert lines(score((0, False, long + high), time_signature=(3, 4))) == 3
    assert lines(score((0, False, long + high), time_signature=(4, 4))) == 2
    assert lines(score((0, False, [(0.0, 400.0, 40), *high]))) == 31
