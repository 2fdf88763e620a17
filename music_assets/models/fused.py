"""Operations of the transformer with their gradients written out: fewer passes over memory than autograd would make.

On a CPU these passes take longer than the matrix products. None can be differentiated twice.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_EPSILON = torch.finfo(torch.float32).eps


def norm(x: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last dimension, without weights."""
    return _Norm.apply(x)


def norm_and_rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As :func:`norm`, then rotary position embedding of [..., T, N, H, D] by cos, sin [T, D/2] (Su et al. 2021).

    It turns neighbours, numbers 2i and 2i + 1 of the last dimension, by angle i.
    """
    return _NormAndRotate.apply(x, cos[:, None, None], sin[:, None, None])


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)² (So et al. 2021)."""
    return _SquaredReLU.apply(x)


def attention(q: Tensor, k: Tensor, v: Tensor, added: Tensor) -> Tensor:
    """softmax(q kᵀ / √D + added) v, of q [N, t, D], k, v [N, S, D], added [N, t, S], which gets no gradient."""
    return _Attention.apply(q, k, v, added)


def _inverse_size(x: Tensor) -> Tensor:
    """One over the root of the last dimension's mean square."""
    return torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + _EPSILON)


def _norm_gradient(g: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Of y = x · scale, back to x: (g − y · mean(g · y)) · scale."""
    dot = torch.einsum("...d,...d->...", g, y)[..., None]
    return torch.addcmul(g, y, dot, value=-1 / y.shape[-1]).mul_(scale)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = _wide(x)
        scale = _inverse_size(wide)
        y = wide * scale
        ctx.save_for_backward(y, scale)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, scale = ctx.saved_tensors
        return _norm_gradient(g.to(y.dtype), y, scale).to(g.dtype)


class _NormAndRotate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        wide = _wide(x)
        scale = _inverse_size(wide)
        y = wide * scale
        ctx.save_for_backward(y, scale, cos, sin)
        return _rotate(y, cos, sin).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, scale, cos, sin = ctx.saved_tensors
        return _norm_gradient(_rotate(g.to(y.dtype), cos, -sin), y, scale).to(g.dtype), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pairs = x.unflatten(-1, (-1, 2))
    # One pass; of what follows torch.compile makes one, which it cannot of complex numbers.
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        turn = torch.complex(cos.to(x.dtype), sin.to(x.dtype))
        return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)
    a, b = pairs.unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class _SquaredReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (positive,) = ctx.saved_tensors
        return torch.mul(g, positive).mul_(2)


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, added: Tensor) -> Tensor:
        weights = torch.baddbmm(added, q, k.mT, alpha=q.shape[-1] ** -0.5).softmax(-1)  # [N, t, S]
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, weights = ctx.saved_tensors
        back = torch._softmax_backward_data(g @ v.mT, weights, -1, weights.dtype)  # pyright: ignore[reportPrivateImportUsage]
        scale = q.shape[-1] ** -0.5
        gq = torch.baddbmm(q, back, k, beta=0, alpha=scale)
        gk = torch.baddbmm(k, back.mT, q, beta=0, alpha=scale)
        return gq, gk, weights.mT @ g, None
