"""A fixed set of whole held-out pieces, and a network's bits per note on it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from music_assets.models.build import AnyNetwork
from music_assets.models.roll_rnn import PianoRoll
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.config import Precision
from music_assets.training.scoring import bits_per_note, roll_scores, token_nats


@dataclass(frozen=True)
class ValidationSet:
    """Held-out pieces by genre; ``hash`` tells one set from another."""

    documents: dict[str, list[np.ndarray]]
    notes: dict[str, list[int]]
    hash: str

    @property
    def pieces(self) -> int:
        return sum(map(len, self.documents.values()))


@dataclass(frozen=True)
class Score:
    """Bits per note, over all pieces together and by genre.

    A piano roll's are bits of the roll per key that it strikes, and compare with those of other piano rolls alone.
    """

    bits_per_note: float
    by_genre: dict[str, float]
    measures: dict[str, float] = field(default_factory=dict)
    """Of a piano roll ``density_expected`` and ``density_found``: keys that sound in a step, on average."""


def validation_set(shards: Sequence[Shard], tokens: int) -> ValidationSet:
    """Whole pieces of split 'valid' in their original key, in the order of their ids (which are hashes).

    Every genre gives pieces until it has an equal part of ``tokens``, at least one; a genre without held-out
    pieces gives none. The set depends on the pieces alone, not on which networks are scored.
    """
    originals = sorted((s for s in shards if s.transposition == "original"), key=lambda shard: shard.genre)
    documents: dict[str, list[np.ndarray]] = {}
    notes: dict[str, list[int]] = {}
    digest = hashlib.blake2b(digest_size=16)
    for shard in originals:
        total = 0
        for row in shard.where("valid"):
            if total * len(originals) >= tokens:
                break
            document = shard.document(row)
            documents.setdefault(shard.genre, []).append(document)
            notes.setdefault(shard.genre, []).append(int(shard.notes[row]))
            digest.update(f"{shard.genre} {shard.piece_ids[row]} ".encode())
            digest.update(document.tobytes())
            total += len(document)
    return ValidationSet(documents, notes, digest.hexdigest())


def validate(
    network: AnyNetwork, vocabulary: Vocabulary, pieces: ValidationSet, precision: Precision = "auto"
) -> Score | None:
    """The network's score, given each piece's genre if its vocabulary has it; None if there is no piece."""
    known = {genre: genre if genre in vocabulary.genres else None for genre in pieces.documents}
    if not known:
        return None
    if isinstance(network, PianoRoll):
        scores = {g: roll_scores(network, vocabulary, of, known[g], precision) for g, of in pieces.documents.items()}
        every = [*chain(*scores.values())]
        nats = {genre: [one.nats for one in of] for genre, of in scores.items()}
        notes = {genre: [one.notes for one in of] for genre, of in scores.items()}
        measures = {
            "density_expected": float(np.concatenate([one.expected for one in every]).mean(dtype=np.float64)),
            "density_found": float(np.concatenate([one.found for one in every]).mean(dtype=np.float64)),
        }
    else:
        nats = {g: token_nats(network, vocabulary, of, known[g], precision) for g, of in pieces.documents.items()}
        notes, measures = pieces.notes, {}
    return Score(
        bits_per_note([*chain(*nats.values())], [*chain(*notes.values())]),
        {genre: bits_per_note(parts, notes[genre]) for genre, parts in nats.items()},
        measures,
    )
