"""Note arrays written by hand."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from music_assets.evaluation.pieces import Piece
from music_assets.tokens.remi import NoteArray

DRUMS = 128

Row = tuple[float, float, int, int, int]  # onset, duration (beats), pitch, velocity, program


def notes(rows: Sequence[Sequence[float]], bars: int = 1, bar_length: float = 4.0, tempo: float = 120.0) -> NoteArray:
    """Notes from rows of onset, duration, pitch and, if given, velocity (64) and program (0)."""
    full = [[*row, *(64, 0)[len(row) - 3 :]] for row in sorted(map(tuple, rows))]
    columns = np.array(full, np.float64).reshape(-1, 5).T
    onset, duration = columns[0], columns[1]
    end = (onset + duration).max(initial=0.0)
    return NoteArray(
        onset=onset,
        duration=duration,
        pitch=columns[2].astype(np.int16),
        velocity=columns[3].astype(np.int16),
        program=columns[4].astype(np.int16),
        bar=np.floor(onset / bar_length).astype(np.int32),
        bar_starts=np.arange(bars) * np.float64(bar_length),
        bar_lengths=np.full(bars, bar_length),
        seconds=float(end * 60 / tempo),
        tempo=tempo,
    )


def piece(found: NoteArray, genre: str = "reel", name: str = "piece", group: str | None = None) -> Piece:
    """A piece that is only its notes."""
    return Piece(name, group or name, genre, np.zeros(0, np.uint16), found, found.seconds)


@st.composite
def note_arrays(draw: st.DrawFn, bars: int = 4) -> NoteArray:
    """Notes on the sixteenth grid inside ``bars`` bars of 4/4, drums among them; none at all too."""
    beats = 4 * bars
    row = st.tuples(
        st.integers(0, 4 * beats - 1).map(lambda step: step / 4),
        st.integers(1, 12).map(lambda step: step / 4),
        st.integers(40, 60),
        st.integers(1, 127),
        st.sampled_from([0, 0, 40, DRUMS]),
    )
    rows = draw(st.lists(row, max_size=25))
    return notes([(on, min(long, beats - on), *rest) for on, long, *rest in rows], bars)
