"""What a network has learned inside: whether its tokens, and the pieces it reads, lie beside those of their kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from music_assets.checkpoints.storage import Checkpoint
from music_assets.evaluation.arrays import Floats, Integers, Strings
from music_assets.evaluation.features import PROGRAM_FAMILIES
from music_assets.evaluation.pieces import Piece, in_turn
from music_assets.evaluation.projection import LEAST_PROJECTED
from music_assets.evaluation.resampling import Estimate, percentile_interval
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.foundation.keys import KEYS
from music_assets.models.network import TokenNetwork
from music_assets.models.registry import find_architecture
from music_assets.tokens.memory import NO_CANDIDATE, candidates_of
from music_assets.tokens.vocabulary import (
    DURATIONS,
    POSITIONS_PER_BEAT,
    PROGRAMS,
    RANGES,
    SIZE,
    VELOCITIES,
    Vocabulary,
)
from music_assets.training.precision import autocast

NEAREST = 5
"""Neighbours of a token, or piece, that are looked at."""
MOST_PIECES, FIRST_TOKENS = 400, 256
_BATCH = 32  # pieces
_SAME = 1e-12  # similarities, and shares, that differ by less differ by rounding


class Attribute(NamedTuple):
    """What the first tokens of a type are told apart by."""

    name: str
    kind: str  # token type
    labels: NDArray[np.int64]  # of each token, index in ``classes``
    classes: tuple[str, ...]
    ordered: bool  # whether the classes rise


_PITCHES, _OCTAVES = np.arange(len(RANGES["Pitch"])), range(-1, 10)
_HALVINGS = np.floor(np.log2(DURATIONS / POSITIONS_PER_BEAT)).astype(np.int64)
_QUARTER = len(VELOCITIES) // 4
_SUBDIVISIONS = np.array([0, 4, 4, 2, 3, 4, 1, 4, 3, 2, 4, 4])  # of each twelfth of a beat

ATTRIBUTES = (
    Attribute("pitch class", "Pitch", _PITCHES % 12, tuple(key.removesuffix(" major") for key in KEYS[:12]), False),
    Attribute("octave", "Pitch", _PITCHES // 12, tuple(f"C{octave} to B{octave}" for octave in _OCTAVES), True),
    Attribute(
        "duration",
        "Duration",
        _HALVINGS - _HALVINGS.min(),
        tuple(
            f"{Fraction(2) ** power} to {Fraction(2) ** (power + 1)} beats"
            for power in range(int(_HALVINGS.min()), int(_HALVINGS.max()) + 1)
        ),
        True,
    ),
    Attribute(
        "velocity",
        "Velocity",
        np.arange(len(VELOCITIES)) // _QUARTER,
        tuple(
            f"{VELOCITIES[first]} to {VELOCITIES[first + _QUARTER - 1]}" for first in range(0, 4 * _QUARTER, _QUARTER)
        ),
        True,
    ),
    Attribute(
        "subdivision",
        "Position",
        _SUBDIVISIONS[np.arange(len(RANGES["Position"])) % POSITIONS_PER_BEAT],
        ("on the beat", "half beat", "quarter beat", "third of a beat", "else"),
        False,
    ),
    Attribute("instrument family", "Program", np.arange(PROGRAMS) // 8, PROGRAM_FAMILIES, False),
)
"""Of the types whose tokens say more than which one they are.

Pitch classes begin with C, and C4 is pitch 60. A duration's class is the octave that it lies in, floor(log2 beats), a
velocity's the quarter of the range. A beat is the time signature's denominator.
"""


@dataclass(frozen=True)
class Neighbours:
    """How often the nearest neighbours of a point are of its class, in [0, 1].

    ``chance`` is what classes dealt out at random give: the expectation, and the range of shuffled ones.
    ``p_value`` is the share of shuffles, the true classes counted as one, that reach ``share``.
    """

    share: float
    chance: Estimate
    p_value: float
    nearest: int  # neighbours of each point

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the share lies above the whole range of shuffled classes."""
        return self.share > self.chance.high


@dataclass(frozen=True)
class Picture:
    """Points in two planes, of the tokens of one type or of pieces, and how well their classes keep together.

    ``neighbours`` is measured between the whole vectors, not in a plane.
    """

    attribute: str
    kind: str  # token type, or "pieces"
    names: Strings  # of each of n tokens, or ids of pieces
    labels: Integers  # of each, index in ``classes``; int64[n]
    classes: tuple[str, ...]
    ordered: bool
    components: Floats  # float64[n, 2]
    variance: tuple[float, float]  # share of it on each component; NaN where all vectors are one
    tsne: Floats  # float64[n, 2]
    neighbours: Neighbours | None  # None: each class has one token
    left_out: int  # tokens that are in no held-out piece


@dataclass(frozen=True)
class EmbeddingReport:
    """Pictures of the token embeddings, and of what the network makes of pieces whose genre it is not told.

    ``pieces`` is None with fewer than three pieces. ``without_network`` is the same number of the same pieces where a
    piece is no more than the counts of its tokens. ``too_few`` names attributes of which fewer than three tokens are
    heard: they have no picture.
    """

    tokens: list[Picture]
    pieces: Picture | None
    without_network: Neighbours | None
    first_tokens: int  # most that are read of a piece
    too_few: list[str]

    @property
    def pictures(self) -> list[Picture]:
        """All of them, that of the pieces last."""
        return [*self.tokens, *([self.pieces] if self.pieces else [])]

    def picture(self, attribute: str) -> Picture:
        """That of the tokens by an attribute."""
        return next(picture for picture in self.tokens if picture.attribute == attribute)


def embedding_report(
    checkpoint: Checkpoint, held_out: Sequence[Piece], settings: EvaluationSettings
) -> EmbeddingReport:
    """Look at the embedding of each token that a held-out piece has, by what the token means, and at pieces by genre.

    Embeddings are the rows of the network's ``embedding``, the table that its input is looked up in. Tokens that no
    held-out piece has are left out: what is seldom or never trained on stays where chance put it.

    A piece is the mean of the last hidden states, what the output layer reads, after each of its first
    ``FIRST_TOKENS`` tokens, or as many as the network's context takes. The prompt does not say the genre. One piece a
    song is looked at, so that no variant of a tune is its own neighbour; ``MOST_PIECES`` in all, a genre after the
    other.

    Raises:
        NotMeasurable: the network does not read tokens, or no held-out piece of its genres has a note.
    """
    facts, vocabulary = checkpoint.facts, checkpoint.vocabulary
    if find_architecture(facts.architecture).reads != "tokens":
        raise NotMeasurable(f"A {facts.architecture} has no token embeddings.")
    known = in_turn(held_out, facts.genres)
    if not known:
        raise NotMeasurable("No test piece of the network's genres has a note: there are no tokens to look at.")
    table = checkpoint.token_network.embedding.weight.detach().double().cpu().numpy()
    heard = heard_tokens(known, vocabulary)
    genres = Attribute("genre", "Genre", np.arange(len(vocabulary.genres)), vocabulary.genres, False)
    pictures: list[Picture] = []
    too_few: list[str] = []
    for attribute in (*ATTRIBUTES, genres):
        ids = np.array(RANGES[attribute.kind])[: len(attribute.labels)]
        some = heard[ids]
        if some.sum() < LEAST_PROJECTED:
            too_few.append(attribute.name)
            continue
        names = [vocabulary.name(int(token)) for token in ids[some]]
        shown = attribute._replace(labels=attribute.labels[some])
        pictures.append(_picture(shown, names, table[ids[some]], int((~some).sum()), settings))
    pieces, without_network = _pieces(checkpoint, choose_pieces(known, facts.genres), settings)
    return EmbeddingReport(pictures, pieces, without_network, _room(checkpoint.token_network, vocabulary), too_few)


def heard_tokens(pieces: Sequence[Piece], vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Which ids are in pieces or name the genre of one, bool[SIZE]. Raises UnknownGenre."""
    heard = np.zeros(SIZE, np.bool_)
    for piece in pieces:
        heard[piece.ids] = True
    heard[[vocabulary.genre_id(genre) for genre in {piece.genre for piece in pieces}]] = True
    return heard


def choose_pieces(pieces: Sequence[Piece], genres: Sequence[str], most: int = MOST_PIECES) -> list[Piece]:
    """At most so many pieces with notes, the first of each song, a genre after the other."""
    first: dict[str, Piece] = {}
    for piece in in_turn(pieces, genres):
        first.setdefault(piece.group, piece)
    return in_turn(first.values(), genres)[:most]


def chance_agreement(labels: NDArray[np.integer]) -> float:
    """Chance that two different ones of n labels are alike: Σ n_l (n_l − 1) / (n (n − 1)) over labels of which there
    are n_l, in [0, 1]; NaN of fewer than two.

    It is also what :func:`agreement` expects of labels dealt out at random, whatever the vectors: each of a point's
    neighbours is another point.
    """
    n = len(labels)
    if n < 2:
        return float("nan")
    counts = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))


def neighbour_weights(vectors: NDArray[np.floating], nearest: int = NEAREST) -> NDArray[np.float64]:
    """How much each of n vectors counts as a neighbour of each other, float64[n, n]: rows sum to 1, nothing is its own.

    Neighbours are the ``nearest`` others of greatest cosine, or all where there are fewer, and count alike. Several
    that are equally far share the places that are left for them. A vector of length 0 has cosine 0 to all.

    Raises:
        ValueError: there are fewer than two vectors.
    """
    n = len(vectors)
    if n < 2:
        raise ValueError(f"Neighbours need 2 vectors and got {n}.")
    nearest = min(nearest, n - 1)
    unit = _unit(vectors)
    cosine = np.round(unit @ unit.T / _SAME) * _SAME
    np.fill_diagonal(cosine, -np.inf)
    last = np.partition(cosine, n - nearest, axis=1)[:, n - nearest, None]
    nearer, tied = cosine > last, cosine == last
    room = nearest - nearer.sum(axis=1, keepdims=True)
    return (nearer + tied * (room / tied.sum(axis=1, keepdims=True))) / nearest


def agreement(
    vectors: NDArray[np.floating], labels: NDArray[np.integer], settings: EvaluationSettings, nearest: int = NEAREST
) -> Neighbours:
    """Mean share of the ``nearest`` neighbours of n vectors [n, d] that have the vector's own label, beside chance.

    Chance is tried ``settings.bootstrap_rounds`` times: labels are shuffled over the vectors. The range is of the level
    ``settings.confidence``, and the p-value (1 + shuffles that reach the share) / (1 + rounds) is one-sided (Phipson
    and Smyth 2010). Where all labels are alike share and chance are 1, where no two are 0, and p is 1. All is NaN of
    fewer than three vectors.
    """
    if len(vectors) < LEAST_PROJECTED:
        nan = float("nan")
        return Neighbours(nan, Estimate(nan, nan, nan), nan, max(len(vectors) - 1, 0))
    weights = neighbour_weights(vectors, nearest)
    rows, columns = np.nonzero(weights)
    counted = weights[rows, columns] / len(vectors)

    def share(of: NDArray[np.integer]) -> float:
        return float((of[rows] == of[columns]) @ counted)

    found = share(labels)
    random = np.random.default_rng(settings.seed)
    shuffled = np.array([share(random.permutation(labels)) for _ in range(settings.bootstrap_rounds)])
    chance = percentile_interval(chance_agreement(labels), shuffled, settings.confidence)
    p_value = float((1 + (shuffled >= found - _SAME).sum()) / (1 + len(shuffled)))
    return Neighbours(found, chance, p_value, min(nearest, len(vectors) - 1))


def planes(
    vectors: NDArray[np.floating], seed: int
) -> tuple[NDArray[np.float64], tuple[float, float], NDArray[np.float64]]:
    """Principal components float64[n, 2] of n ≥ 3 vectors, the share of the variance on each, and t-SNE float64[n, 2]
    of perplexity min(30, (n − 1) / 3) (van der Maaten and Hinton 2008).

    Both are of the vectors' directions, each scaled to length 1, so that near means a great cosine. Where all are one
    direction all points are 0 and the shares NaN. One number for each vector leaves the second component 0.

    Raises:
        ValueError: there are fewer than three vectors.
    """
    n, d = vectors.shape
    if n < LEAST_PROJECTED:
        raise ValueError(f"A plane needs {LEAST_PROJECTED} vectors and got {n}.")
    unit = np.pad(_unit(vectors), ((0, 0), (0, max(0, 2 - d))))
    if np.ptp(unit, axis=0).max() < 1e-9:
        return np.zeros((n, 2)), (float("nan"), float("nan")), np.zeros((n, 2))
    components = PCA(2, svd_solver="full")
    points = components.fit_transform(unit)
    first, second = components.explained_variance_ratio_
    tsne = TSNE(2, perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=seed)
    with threadpool_limits(1):  # where cores are busy, threads that wait for each other take minutes
        laid = tsne.fit_transform(unit)
    return points, (float(first), float(second)), np.asarray(laid, np.float64)


@torch.no_grad()
def piece_vectors(
    network: TokenNetwork, vocabulary: Vocabulary, documents: Sequence[NDArray[np.integer]]
) -> NDArray[np.float64]:
    """Of each document of at least one token the mean of what the output layer reads after each of its first tokens,
    float64[n, W].

    The prompt is BOS alone, and its state does not count; memory is told as in training. Tokens are the first
    ``FIRST_TOKENS``, or as many as the context takes.
    """
    prompt = np.array(vocabulary.prompt(None), np.int64)
    room = _room(network, vocabulary)
    order = sorted(range(len(documents)), key=lambda index: len(documents[index]))
    vectors = np.zeros((len(documents), network.head.in_features))
    training = network.training
    network.eval()
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        width = len(prompt) + min(room, len(documents[batch[-1]]))
        ids = np.full((len(batch), width), vocabulary.pad, np.int64)
        candidates = np.full((len(batch), width, network.columns), NO_CANDIDATE, np.int64)
        inside = np.zeros((len(batch), width, 1))
        for row, index in enumerate(batch):  # padding comes last, where a causal network cannot see it
            document = documents[index][:room].astype(np.int64)
            place = slice(len(prompt), len(prompt) + len(document))
            ids[row, : len(prompt)], ids[row, place] = prompt, document
            candidates[row, place] = candidates_of(document)[:, : network.columns]
            inside[row, place] = 1 / len(document)
        with autocast(network.device):
            states = _last_states(network, *(torch.from_numpy(of).to(network.device) for of in (ids, candidates)))
        vectors[batch] = (states.double().cpu().numpy() * inside).sum(axis=1)
    network.train(training)
    return vectors


def _last_states(network: TokenNetwork, ids: Tensor, candidates: Tensor) -> Tensor:
    """What the output layer reads, [B, T, W]: networks give logits alone, so it is caught on its way."""
    caught: list[Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _, read: caught.append(read[0]))
    try:
        network(ids, candidates=candidates)
    finally:
        hook.remove()
    return caught[0]


def _room(network: TokenNetwork, vocabulary: Vocabulary) -> int:
    """Tokens of a piece that are read."""
    return min(FIRST_TOKENS, network.config.context - len(vocabulary.prompt(None)))


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each vector at length 1, but one of length 0."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _picture(
    shown: Attribute,
    names: Sequence[str],
    vectors: NDArray[np.float64],
    left_out: int,
    settings: EvaluationSettings,
) -> Picture:
    components, variance, tsne = planes(vectors, settings.seed)
    alone = shown.kind == "Genre"  # a genre's token has nothing finer that others could share
    return Picture(
        attribute=shown.name,
        kind=shown.kind,
        names=np.array(names, np.str_),
        labels=shown.labels,
        classes=shown.classes,
        ordered=shown.ordered,
        components=components,
        variance=variance,
        tsne=tsne,
        neighbours=None if alone else agreement(vectors, shown.labels, settings),
        left_out=left_out,
    )


def _pieces(
    checkpoint: Checkpoint, pieces: Sequence[Piece], settings: EvaluationSettings
) -> tuple[Picture | None, Neighbours | None]:
    """The picture of pieces by genre, and the number that the counts of their tokens give."""
    if len(pieces) < LEAST_PROJECTED:
        return None, None
    network, vocabulary = checkpoint.token_network, checkpoint.vocabulary
    genres = tuple(genre for genre in checkpoint.facts.genres if any(piece.genre == genre for piece in pieces))
    labels = np.array([genres.index(piece.genre) for piece in pieces])
    documents = [piece.ids for piece in pieces]
    vectors = piece_vectors(network, vocabulary, documents)
    room = _room(network, vocabulary)
    counts = np.array([np.bincount(document[:room], minlength=SIZE) for document in documents], np.float64)
    shown = Attribute("genre", "pieces", labels, genres, False)
    picture = _picture(shown, [piece.name for piece in pieces], vectors, 0, settings)
    return picture, agreement(counts, labels, settings)
