"""Structure of music: how it comes back to what it played, ends its phrases, and goes on over sixteen bars."""

from collections.abc import Callable, Sequence

import numpy as np

from music_assets.evaluation.classifier import generated_excerpts, real_excerpts
from music_assets.evaluation.comparison import FeatureComparison, compare_excerpts
from music_assets.evaluation.controls import key_of
from music_assets.evaluation.features import FeatureTable, bar_self_similarity, excerpt, feature_table
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.keys import KEYS, parse_key
from music_assets.foundation.midi.programs import DRUMS
from music_assets.tokens.remi import NoteArray

PHRASE = 4
"""Bars of a phrase."""
APART = range(1, 9)
"""Distances in bars at which repetition is measured."""


def similarity_name(bars: int) -> str:
    """The name of the repetition at a distance in bars."""
    return f"bar similarity, {bars} apart"


def phrase_end_lengthening(notes: NoteArray) -> float:
    """How many beats longer the last onset of a phrase's last bar rings or rests than that of the other bars.

    Of each bar, the beats from its last onset to its end, drums left out; the mean over each fourth bar less the mean
    over the others. Phrases of music slow down and rest at their ends (Todd, 1985, A model of expressive timing in
    tonal music); a network that does not hear phrases gives 0. NaN where one of the two has no bar with an onset.
    """
    last = np.full(len(notes.bar_lengths), -np.inf)
    pitched = notes.program != DRUMS
    np.maximum.at(last, notes.bar[pitched], notes.onset[pitched] - notes.bar_starts[notes.bar[pitched]])
    left = notes.bar_lengths - last
    played, is_end = np.isfinite(left), np.arange(len(left)) % PHRASE == PHRASE - 1
    if not (played & is_end).any() or not (played & ~is_end).any():
        return np.nan
    return float(left[played & is_end].mean() - left[played & ~is_end].mean())


def density_drift(notes: NoteArray) -> float:
    """log2 of the notes in the later half of the bars over those in the earlier half: 0 stays, 1 doubles.

    The middle one of an odd number of bars is of neither; NaN where a half has no note.
    """
    half = len(notes.bar_lengths) // 2
    early, late = int((notes.bar < half).sum()), int((notes.bar >= len(notes.bar_lengths) - half).sum())
    return float(np.log2(late / early)) if early and late else np.nan


def density_steps(notes: NoteArray) -> float:
    """Mean over neighbouring phrases of the absolute log2 of the ratio of their notes: 0 where all are equally full.

    Pairs with an empty phrase are left out; NaN without a pair.
    """
    counts = np.array([len(phrase) for phrase in _phrases(notes)], float)
    pairs = (counts[:-1] > 0) & (counts[1:] > 0)
    return float(np.abs(np.log2(counts[1:][pairs] / counts[:-1][pairs])).mean()) if pairs.any() else np.nan


def phrases_in_first_key(notes: NoteArray) -> float:
    """Of the phrases behind the first the share whose estimated key is the first one's; those without a key are left
    out; NaN without such a phrase or where the first has no key."""
    first, *others = [key_of(phrase) for phrase in _phrases(notes)] or [None]
    heard = [key for key in others if key is not None]
    return float(np.mean([key == first for key in heard])) if first is not None and heard else np.nan


def notes_in_first_scale(notes: NoteArray) -> float:
    """Of the notes behind the first phrase, drums left out, the share in the scale of the first phrase's estimated key;
    NaN without such notes or without a key."""
    first = key_of(excerpt(notes, PHRASE))
    later = notes.pitch[(notes.program != DRUMS) & (notes.bar >= PHRASE)]
    if first is None or not len(later):
        return np.nan
    return float(np.isin(later % 12, list(parse_key(KEYS[first]).pitch_classes)).mean())


def _phrases(notes: NoteArray) -> list[NoteArray]:
    """The whole phrases from the beginning."""
    return [excerpt(notes, PHRASE, first) for first in range(0, len(notes.bar_lengths) - PHRASE + 1, PHRASE)]


def _similarity(bars: int) -> Callable[[NoteArray], float]:
    return lambda notes: float(bar_self_similarity(notes, bars)[bars - 1])


STRUCTURE: dict[str, Callable[[NoteArray], float]] = {
    **{similarity_name(bars): _similarity(bars) for bars in APART},
    "phrase-end lengthening (beats)": phrase_end_lengthening,
    "density, later half over earlier (octaves)": density_drift,
    "density, phrase to phrase (octaves)": density_steps,
    "phrases in the first one's key": phrases_in_first_key,
    "notes in the first phrase's scale": notes_in_first_scale,
}


def structure_table(excerpts: Sequence[NoteArray]) -> FeatureTable:
    """Features of ``STRUCTURE`` of every excerpt."""
    return feature_table(excerpts, STRUCTURE, {})


def structure_report(
    real: Sequence[Piece], samples: Sequence[Piece], settings: EvaluationSettings
) -> FeatureComparison:
    """Compare the structure of the first ``settings.structure_bars`` bars of real pieces and of samples, genre by
    genre. A sample of fewer bars counts at what its bars define.

    Raises:
        NotMeasurable: no genre has both.
    """
    bars = settings.structure_bars
    return compare_excerpts(
        real_excerpts(real, bars, measure=structure_table),
        generated_excerpts(samples, bars, structure_table),
        bars,
        settings,
    )
