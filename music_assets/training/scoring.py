"""The exact likelihood of whole pieces under a network."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from music_assets.models.network import Network
from music_assets.tokens.repeats import NONE, ORDERS, continuations
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.precision import autocast

_BATCH_TOKENS = 8192


class _Window(NamedTuple):
    document: int
    ids: np.ndarray  # int64[t], prompt included
    continued: np.ndarray  # int64[t, 4], of the ids
    targets: np.ndarray  # int64[n], the scored ones: what follows the last n ids
    first: int  # place of targets[0] in the document


@torch.no_grad()
def token_nats(
    network: Network, vocabulary: Vocabulary, documents: Sequence[np.ndarray], genre: str | None = None
) -> list[np.ndarray]:
    """-ln p of every token of each document and of the EOS after it, float32[len(document) + 1], in nats.

    The prompt (BOS and the genre, repeated in every window) is given, not scored; it states no controls, so that the
    likelihoods of networks with and without them compare. Windows are as long as the network's context and move on
    by half of it; each scores only what no window before it did, so that every token is predicted from at least half
    a context, or all that precedes it. An empty document costs its EOS.

    Raises:
        UnknownGenre: the vocabulary has no such genre.
    """
    prompt = np.array(vocabulary.prompt(genre), dtype=np.int64)
    windows = [
        window
        for index, document in enumerate(documents)
        for window in _windows(index, document, prompt, vocabulary.eos, network.config.context)
    ]
    windows.sort(key=lambda window: len(window.ids))
    nats = [np.empty(len(document) + 1, dtype=np.float32) for document in documents]
    training = network.training
    network.eval()
    for batch in _batches(windows):
        width = len(batch[-1].ids)
        ids = np.full((len(batch), width), vocabulary.pad)
        continued = np.full((len(batch), width, len(ORDERS)), NONE)
        targets = np.full((len(batch), width), vocabulary.pad)
        for row, window in enumerate(batch):  # padding comes last, where a causal network cannot see it
            end = len(window.ids)
            ids[row, :end] = window.ids
            continued[row, :end] = window.continued
            targets[row, end - len(window.targets) : end] = window.targets
        with autocast(network.device):
            logits = network(
                torch.from_numpy(ids).to(network.device), continued=torch.from_numpy(continued).to(network.device)
            )
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(),
            torch.from_numpy(targets).to(network.device).flatten(),
            reduction="none",
        )
        scores = losses.view(ids.shape).cpu().numpy()
        for row, window in enumerate(batch):
            end, count = len(window.ids), len(window.targets)
            nats[window.document][window.first : window.first + count] = scores[row, end - count : end]
    network.train(training)
    return nats


def bits_per_note(nats: Sequence[np.ndarray], notes: Sequence[int] | np.ndarray) -> float:
    """Bits per note of all documents together (micro-averaged): sum of nats / ln 2 / number of notes.

    Documents without a note add their bits; nan where there is no note at all.
    """
    total = int(np.sum(notes))
    return float(sum(part.sum(dtype=np.float64) for part in nats)) / math.log(2) / total if total else math.nan


def _windows(index: int, document: np.ndarray, prompt: np.ndarray, eos: int, context: int) -> Iterator[_Window]:
    body = np.append(document.astype(np.int64), eos)
    continued = continuations(body)
    nothing = np.full((len(prompt), len(ORDERS)), NONE)
    reach = context - len(prompt) + 1  # tokens that a window can predict
    scored = 0
    for start in range(0, len(body), context // 2):
        end = min(start + reach, len(body))
        ids = np.concatenate([prompt, body[start : end - 1]])
        yield _Window(index, ids, np.concatenate([nothing, continued[start : end - 1]]), body[scored:end], scored)
        scored = end
        if end == len(body):
            return


def _batches(windows: list[_Window]) -> Iterator[list[_Window]]:
    """Neighbours in a list sorted by length, about ``_BATCH_TOKENS`` ids together."""
    batch: list[_Window] = []
    for window in windows:
        if batch and (len(batch) + 1) * len(window.ids) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
