# numba has no types
# pyright: standard
"""A GPT on a CPU, compiled: rows that grow token by token, each on its own.

At a few million weights PyTorch spends most of a step on its way to the processor. Here a step is one call, and what a
row is told depends on that row alone, to the last bit: neither on the other rows nor on the parts in which it came.
"""

import math
import threading
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from music_assets.foundation.compiling import njit
from music_assets.models.gpt import GPT, PROMPT_GAIN, PROMPT_IDS
from music_assets.models.network import CapacityExceeded, Network
from music_assets.tokens.memory import COLUMNS, LEVELS, NO_CANDIDATE
from music_assets.tokens.vocabulary import SIZE

_FIRST_PROMPT_ID = PROMPT_IDS.start
_EPSILON = np.float32(np.finfo(np.float32).eps)  # of torch's rms_norm
# A product takes 4 rows of x, 4 of w and so many columns at a time: what a processor's registers and first cache hold.
_BLOCK = 64
_SECOND, _THIRD, _FOURTH = np.uintp(_BLOCK), np.uintp(2 * _BLOCK), np.uintp(3 * _BLOCK)

_LOG2_E = np.float32(1 / np.log(2))
_SERIES = np.array([np.log(2) ** k / math.factorial(k) for k in range(7)], np.float32)  # of 2**x

_FLOATS = tuple(types.Array(types.float32, dimensions, "C") for dimensions in range(6))
_INTS, _TABLE = types.int64[::1], types.int64[:, ::1]


class GPTDecoder:
    """Keys and values of ``rows`` rows of up to ``capacity`` tokens, in float32.

    The network's weights are copied when its first decoder is made, and for all of its decoders until they change.
    """

    def __init__(self, network: GPT, rows: int, capacity: int) -> None:
        config = network.config
        self.lengths = np.zeros(rows, np.int64)
        shape = (config.layers, rows, config.heads, capacity, config.width // config.heads)
        self._keys, self._values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._said = np.zeros((rows, config.width), np.float32)  # of what the music is to be
        self._weights = _packed_weights(network)
        cos, sin = network.angles(capacity)
        self._angles = cos.cpu().float().numpy().copy(), sin.cpu().float().numpy().copy()

    def can_go_on(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See :meth:`music_assets.models.network.Decoder.can_go_on`."""
        return (self.lengths[rows] > 0) & (self.lengths[rows] < self._keys.shape[3])

    def begin(self, row: int) -> None:
        """Forget a row."""
        self.lengths[row] = 0
        self._said[row] = 0

    def copy(self, source: int, target: int) -> None:
        """Let a row be as another one."""
        length = self.lengths[target] = self.lengths[source]
        self._said[target] = self._said[source]
        for cache in (self._keys, self._values):
            cache[:, target, :, :length] = cache[:, source, :, :length]

    def advance(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], ids: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See :meth:`music_assets.models.network.Decoder.advance`."""
        if (self.lengths[rows] + counts).max() > self._keys.shape[3]:
            raise CapacityExceeded(
                f"A row has room for {self._keys.shape[3]} tokens: begin it anew with its last part."
            )
        first = np.cumsum(counts) - counts
        row = np.repeat(rows, counts)
        place = np.arange(len(ids)) - np.repeat(first, counts) + self.lengths[row]
        logits = decode(
            np.ascontiguousarray(ids), row, place, np.ascontiguousarray(candidates), first + counts - 1,
            self._weights, self._angles, self._keys, self._values, self._said,
        )  # fmt: skip
        self.lengths[rows] += counts
        return logits


_packed: "WeakKeyDictionary[GPT, tuple[list[Tensor], tuple[NDArray[np.float32], ...]]]" = WeakKeyDictionary()
_packing = threading.Lock()


def _packed_weights(network: GPT) -> tuple[NDArray[np.float32], ...]:
    """:func:`_pack_weights`, packed once as long as the weights stay the same.

    They are compared, which is quick beside packing: a tensor's version does not tell, since fused optimisers write
    without raising it.
    """
    weights = [weight.detach() for weight in network.parameters()]
    with _packing:
        if network not in _packed or not all(map(torch.equal, _packed[network][0], weights)):
            _packed[network] = [weight.clone() for weight in weights], _pack_weights(network)
        return _packed[network][1]


def forget(network: Network) -> None:
    """Keep no packed weights of a network that writes no more."""
    with _packing:
        if isinstance(network, GPT):
            _packed.pop(network, None)


def _pack_weights(network: GPT) -> tuple[NDArray[np.float32], ...]:
    """Embeddings [V, W], of memory [ROWS or 0, W] and of ``PROMPT_IDS`` [P or 0, W]; the layers' products, each with a
    first dimension of layers, and the head, as :func:`pack` arranges them."""

    def numpy(tensor: Any) -> NDArray[np.float32]:
        return np.ascontiguousarray(tensor.detach().float().cpu().numpy())

    layers = (
        np.stack([pack(numpy(getattr(block, name).weight).T) for block in network.blocks])
        for name in ("qkv", "out", "up", "down")
    )
    memory = network.memory.embedding.weight if network.memory else torch.empty(0, network.config.width)
    embeddings = (network.embedding.weight, memory, PROMPT_GAIN * network.prompt_embedding.weight)
    return *(numpy(one) for one in embeddings), *layers, pack(numpy(network.head.weight).T)


def pack(w: NDArray[np.float32]) -> NDArray[np.float32]:
    """``w`` [k, n] as :func:`add_product` reads it, [blocks of columns, k / 4, 4 * columns of a block]: k a multiple of
    4, zeros behind the last column."""
    k, n = w.shape
    blocks = -(-n // _BLOCK)
    padded = np.zeros((k, blocks * _BLOCK), np.float32)
    padded[:, :n] = w
    return np.ascontiguousarray(padded.reshape(k // 4, 4, blocks, _BLOCK).transpose(2, 0, 1, 3)).reshape(
        blocks, k // 4, 4 * _BLOCK
    )


@njit(types.void(_FLOATS[2], _FLOATS[3], _FLOATS[2]), nogil=True, fastmath=True)
def add_product(x, w, out):
    """Add ``x`` [m, k] @ ``w`` (packed from [k, n]) to ``out`` [m, n].

    A row is the same among any others, for there are always 4 at a time, of zeros where there is none. Where all sums
    lie in one array and all of ``w`` in another, a fixed way apart, LLVM sees that they do not overlap.
    """
    rows, columns = out.shape
    sums, zeros = np.empty(4 * _BLOCK, np.float32), np.zeros(x.shape[1], np.float32)
    for block in range(len(w)):
        start = block * _BLOCK
        for first in range(0, rows, 4):
            x0 = x[first]
            x1 = x[first + 1] if first + 1 < rows else zeros
            x2 = x[first + 2] if first + 2 < rows else zeros
            x3 = x[first + 3] if first + 3 < rows else zeros
            sums[:] = 0
            for k in range(w.shape[1]):
                part, i = w[block, k], 4 * k
                a0, a1, a2, a3 = x0[i], x0[i + 1], x0[i + 2], x0[i + 3]
                b0, b1, b2, b3 = x1[i], x1[i + 1], x1[i + 2], x1[i + 3]
                c0, c1, c2, c3 = x2[i], x2[i + 1], x2[i + 2], x2[i + 3]
                d0, d1, d2, d3 = x3[i], x3[i + 1], x3[i + 2], x3[i + 3]
                for n in range(np.uintp(_BLOCK)):  # unsigned, so that no index can be negative
                    w0, w1, w2, w3 = part[n], part[_SECOND + n], part[_THIRD + n], part[_FOURTH + n]
                    sums[n] += (a0 * w0 + a1 * w1) + (a2 * w2 + a3 * w3)
                    sums[_SECOND + n] += (b0 * w0 + b1 * w1) + (b2 * w2 + b3 * w3)
                    sums[_THIRD + n] += (c0 * w0 + c1 * w1) + (c2 * w2 + c3 * w3)
                    sums[_FOURTH + n] += (d0 * w0 + d1 * w1) + (d2 * w2 + d3 * w3)
            for row in range(min(rows - first, 4)):
                for n in range(min(columns - start, _BLOCK)):
                    out[first + row, start + n] += sums[row * _BLOCK + n]


@njit(types.void(_FLOATS[1], _FLOATS[1]), nogil=True, fastmath=True)
def norm(x, out):
    """:func:`music_assets.models.gpt.norm`."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    scale = np.float32(1) / np.sqrt(total / np.float32(len(x)) + _EPSILON)
    for i in range(len(x)):
        out[i] = x[i] * scale


@njit(
    types.void(_FLOATS[1], _FLOATS[1], _FLOATS[1], _FLOATS[1]),
    nogil=True, fastmath=True,
)  # fmt: skip
def normed_and_rotated(x, cos, sin, out):
    """:func:`music_assets.models.gpt.rotate` of the norm of a head's vector."""
    norm(x, out)
    half = len(x) // 2
    for i in range(half):
        a, b = out[i], out[half + i]
        out[i] = a * cos[i] - b * sin[i]
        out[half + i] = a * sin[i] + b * cos[i]


@njit(types.float32(_FLOATS[1], types.int64, types.int32[::1]), nogil=True, fastmath=True)
def exponentiate(x, length, bits):
    """Let the first ``length`` of x, none above 0, be their exponentials, and return their sum; ``bits`` is scratch.

    A loop over a library's exp is not vectorised. 2**y is its nearest whole power, by the exponent's bits, times the
    Taylor series of the rest, to the last bit or two of float32.
    """
    for i in range(length):
        y = max(x[i] * _LOG2_E, np.float32(-126))
        whole = np.rint(y)
        bits[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        rest = y - whole
        power = _SERIES[6]
        for k in range(5, -1, -1):
            power = power * rest + _SERIES[k]
        x[i] = power
    powers = bits.view(np.float32)
    total = np.float32(0)
    for i in range(length):
        x[i] *= powers[i]
        total += x[i]
    return total


@njit(
    types.void(_FLOATS[1], _FLOATS[2], _FLOATS[2], types.int64, _FLOATS[1], types.int32[::1], _FLOATS[1]),
    nogil=True, fastmath=True,
)  # fmt: skip
def attend(q, keys, values, length, scores, bits, out):
    """Attention of one query [d] over the first ``length`` keys and values [c, d]; ``scores``, ``bits`` are scratch."""
    scale = np.float32(1 / np.sqrt(len(q)))
    highest = np.float32(-3e38)
    for c in range(length):
        score = np.float32(0)
        key = keys[c]
        for i in range(len(q)):
            score += q[i] * key[i]
        scores[c] = score * scale
        highest = max(highest, scores[c])
    for c in range(length):
        scores[c] -= highest
    total = exponentiate(scores, length, bits)
    for c in range(length):
        scores[c] /= total
    out[:] = 0
    fours = length // 4 * 4
    for c in range(0, fours, 4):
        s0, s1, s2, s3 = scores[c], scores[c + 1], scores[c + 2], scores[c + 3]
        v0, v1, v2, v3 = values[c], values[c + 1], values[c + 2], values[c + 3]
        for i in range(len(q)):
            out[i] += (s0 * v0[i] + s1 * v1[i]) + (s2 * v2[i] + s3 * v3[i])
    for c in range(fours, length):
        score, value = scores[c], values[c]
        for i in range(len(q)):
            out[i] += score * value[i]


@njit(
    _FLOATS[2](
        _INTS, _INTS, _INTS, _TABLE, _INTS,
        types.Tuple((*(_FLOATS[2],) * 3, *(_FLOATS[4],) * 4, _FLOATS[3])),
        types.UniTuple(_FLOATS[2], 2), _FLOATS[5], _FLOATS[5], _FLOATS[2],
    ),
    nogil=True, fastmath=True,
)  # fmt: skip
def decode(ids, rows, places, candidates, last, weights, angles, keys, values, said):
    """The logits float32[len(last), V] that follow some of the tokens, which stand at ``places`` of ``rows``.

    Of a row the tokens come in their order, and those before them are in ``keys`` and ``values``
    [layers, rows, heads, capacity, d] already, to which these are added; and what has been ``said`` [rows, W] of the
    music, to which they add.
    """
    embedding, memory, prompt_embedding, qkv, out, up, down, head = weights
    cos, sin = angles
    width, vocabulary = embedding.shape[1], embedding.shape[0]
    layers, _, heads, capacity, size = keys.shape
    x, h = np.empty((len(ids), width), np.float32), np.empty((len(ids), width), np.float32)
    wide, deep = np.empty((len(ids), 3 * width), np.float32), np.empty((len(ids), 4 * width), np.float32)
    query, scores, bits = np.empty(size, np.float32), np.empty(capacity, np.float32), np.empty(capacity, np.int32)
    for m in range(len(ids)):
        number = ids[m] - _FIRST_PROMPT_ID
        if 0 <= number < len(prompt_embedding):
            said[rows[m]] += prompt_embedding[number]
        x[m] = embedding[ids[m]]
        for column in range(candidates.shape[1]):
            if candidates[m, column] != NO_CANDIDATE:
                level, candidate = divmod(candidates[m, column], SIZE)
                x[m] += memory[column * SIZE + candidate]
                x[m] += memory[COLUMNS * SIZE + column * LEVELS + level]
        norm(x[m], x[m])
        x[m] += said[rows[m]]
    for layer in range(layers):
        for m in range(len(ids)):
            norm(x[m], h[m])
        wide[:] = 0
        add_product(h, qkv[layer], wide)
        for m in range(len(ids)):
            for n in range(heads):
                part = wide[m, width + n * size : width + (n + 1) * size]
                normed_and_rotated(part, cos[places[m]], sin[places[m]], keys[layer, rows[m], n, places[m]])
                values[layer, rows[m], n, places[m]] = wide[m, 2 * width + n * size : 2 * width + (n + 1) * size]
        if layer == layers - 1:  # from here on only the tokens matter whose logits are asked for
            x, wide, rows, places = x[last], wide[last], rows[last], places[last]
            h, deep = np.empty((len(last), width), np.float32), np.empty((len(last), 4 * width), np.float32)
        for m in range(len(x)):
            for n in range(heads):
                normed_and_rotated(wide[m, n * size : (n + 1) * size], cos[places[m]], sin[places[m]], query)
                attend(
                    query, keys[layer, rows[m], n], values[layer, rows[m], n], places[m] + 1, scores, bits,
                    h[m, n * size : (n + 1) * size],
                )  # fmt: skip
        add_product(h, out[layer], x)
        for m in range(len(x)):
            norm(x[m], h[m])
        deep[:] = 0
        add_product(h, up[layer], deep)
        for m in range(len(x)):
            for n in range(deep.shape[1]):
                raised = max(deep[m, n], np.float32(0))
                deep[m, n] = raised * raised
        add_product(deep, down[layer], x)
    for m in range(len(x)):
        norm(x[m], h[m])
    logits = np.zeros((len(last), vocabulary), np.float32)
    add_product(h, head, logits)
    return logits
