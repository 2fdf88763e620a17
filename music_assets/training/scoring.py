"""The exact likelihood of whole pieces under a network."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from music_assets.models import roll_rnn as pianoroll
from music_assets.models.network import TokenNetwork
from music_assets.models.roll_rnn import RollRNN
from music_assets.tokens.memory import NO_CANDIDATE, candidates_of
from music_assets.tokens.rolls import KEYS, planes
from music_assets.tokens.vocabulary import RANGES, Vocabulary
from music_assets.training.precision import autocast
from music_assets.training.roll_batches import count_steps, genre_number, whole
from music_assets.training.settings import Precision

_BATCH_TOKENS = 8192
_CPU_BATCH_TOKENS = 2048  # activations of more leave a processor's cache
_BATCH_STEPS = 65_536

T = TypeVar("T")


@dataclass(frozen=True)
class PieceScore:
    """What a network pays for one piece."""

    nats: NDArray[np.float32]  # float32[n], -ln p of each token, or step of the roll
    notes: int
    measures: Mapping[str, NDArray[np.float32]] = field(
        default_factory=dict
    )  # what else was measured at each, float32[n]


class _Window(NamedTuple):
    document: int
    ids: NDArray[np.int64]  # int64[t], prompt included
    candidates: NDArray[np.int64]  # int64[t, columns], of the ids
    targets: NDArray[np.int64]  # int64[n], the scored ones: what follows the last n ids
    first: int  # place of targets[0] in the document


@torch.no_grad()
def token_nats(
    network: TokenNetwork,
    vocabulary: Vocabulary,
    documents: Sequence[NDArray[np.integer]],
    genre: str | None = None,
    precision: Precision = "auto",
) -> list[NDArray[np.float32]]:
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
        for window in _windows(index, document, prompt, vocabulary.eos, network)
    ]
    windows.sort(key=lambda window: (len(window.ids), len(window.targets)))
    nats = [np.empty(len(document) + 1, dtype=np.float32) for document in documents]
    training = network.training
    network.eval()
    limit = _CPU_BATCH_TOKENS if network.device.type == "cpu" else _BATCH_TOKENS
    for batch in _batches(windows, lambda window: len(window.ids), limit):
        width = len(batch[-1].ids)
        ids = np.full((len(batch), width), vocabulary.pad)
        candidates = np.full((len(batch), width, network.columns), NO_CANDIDATE)
        targets = np.full((len(batch), width), vocabulary.pad)
        skip = min(len(window.ids) - len(window.targets) for window in batch)
        for row, window in enumerate(batch):  # padding comes last, where a causal network cannot see it
            end = len(window.ids)
            ids[row, :end] = window.ids
            candidates[row, :end] = window.candidates
            targets[row, end - len(window.targets) : end] = window.targets
        with autocast(network.device, precision):
            logits = network(
                torch.from_numpy(ids).to(network.device),
                candidates=torch.from_numpy(candidates).to(network.device),
                skip=skip,
            )
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(),
            torch.from_numpy(targets[:, skip:]).to(network.device).flatten(),
            reduction="none",
        )
        scores = losses.view(len(batch), -1).cpu().numpy()
        for row, window in enumerate(batch):
            end, count = len(window.ids) - skip, len(window.targets)
            nats[window.document][window.first : window.first + count] = scores[row, end - count : end]
    network.train(training)
    return nats


def token_scores(
    network: TokenNetwork,
    vocabulary: Vocabulary,
    documents: Sequence[NDArray[np.integer]],
    genre: str | None = None,
    precision: Precision = "auto",
) -> list[PieceScore]:
    """The :func:`token_nats` of each document, with its notes. Raises UnknownGenre."""
    nats = token_nats(network, vocabulary, documents, genre, precision)
    return [PieceScore(one, _count_notes(document)) for one, document in zip(nats, documents, strict=True)]


@torch.no_grad()
def roll_scores(
    network: RollRNN,
    vocabulary: Vocabulary,
    documents: Sequence[NDArray[np.integer]],
    genre: str | None = None,
    precision: Precision = "auto",
) -> list[PieceScore]:
    """The likelihood of each document's whole roll, every step given all before it and the genre. Where a piece ends is
    not asked. Notes are keys struck; measured are ``density_expected``, the keys that sound in a step on average by the
    network's chances, and ``density_found``, those that do.

    A roll says less than its document: one instrument, no velocities, 16th notes, 88 keys. Nats of the two do not
    compare.

    Raises:
        UnknownGenre: the vocabulary has no such genre.
    """
    number, context = genre_number(vocabulary, genre), network.config.context
    steps = [count_steps(document) for document in documents]
    order = sorted(range(len(steps)), key=steps.__getitem__)
    scores: dict[int, PieceScore] = {}
    training = network.training
    network.eval()
    for batch in _batches(order, steps.__getitem__, _BATCH_STEPS):
        longest = steps[batch[-1]]
        cells = np.zeros((len(batch), longest + 1, pianoroll.PLANES), dtype=bool)
        for row, index in enumerate(batch):  # what follows a roll's end changes nothing before it
            cells[row, : steps[index] + 1] = planes(whole(documents[index]))
        genres = torch.full((len(batch),), number, device=network.device)
        found = np.empty((3, len(batch), longest), dtype=np.float32)
        with autocast(network.device, precision):
            state = network.initial_state(len(batch), longest)
            for start in range(0, longest, context):
                part = torch.from_numpy(cells[:, start : start + context + 1]).to(network.device)
                logits, state = network.decode(part[:, :-1], state, genres)
                measured = (
                    pianoroll.nats(logits, part[:, 1:]),
                    pianoroll.expected_density(logits),
                    pianoroll.density(part[:, 1:]),
                )
                found[:, :, start : start + context] = torch.stack(measured).cpu().numpy()
        for row, index in enumerate(batch):
            nats, expected, sounding = found[:, row, : steps[index]]
            densities = {"density_expected": expected, "density_found": sounding}
            scores[index] = PieceScore(nats, int(cells[row, :, :KEYS].sum()), densities)
    network.train(training)
    return [scores[index] for index in range(len(steps))]


def bits_per_note(nats: Sequence[NDArray[np.float32]], notes: Sequence[int] | NDArray[np.number]) -> float:
    """Bits per note of all documents together (micro-averaged): sum of nats / ln 2 / number of notes.

    Documents without a note add their bits; nan where there is no note at all.
    """
    total = int(np.sum(notes))
    return float(sum(part.sum(dtype=np.float64) for part in nats)) / math.log(2) / total if total else math.nan


def _count_notes(document: NDArray[np.integer]) -> int:
    """Each note has one velocity."""
    velocities = RANGES["Velocity"]
    return int(np.count_nonzero((document >= velocities.start) & (document < velocities.stop)))


def _windows(
    index: int, document: NDArray[np.integer], prompt: NDArray[np.int64], eos: int, network: TokenNetwork
) -> Iterator[_Window]:
    body = np.append(document.astype(np.int64), eos)
    candidates = candidates_of(body)[:, : network.columns]
    nothing = np.full((len(prompt), network.columns), NO_CANDIDATE)
    reach = network.config.context - len(prompt) + 1  # tokens that a window can predict
    scored = 0
    for start in range(0, len(body), network.config.context // 2):
        end = min(start + reach, len(body))
        ids = np.concatenate([prompt, body[start : end - 1]])
        yield _Window(index, ids, np.concatenate([nothing, candidates[start : end - 1]]), body[scored:end], scored)
        scored = end
        if end == len(body):
            return


def _batches(items: Sequence[T], length: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Neighbours in a sequence sorted by length, about ``limit`` tokens or steps together."""
    batch: list[T] = []
    for item in items:
        if batch and (len(batch) + 1) * length(item) > limit:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
