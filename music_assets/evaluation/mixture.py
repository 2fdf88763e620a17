"""The baseline that a network has to beat: all that can be said without one, an n-gram and what memory foretells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from music_assets.evaluation.ngram import NGram
from music_assets.tokens.memory import CONTEXTS, LEVELS, NO_CANDIDATE, candidates_of
from music_assets.tokens.vocabulary import SIZE, TOKEN_TYPE, TOKEN_TYPES

WEIGHTS = (len(TOKEN_TYPES), CONTEXTS, LEVELS)
"""A weight for each type of the last token, context of it, and level of how sure the context is."""
_DECAY = 1.0
_STEPS, _TOLERANCE = 200, 1e-5  # a hundredth of that moves bits per note by 0.01%, in twice the time


class ContextMixture:
    """An n-gram whose chances are raised where contexts of the piece foretell a token.

    p(x_t | x_<t) = p_n(x_t | c) · exp(s_t(x_t)) / Z_t, where p_n is the n-gram's and s_t(x) is the sum of the weights
    of all contexts of x_(t-1) whose candidate is x (:mod:`music_assets.tokens.memory`), in nats; weights depend on the
    last token's type, the context, and how often in a row it was right. Z_t = 1 + Σ p_n(x) (exp(s_t(x)) − 1) over the
    candidates makes it a distribution. A log-linear pool of models (Genest and Zidek 1986), as PAQ's mixer is of bits
    (Mahoney 2005).
    """

    def __init__(self, ngram: NGram, weights: NDArray[np.float64] | None = None) -> None:
        """``weights`` float64[WEIGHTS]; without them it is the n-gram."""
        self.ngram = ngram
        self.weights = np.zeros(WEIGHTS) if weights is None else weights

    @property
    def name(self) -> str:
        """In tables and reports."""
        return f"{self.ngram.order}-gram with memory"

    def fit(self, sequences: Sequence[NDArray[np.integer]]) -> "ContextMixture":
        """The mixture with the weights that make ``sequences`` likeliest, large ones held back a little; other than
        those that the n-gram counted, which it knows too well.

        A convex problem, solved by L-BFGS.
        """
        foretold = _Foretold.of(self.ngram, sequences)

        def cost(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            scores, mass, nats = foretold.mixed(weights)
            wrong = np.exp(scores) * foretold.base / mass[foretold.places] - foretold.right
            slope = _sums(foretold.weight, wrong[foretold.candidate], len(weights))
            return nats.sum() + _DECAY / 2 * weights @ weights, slope + _DECAY * weights

        found = minimize(
            cost, self.weights.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": _TOLERANCE}
        )
        return ContextMixture(self.ngram, found.x.reshape(WEIGHTS))

    def nats(self, sequences: Sequence[NDArray[np.integer]]) -> list[NDArray[np.float64]]:
        """−ln p of every token of every sequence, in nats; arrays as long as the sequences."""
        _, _, nats = _Foretold.of(self.ngram, sequences).mixed(self.weights.ravel())
        return np.split(nats, np.cumsum([len(sequence) for sequence in sequences])[:-1])[: len(sequences)]


@dataclass(frozen=True)
class _Foretold:
    """What the n-gram and memory say of n tokens end to end: m different candidates, each of a place, for k reasons."""

    nats: NDArray[np.float64]  # float64[n], the n-gram's
    places: NDArray[np.int64]  # int64[m], of the token that a candidate foretells
    base: NDArray[np.float64]  # float64[m], the n-gram's probability of the candidate
    right: NDArray[np.bool_]  # bool[m], whether it came
    candidate: NDArray[np.int64]  # int64[k], of each reason
    weight: NDArray[np.int64]  # int64[k], the number of its weight

    @classmethod
    def of(cls, ngram: NGram, sequences: Sequence[NDArray[np.integer]]) -> "_Foretold":
        ids = np.concatenate([np.empty(0, np.int64), *sequences]).astype(np.int64)
        told = np.concatenate([np.empty((0, CONTEXTS), np.int64), *map(_told, sequences)])
        place, column = np.nonzero(told != NO_CANDIDATE)
        code = told[place, column]
        last = TOKEN_TYPE[ids[place - 1]].astype(np.int64)  # a sequence's first token is foretold nothing
        pair, candidate = np.unique(place * SIZE + code % SIZE, return_inverse=True)
        places, token = np.divmod(pair, SIZE)
        chances = ngram.chances(sequences, np.append(np.arange(len(ids)), places), np.append(ids, token))
        return cls(
            nats=-np.log(chances[: len(ids)]),
            places=places,
            base=chances[len(ids) :],
            right=ids[places] == token,
            candidate=candidate,
            weight=np.ravel_multi_index((last, column, code // SIZE), WEIGHTS),
        )

    def mixed(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The candidates' scores s [m], Z [n] and the mixture's nats [n]."""
        scores = _sums(self.candidate, weights[self.weight], len(self.base))
        mass = 1 + _sums(self.places, self.base * np.expm1(scores), len(self.nats))
        raised = _sums(self.places[self.right], scores[self.right], len(self.nats))
        return scores, mass, self.nats - raised + np.log(mass)


def _sums(groups: NDArray[np.int64], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Of the values of each of ``count`` groups."""
    return np.asarray(np.bincount(groups, values, minlength=count), np.float64)


def _told(sequence: NDArray[np.integer]) -> NDArray[np.int64]:
    """What memory says of each token before it is there, int64[n, CONTEXTS]."""
    return np.concatenate([np.full((1, CONTEXTS), NO_CANDIDATE), candidates_of(sequence)[:, :CONTEXTS]])[
        : len(sequence)
    ]
