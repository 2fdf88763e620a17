"""An n-gram: interpolated, vectorised over sorted 64-bit context hashes."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from music_assets.tokens.grammar import Grammar
from music_assets.tokens.vocabulary import RANGES, Vocabulary

LONGEST = 8192
"""Most tokens that an n-gram goes on for."""
_BAR, _EOS = RANGES["Bar"].start, Vocabulary().eos
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


class NGram:
    """Order-``order`` model of token sequences with Witten-Bell interpolation down to the uniform distribution.

    p_k(x | c) = (n(c, x) + t(c) · p_{k-1}(x | c')) / (n(c) + t(c)), where n counts in training, t(c) is the number of
    different tokens seen after context c, and c' is c without its oldest token; an unseen context defers to the
    shorter one. Source: Witten and Bell 1991, in the form of Chen and Goodman 1999, equation 17.
    """

    def __init__(self, order: int, vocabulary_size: int) -> None:
        self.order = order
        self.vocabulary_size = vocabulary_size
        self._tables: list[_Counts] = []

    def fit(self, sequences: Sequence[NDArray[np.integer]]) -> "NGram":
        """Count the tokens of ``sequences`` after the contexts of every length below the order; returns itself."""
        stream = _Stream.of(sequences)
        self._tables = [_Counts.of(context, _pair(context, stream.tokens)) for context in stream.contexts(self.order)]
        return self

    def shortened(self, order: int) -> "NGram":
        """The model of a lower order that the same counts make."""
        model = NGram(order, self.vocabulary_size)
        model._tables = self._tables[:order]
        return model

    def nats(self, sequences: Sequence[NDArray[np.integer]]) -> list[NDArray[np.float64]]:
        """−ln p of every token of every sequence, in nats; arrays as long as the sequences."""
        stream = _Stream.of(sequences)
        chances = self._chances(stream, np.arange(stream.tokens.size), stream.tokens)
        return np.split(-np.log(chances), stream.starts[1:])[: len(sequences)]  # also where there are none

    def nats_by_order(self, sequences: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
        """The sum of −ln p over all tokens, in nats, of the model of each order up to this one; float64[order]."""
        stream = _Stream.of(sequences)
        chances = self._by_order(stream, np.arange(stream.tokens.size), stream.tokens)
        return np.array([-np.log(chance).sum() for chance in chances])

    def chances(
        self, sequences: Sequence[NDArray[np.integer]], places: NDArray[np.integer], tokens: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """The probability float64[m] of each of m ``tokens`` at a place, int64[m], of the sequences end to end, given
        what is before it."""
        return self._chances(_Stream.of(sequences), places, tokens.astype(np.uint64) + np.uint64(1))

    def go_on(
        self, beginnings: Sequence[NDArray[np.integer]], bars: Sequence[int], seed: int
    ) -> list[NDArray[np.int64]]:
        """Draw what follows each beginning of a document, up to the bar line or the end after so many bars.

        A beginning ends in its first bar's bar line; of the tokens that the grammar allows, each is drawn as likely as
        it is here. At most ``LONGEST`` tokens.
        """
        grammar, random = Grammar(), np.random.default_rng(seed)
        written = [[*map(int, ids)] for ids in beginnings]
        left, active = [*bars], [*range(len(written))]
        state = grammar.state_after(beginnings) if active else None
        while active:
            allowed = grammar.allowed(state)
            row, token = np.nonzero(allowed)
            contexts = [np.array([*written[index][1 - self.order :], 0]) for index in active]  # no token is read here
            ends = np.cumsum([len(context) for context in contexts]) - 1
            chances = self.chances(contexts, ends[row], token)
            reached = np.cumsum(chances)
            last = np.searchsorted(row, np.arange(len(active)), side="right") - 1
            before = np.append(0, reached[last[:-1]])
            aim = before + random.random(len(active)) * (reached[last] - before)
            drawn = token[np.minimum(np.searchsorted(reached, aim, side="right"), last)]
            state = grammar.advance(state, drawn)
            going = []
            for place, (index, one) in enumerate(zip(active, drawn.tolist(), strict=True)):
                left[index] -= one == _BAR
                if left[index] and one != _EOS and len(written[index]) < len(beginnings[index]) + LONGEST:
                    written[index].append(one)
                    going.append(place)
            active, state = [active[place] for place in going], state[:, going]
        return [np.array(ids[len(beginning) :], np.int64) for ids, beginning in zip(written, beginnings, strict=True)]

    def _chances(
        self, stream: "_Stream", places: NDArray[np.integer], tokens: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        *_, longest = self._by_order(stream, places, tokens)
        return longest

    def _by_order(
        self, stream: "_Stream", places: NDArray[np.integer], tokens: NDArray[np.uint64]
    ) -> Iterator[NDArray[np.float64]]:
        """By the models of order 1, 2, ... up to this one; the array is the same each time."""
        probability = np.full(len(places), 1.0 / self.vocabulary_size)
        for context, counts in zip(stream.contexts(self.order), self._tables, strict=True):
            seen, distinct = (count[places] for count in counts.of_contexts(context))
            hits = counts.of_pairs(_pair(context[places], tokens))
            known = seen > 0
            probability[known] = (hits + distinct * probability)[known] / (seen + distinct)[known]
            yield probability


class _Stream:
    """Sequences laid end to end; no context reaches over a start."""

    def __init__(self, tokens: NDArray[np.uint64], starts: NDArray[np.int64]) -> None:
        self.tokens = tokens
        self.starts = starts

    @classmethod
    def of(cls, sequences: Sequence[NDArray[np.integer]]) -> "_Stream":
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        tokens = np.concatenate(sequences) if len(sequences) else np.empty(0)
        return cls(tokens.astype(np.uint64) + np.uint64(1), np.cumsum(lengths) - lengths)

    def contexts(self, order: int):
        """Hashes of the 0, 1, ... order − 1 tokens before every token; what lies before a start counts as 0."""
        place = np.arange(self.tokens.size) - np.repeat(self.starts, np.diff(np.append(self.starts, self.tokens.size)))
        hashes = np.zeros(self.tokens.size, dtype=np.uint64)
        yield hashes
        for length in range(1, order):
            older = np.zeros_like(hashes)
            older[length:] = self.tokens[:-length]
            older[place < length] = 0
            hashes = _mix(hashes * _MULTIPLIER + older)
            yield hashes


class _Counts:
    def __init__(self, contexts, seen, distinct, pairs, hits) -> None:
        self.contexts, self.seen, self.distinct = contexts, seen, distinct
        self.pairs, self.hits = pairs, hits

    @classmethod
    def of(cls, context: NDArray[np.uint64], pair: NDArray[np.uint64]) -> "_Counts":
        pairs, first, hits = np.unique(pair, return_index=True, return_counts=True)
        contexts, seen = np.unique(context, return_counts=True)
        _, distinct = np.unique(context[first], return_counts=True)
        return cls(contexts, seen.astype(np.float64), distinct.astype(np.float64), pairs, hits.astype(np.float64))

    def of_contexts(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        index, found = _search(self.contexts, keys)
        return np.where(found, self.seen[index], 0.0), np.where(found, self.distinct[index], 0.0)

    def of_pairs(self, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
        index, found = _search(self.pairs, keys)
        return np.where(found, self.hits[index], 0.0)


def _search(table: NDArray[np.uint64], keys: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    index = np.searchsorted(table, keys).clip(max=table.size - 1)
    return index, table[index] == keys


def _pair(context: NDArray[np.uint64], token: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _mix((context ^ (token * _MULTIPLIER)) + token)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> _SHIFT)) * _MULTIPLIER
    return x ^ (x >> _SHIFT)
