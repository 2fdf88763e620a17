# torch's functions are typed in part
# pyright: reportUnknownMemberType=false
"""Decoding rows by the network itself, on any device."""

import numpy as np
import torch
from numpy.typing import NDArray

from music_assets.models.network import State, TokenNetwork
from music_assets.tokens.memory import NO_CANDIDATE

TOGETHER = 8
"""Rows that a CPU decodes together, always: with more or fewer its matrix products may add in another order, and a row
would depend on how many others there are."""


def together(rows: int, device: torch.device) -> list[slice]:
    """The groups in which rows are decoded; on a CPU there may be some more of them, to be made up."""
    size = TOGETHER if device.type == "cpu" else rows
    return [slice(first, first + size) for first in range(0, rows, size)]


class TorchDecoder:
    """Decodes with the network's own ``decode``: on any device, any network."""

    def __init__(self, network: TokenNetwork, rows: int, capacity: int) -> None:
        self.network = network
        self._device = network.device
        self._groups = together(rows, network.device)
        self._state = network.initial_state(self._groups[-1].stop, capacity)
        self.lengths = self._state.lengths.numpy()[:rows]

    def can_go_on(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See :meth:`music_assets.models.network.Decoder.can_go_on`."""
        capacity = self._state.capacity
        begun = self.lengths[rows] > 0
        return begun if capacity is None else begun & (self.lengths[rows] < capacity)

    def begin(self, row: int) -> None:
        """See :meth:`music_assets.models.network.Decoder.begin`."""
        self._state.lengths[row] = 0
        for tensor in self._state.tensors:
            tensor[:, row] = 0

    def copy(self, source: int, target: int) -> None:
        """See :meth:`music_assets.models.network.Decoder.copy`."""
        self._state.lengths[target] = self._state.lengths[source]
        for tensor in self._state.tensors:
            tensor[:, target] = tensor[:, source]

    @torch.no_grad()
    def advance(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], ids: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See :meth:`music_assets.models.network.Decoder.advance`.

        Rows of one token more are decoded together, others one by one.
        """
        logits = np.empty((len(rows), self.network.vocab_size), np.float32)
        first = np.cumsum(counts) - counts
        single = counts == 1
        if single.any():
            logits[single] = self._step(rows[single], ids[first[single]], candidates[first[single]])
        for index in np.flatnonzero(~single):
            part = slice(first[index], first[index] + counts[index])
            logits[index] = self._read(int(rows[index]), ids[part], candidates[part])
        return logits

    def _step(
        self, rows: NDArray[np.int64], ids: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """One token more of some rows."""
        logits = np.empty((len(rows), self.network.vocab_size), np.float32)
        for group in self._groups:
            here = (rows >= group.start) & (rows < group.stop)
            if here.any():
                logits[here] = self._step_together(group, rows[here] - group.start, ids[here], candidates[here])
        return logits

    def _step_together(
        self, group: slice, rows: NDArray[np.int64], ids: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The network decodes all rows of a group, and what it says and keeps of those not asked for is dropped."""
        state = self._part(group)
        all_ids = torch.zeros(len(state.lengths), 1, dtype=torch.int64)
        all_candidates = torch.full((*all_ids.shape, candidates.shape[1]), NO_CANDIDATE)
        chosen = torch.from_numpy(rows)
        all_ids[chosen, 0], all_candidates[chosen, 0] = torch.from_numpy(ids), torch.from_numpy(candidates)
        logits, after = self.network.decode(all_ids.to(self._device), state, all_candidates.to(self._device))
        if after.tensors is not state.tensors:  # else what was written for the others lies behind their end
            for kept, new in zip(state.tensors, after.tensors, strict=True):
                kept[:, chosen] = new[:, chosen]
        state.lengths[chosen] += 1
        return logits[chosen, -1].float().cpu().numpy()

    def _read(self, row: int, ids: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """Several tokens of one row."""
        own = self._part(slice(row, row + 1))
        logits, after = self.network.decode(
            torch.from_numpy(ids)[None].to(self._device), own, torch.from_numpy(candidates)[None].to(self._device)
        )
        for kept, new in zip(own.tensors, after.tensors, strict=True):
            if new is not kept:
                kept.copy_(new)
        own.lengths += len(ids)
        return logits[0, -1].float().cpu().numpy()

    def _part(self, rows: slice) -> State:
        """Some rows of the state, not copied."""
        state = self._state
        return State(tuple(tensor[:, rows] for tensor in state.tensors), state.lengths[rows], state.capacity)
