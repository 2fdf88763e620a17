"""Generated scores and the independent encoder that the tests of the tokens compare with."""

import os
import tarfile
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from symusic.core import (
    NoteTick,
    ScoreTick,
    TempoTick,
    TimeSignatureTick,
    TimeSignatureTickList,
    TrackTick,
    TrackTickList,
)

from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import read_score
from music_assets.tokens.vocabulary import (
    RANGES,
    REMI_CONFIG,
    TIME_SIGNATURES,
    TOKEN_TYPE,
    TOKEN_TYPES,
)


def corpus_scores(step: int) -> Iterator[tuple[str, ScoreTick]]:
    """Name and score of each ``step``-th labelled file in the folder MUSIC_ASSETS_CORPUS, if it can be read."""
    with tarfile.open(Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "midi.tar.xz") as archive:
        files = (member for member in archive if member.name.startswith("./by_genre/") and member.isfile())
        for member in islice(files, 0, None, step):
            file = archive.extractfile(member)
            assert file is not None
            try:
                yield member.name, read_score(file.read()).score
            except BadMidi:
                continue


@cache
def miditok_remi():
    """miditok's tokenizer for our configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import miditok
    return miditok.REMI(miditok.TokenizerConfig(**REMI_CONFIG))


def miditok_ids(score: ScoreTick) -> np.ndarray:
    """miditok's ids of a score whose tracks are in order of program, up to the last note."""
    score = score.copy()
    score.tracks = TrackTickList(sorted(score.tracks, key=lambda track: 128 if track.is_drum else track.program))
    signatures = []
    for signature in score.time_signatures:
        written = (signature.numerator, signature.denominator)
        if written not in TIME_SIGNATURES:  # the one of equal length, in quarters
            written = (signature.numerator * 4 // signature.denominator, 4)
        signatures.append(TimeSignatureTick(signature.time, *written))
    score.time_signatures = TimeSignatureTickList(signatures)
    # An x/8 change that miditok has delayed out of existence would still refine its grid, and the ids would
    # not be those of their own decoding: leave it out.
    if all(signature.denominator == 4 for signature in miditok_remi().preprocess_score(score).time_signatures):
        score.time_signatures = TimeSignatureTickList([sig for sig in signatures if sig.denominator == 4])
    sequence = miditok_remi().encode(score)
    assert not isinstance(sequence, list)
    ids = np.array(sequence.ids)
    ends = np.flatnonzero(TOKEN_TYPE[ids] == TOKEN_TYPES.index("Duration"))
    return ids[: ends[-1] + 1] if len(ends) else ids[:0]


_times = st.one_of(st.integers(0, 40), st.integers(0, 4000))
_time_signatures = st.sampled_from([*TIME_SIGNATURES, (2, 2), (3, 2), (16, 16), (12, 16)])


@st.composite
def scores(draw: st.DrawFn) -> ScoreTick:
    """Any score: coarse and fine ticks, overlapping and equal notes, same-program tracks, drums, no length,
    tempo and time signature changes anywhere, also after the last note."""
    score = ScoreTick(draw(st.sampled_from([1, 2, 3, 7, 12, 24, 96, 120, 480])))
    for program, is_drum in draw(st.lists(st.tuples(st.sampled_from([0, 1, 40, 127]), st.booleans()), max_size=4)):
        track = TrackTick("", program, is_drum)
        for time, duration, pitch, velocity in draw(
            st.lists(
                st.tuples(_times, _times, st.sampled_from([0, 59, 60, 61, 127]), st.integers(1, 127)),
                max_size=12,
            )
        ):
            track.notes.append(NoteTick(time, duration, pitch, velocity))
        track.notes.sort(inplace=True)
        score.tracks.append(track)
    for time, tempo in sorted(draw(st.lists(st.tuples(_times, st.floats(10, 600)), max_size=6))):
        score.tempos.append(TempoTick(time, tempo))
    for time, signature in sorted(
        draw(st.lists(st.tuples(_times, _time_signatures), max_size=5)), key=lambda pair: pair[0]
    ):
        score.time_signatures.append(TimeSignatureTick(time, *signature))
    return score


@st.composite
def plausible_ids(draw: st.DrawFn) -> np.ndarray:
    """Sequences of any ids, whole notes and bars more often than chance has them."""

    def token(name: str) -> st.SearchStrategy[int]:
        return st.integers(RANGES[name].start, RANGES[name].stop - 1)

    note = st.tuples(
        token("Program"), st.one_of(token("Pitch"), token("PitchDrum")), token("Velocity"), token("Duration")
    )
    bar = st.tuples(token("Bar"), token("TimeSig"))
    anything = st.tuples(st.integers(0, 2**16 - 1))
    single = [st.tuples(token(name)) for name in ("Position", "Tempo", "Bar", "TimeSig")]
    pieces = draw(st.lists(st.one_of(note, bar, anything, *single), max_size=60))
    return np.array([id_ for piece in pieces for id_ in piece], dtype=np.uint16)
