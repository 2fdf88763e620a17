"""Near-duplicates: recall on edited copies and on versions of a song, precision by name, speed.

A pair that was joined counts as right if the titles in the paths share a word; the others are printed unless ``--json``
is given, because a name tells only so much. ``--files 10000`` takes all of a corpus of fewer.
"""

import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from symusic.core import ScoreTick

from benchmarks.harness import Result, compare, machine, midi_files, options, show
from music_assets.corpus.index.duplicates import THRESHOLD, bucket_pairs, near_duplicates
from music_assets.corpus.labels.songs import path_facts, song_key
from music_assets.corpus.labels.taxonomy import Taxonomy, fold
from music_assets.corpus.reading.facts import facts
from music_assets.corpus.reading.fingerprints import VALUES, WORDS, fingerprint
from music_assets.corpus.reading.verdicts import OK, examine
from music_assets.foundation.midi.reading import load_score
from music_assets_tests import midi_edits as edits

EDITED_FILES = 500
LAKH = 180_000
COPIES = 50

Edit = Callable[[ScoreTick, np.random.Generator], ScoreTick | None]


def _drop_track(score: ScoreTick, chance: np.random.Generator) -> ScoreTick | None:
    melodic = [number for number, track in enumerate(score.tracks) if len(track.notes) and not track.is_drum]
    return edits.without_track(score, int(chance.choice(melodic))) if len(melodic) > 1 else None


def _cut_bars(bars: int) -> Edit:
    def cut(score: ScoreTick, _: np.random.Generator) -> ScoreTick | None:
        ticks = bars * 4 * score.tpq
        return edits.without_intro(score, ticks) if 2 * ticks < score.end() else None

    return cut


def _cut_share(share: float) -> Edit:
    return lambda score, chance: edits.without_intro(score, int(share * score.end()))


def _transpose(score: ScoreTick, chance: np.random.Generator) -> ScoreTick:
    return edits.transposed(score, int(chance.choice([*range(-6, 0), *range(1, 7)])))


def _resample(score: ScoreTick, chance: np.random.Generator) -> ScoreTick:
    return edits.resampled(score, int(chance.choice([96, 120, 192, 384, 1000])))


def _humanise(milliseconds: float) -> Edit:
    return lambda score, chance: edits.humanised(score, milliseconds, int(chance.integers(1 << 30)))


def _velocities(score: ScoreTick, chance: np.random.Generator) -> ScoreTick:
    return edits.with_velocities(score, int(chance.integers(1 << 30)))


def _everything(score: ScoreTick, chance: np.random.Generator) -> ScoreTick:
    for edit in (_drop_track, _transpose, _resample, _cut_share(0.15), _velocities, _humanise(5)):
        score = edit(score, chance) or score
    return score


EDITS: dict[str, Edit] = {
    "transposed_1_to_6": _transpose,
    "tempo_event": lambda score, chance: edits.retimed(score, 1.3),
    "ticks_doubled": lambda score, chance: edits.stretched(score, 2),
    "ticks_halved": lambda score, chance: edits.stretched(score, 1, 2),
    "ticks_times_3_4": lambda score, chance: edits.stretched(score, 3, 4),
    "resampled_96_to_1000": _resample,
    "track_dropped": _drop_track,
    "intro_of_4_bars_cut": _cut_bars(4),
    "intro_of_8_bars_cut": _cut_bars(8),
    "intro_of_16_bars_cut": _cut_bars(16),
    "first_10_percent_cut": _cut_share(0.1),
    "first_25_percent_cut": _cut_share(0.25),
    "velocities": _velocities,
    "humanised_3_ms": _humanise(3),
    "humanised_8_ms": _humanise(8),
    "humanised_15_ms": _humanise(15),
    "all_at_once": _everything,
    "tracks_of_an_instrument_merged": lambda score, chance: edits.merged(score),
}


def main() -> None:
    chosen = options(__doc__)
    with midi_files(chosen.corpus, chosen.files) as files:
        scores = {str(file): load_score(file) for file in files if examine(file)["verdict"] == OK}
    pieces = _pieces(scores)
    hashes = {file: facts(score).content_hash for file, score in scores.items()}
    known = _matrix(pieces)
    few, many = _copies(known, LAKH // 10), _copies(known, LAKH)
    report = (lambda line: None) if chosen.json else print
    results = [
        *(_recall(name, edit, scores, pieces, hashes) for name, edit in EDITS.items()),
        *_by_name(pieces, hashes, report),
        compare(
            "fingerprint_files_per_second",
            "files/s",
            len(scores),
            lambda: [fingerprint(score) for score in scores.values()],
            "facts",
            lambda: [facts(score) for score in scores.values()],
        ),
        compare(
            "near_duplicate_pieces_per_second",
            "pieces/s",
            len(pieces),
            lambda: near_duplicates(pieces),
            "every pair",
            lambda: _every_pair(known),
        ),
        # ten times a tenth: a ratio of 1 is linear
        compare(
            f"near_duplicate_pieces_per_second_of_{LAKH}",
            "pieces/s",
            LAKH,
            lambda: near_duplicates(many),
            f"of {LAKH // 10}",
            lambda: [near_duplicates(few) for _ in range(10)],
        ),
    ]
    show(results, chosen.json)


def _result(name: str, value: float, unit: str, baseline: str, other: float) -> Result:
    # a baseline that finds nothing is counted as one in a thousand
    return Result(name, round(value, 4), unit, baseline, round(other, 4), round(value / max(other, 1e-3), 2), machine())


def _pieces(scores: dict[str, ScoreTick]) -> pl.DataFrame:
    return pl.DataFrame(
        {"piece_id": list(scores), "fingerprint": [fingerprint(score) for score in scores.values()]},
        schema={"piece_id": pl.String, "fingerprint": pl.List(pl.UInt32)},
    )


def _recall(
    name: str, edit: Edit, scores: dict[str, ScoreTick], pieces: pl.DataFrame, hashes: dict[str, str | None]
) -> Result:
    """Edited copies that come into their original's cluster, among all the originals."""
    edited = {}
    for number, file in enumerate(sorted(scores)[:: max(1, len(scores) // EDITED_FILES)]):
        if copy := edit(scores[file], np.random.default_rng(number)):
            edited[file] = copy
    copies = _pieces(edited).with_columns(piece_id="copy of " + pl.col("piece_id"))
    cluster = dict(near_duplicates(pl.concat([pieces, copies])).iter_rows())
    found = _share(cluster[f"copy of {file}"] == cluster[file] for file in edited)
    same = _share(facts(copy).content_hash == hashes[file] for file, copy in edited.items())
    return _result(f"recall_{name}", found, f"share of {len(edited)} files", "content_hash", same)


def _by_name(pieces: pl.DataFrame, hashes: dict[str, str | None], report: Callable[[str], None]) -> list[Result]:
    """Recall on pairs of files that are one song by their paths; precision of the joined pairs by theirs."""
    taxonomy = Taxonomy.load()
    ids = pieces["piece_id"].to_list()
    root = os.path.commonpath(ids)
    songs = {file: path_facts(Path(file).relative_to(root).as_posix(), taxonomy) for file in ids}
    keys = [song_key(songs[file].artist, songs[file].title) for file in ids]
    words = {file: set(fold(songs[file].title or "").split()) for file in ids}
    clusters = near_duplicates(pieces)
    cluster = dict(clusters.iter_rows())
    versions = _pairs(pl.DataFrame({"piece_id": ids, "key": keys}).drop_nulls())
    joined = _pairs(clusters.rename({"cluster": "key"}))
    for one, other in joined:
        if not words[one] & words[other]:
            report(f"  joined: {one} | {other}")
    results = []
    if versions:
        found = _share(cluster[one] == cluster[other] for one, other in versions)
        same = _share(hashes[one] == hashes[other] for one, other in versions)
        unit = f"share of {len(versions)} pairs"
        results.append(_result("recall_versions_of_a_song", found, unit, "content_hash", same))
    if joined:
        right, chance = (
            _share(bool(words[one] & words[other]) for one, other in pairs) for pairs in (joined, _candidates(pieces))
        )
        unit = f"share of {len(joined)} pairs"
        results.append(_result("precision_by_name", right, unit, "unverified candidates", chance))
    return results


def _pairs(pieces: pl.DataFrame) -> list[tuple[str, str]]:
    """Pairs of ``piece_id`` with the same ``key``."""
    pairs = pieces.join(pieces, on="key", suffix="_other").filter(pl.col("piece_id") < pl.col("piece_id_other"))
    return list(pairs.select("piece_id", "piece_id_other").iter_rows())


def _candidates(pieces: pl.DataFrame) -> set[tuple[str, str]]:
    known = pieces.filter(pl.col("fingerprint").list.len() > 0)["piece_id"].to_list()
    words = _matrix(pieces)
    pairs = (zip(*bucket_pairs(words[:, word]), strict=True) for word in range(WORDS))
    return {(known[left], known[right]) for left, right in chain.from_iterable(pairs)}


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found) if found else 0.0


def _matrix(pieces: pl.DataFrame) -> NDArray[np.uint32]:
    known = pieces["fingerprint"].list.len() > 0
    return pieces["fingerprint"].filter(known).explode().to_numpy().reshape(-1, WORDS)


def _every_pair(words: NDArray[np.uint32]) -> int:
    bins = words.view(np.uint16)
    return sum(
        int(((bins[row + 1 :] == bins[row]).sum(axis=1) >= THRESHOLD * VALUES).sum()) for row in range(len(bins))
    )


def _copies(words: NDArray[np.uint32], count: int) -> pl.DataFrame:
    """So many pieces, each with ``COPIES`` near-copies: real fingerprints in which chance has changed bins."""
    chance = np.random.default_rng(0)
    bins = words.view(np.uint16)
    bins = _changed(bins[chance.integers(len(bins), size=count // COPIES)], 0.9, chance)
    bins = _changed(np.repeat(bins, COPIES, axis=0), 0.2, chance)
    ids = [f"{number:06d}" for number in chance.permutation(len(bins))]
    words = bins.view(np.uint32)
    return pl.DataFrame({"piece_id": ids, "fingerprint": pl.Series(words).arr.to_list()})


def _changed(bins: NDArray[np.uint16], share: float, chance: np.random.Generator) -> NDArray[np.uint16]:
    other = chance.integers(1 << 16, size=bins.shape, dtype=np.uint16)
    return np.where(chance.random(bins.shape, np.float32) < share, other, bins)


if __name__ == "__main__":
    main()
