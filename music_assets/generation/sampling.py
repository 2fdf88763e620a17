"""Drawing token sequences from a network: batched, with a key/value cache, masked by the grammar."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from music_assets.generation.config import SamplingConfig
from music_assets.models.network import State, TokenNetwork
from music_assets.tokens.grammar import Array, Grammar
from music_assets.tokens.repeats import FACTOR, NO_CANDIDATE
from music_assets.tokens.vocabulary import Vocabulary

Ending = Literal["eos", "bars", "tokens"]


@dataclass(frozen=True)
class Drawn:
    """One sampled document, without prompt and end mark, cut at its last bar line where a limit ended it."""

    ids: NDArray[np.uint16]
    ended: Ending  # by the network's end mark, or by the limit of bars or tokens


def keep_likeliest(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Logits [B, V] at a temperature, with −inf for what top-k and top-p leave out.

    Top-p keeps the smallest set of likeliest tokens whose probabilities reach ``top_p``: the token that crosses it
    stays, so at least one always does (Holtzman et al. 2020). Top-k, counted first, keeps ties of the k-th.
    """
    logits = logits / temperature
    if top_k:
        kth = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probability = ordered.softmax(dim=-1)
        before = probability.cumsum(dim=-1) - probability
        dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(dropped, -torch.inf)
    return logits


def keep_allowed(logits: Tensor, grammar: Grammar, state: Array) -> Tensor:
    """Logits float32[B, V] with −inf for every id that may not follow; ``grammar`` is on their device."""
    return torch.where(grammar.allowed(state), logits.float(), -torch.inf)


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One token id a row [B] from logits [B, V]: the smallest of exponential clocks, which needs no sync."""
    clocks = torch.empty_like(logits).exponential_(generator=generator)
    return (logits.softmax(dim=-1) / clocks).argmax(dim=-1)


@torch.inference_mode()
def sample(
    network: TokenNetwork,
    vocabulary: Vocabulary,
    genre: str | None,
    config: SamplingConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Drawn]:
    """Draw ``config.count`` documents of a genre; the same arguments on the same device give the same documents.

    Args:
        genre: None draws without a genre prompt.
        progress: called with tokens a row so far and at most, now and then.

    Raises:
        UnknownGenre: the vocabulary knows no such genre.
    """
    device = network.device
    grammar = Grammar(lambda table: torch.as_tensor(table, device=device))
    generator = torch.Generator(device).manual_seed(config.seed)
    bar, eos, pad = vocabulary.ranges["Bar"].start, vocabulary.eos, vocabulary.pad

    prompt = torch.tensor(vocabulary.prompt(genre), device=device).expand(config.count, -1)  # [B, P]
    written = torch.full((config.count, config.max_tokens), pad, dtype=torch.long, device=device)
    bars = torch.zeros(config.count, dtype=torch.long, device=device)
    finished = torch.zeros(config.count, dtype=torch.bool, device=device)
    full = torch.zeros_like(finished)  # ended by the limit of bars

    repeats = Repeats(config.count, config.max_tokens, network.match_lengths, device)
    automaton = grammar.initial_state(config.count)
    logits, state = _prefill(network, prompt)
    length = 0
    while True:
        logits = keep_allowed(logits, grammar, automaton)
        token = draw(keep_likeliest(logits, config.temperature, config.top_k, config.top_p), generator)
        full |= (token == bar) & (bars == config.max_bars)
        token = torch.where(full & ~finished, eos, token).masked_fill(finished, pad)
        finished |= token == eos
        bars += token == bar
        written[:, length] = token
        length += 1
        if length % 64 == 0:
            progress(length, config.max_tokens)
        if length == config.max_tokens or bool(finished.all()):
            break
        automaton = grammar.advance(automaton, token)
        repeats.append(token)
        if state.fits(1):
            logits, state = _step(network, token[:, None], state, repeats.found[:, length - 1 : length])
        else:
            # Out of room: begin again with the prompt and the last part of what was written.
            recent = slice(length - network.config.context // 2, length)
            found = F.pad(repeats.found[:, recent], (0, 0, prompt.shape[1], 0), value=NO_CANDIDATE)
            logits, state = _prefill(network, torch.cat([prompt, written[:, recent]], dim=1), found)

    rows = written[:, :length].cpu().numpy()
    endings: list[Ending] = [
        "bars" if by_bars else "eos" if done else "tokens"
        for by_bars, done in zip(full.tolist(), finished.tolist(), strict=True)
    ]
    return [_drawn(row, ending, bar, eos) for row, ending in zip(rows, endings, strict=True)]


class Repeats:
    """The :func:`music_assets.tokens.repeats.repeat_candidates` of rows that grow, on their device."""

    def __init__(self, rows: int, capacity: int, match_lengths: Sequence[int], device: torch.device) -> None:
        self.match_lengths = match_lengths
        self.length = 0
        self.found = torch.full((rows, capacity, len(match_lengths)), NO_CANDIDATE, device=device)
        self._ids = torch.zeros((rows, capacity), dtype=torch.long, device=device)
        self._keys = torch.zeros((len(match_lengths), rows, capacity), dtype=torch.long, device=device)
        self._factors = torch.tensor(
            [pow(FACTOR, i, 1 << 62) for i in range(max(match_lengths, default=0))], device=device
        )

    def append(self, ids: Tensor) -> None:
        """One id more for each row [B]."""
        self._ids[:, self.length] = ids
        self.length += 1
        for column, matched in enumerate(self.match_lengths):
            places = self.length - matched  # at which as many ids stood before
            if places < 0:
                return
            key = (self._ids[:, places : self.length] * self._factors[:matched]).sum(-1)  # a hash modulo 2**64
            self._keys[column, :, places] = key
            if places:
                same = self._keys[column, :, :places] == key[:, None]  # [B, places]
                latest = (same * torch.arange(1, places + 1, device=ids.device)).amax(-1)  # 0 for none
                following = self._ids.gather(1, (latest[:, None] + matched - 1)).squeeze(1)
                self.found[:, self.length - 1, column] = torch.where(latest > 0, following, NO_CANDIDATE)


def _prefill(network: TokenNetwork, ids: Tensor, candidates: Tensor | None = None) -> tuple[Tensor, State]:
    return _step(network, ids, network.initial_state(ids.shape[0], network.config.context), candidates)


def _step(network: TokenNetwork, ids: Tensor, state: State, candidates: Tensor | None) -> tuple[Tensor, State]:
    logits, state = network.decode(ids, state, candidates)
    return logits[:, -1], state


def _drawn(row: NDArray[np.int64], ending: Ending, bar: int, eos: int) -> Drawn:
    if ending == "tokens":
        lines = np.flatnonzero(row == bar)
        row = row[: lines[-1]] if lines.size > 1 else row
    else:
        row = row[: int(np.argmax(row == eos))]
    return Drawn(row.astype(np.uint16), ending)
