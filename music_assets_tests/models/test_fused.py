"""Each operation against PyTorch's own, and its gradient against finite differences."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from music_assets.models.fused import attention, norm, norm_and_rotate, squared_relu


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


def angles(t: int, half: int) -> torch.Tensor:
    return torch.arange(t, dtype=torch.float64)[:, None] * 10_000 ** -(torch.arange(half) / half)


def test_norm():
    x = random(3, 5, 8)
    assert torch.allclose(norm(x), F.rms_norm(x, (8,)), atol=1e-6)
    assert gradcheck(norm, (x,))
    assert norm(x.detach().bfloat16()).dtype == torch.bfloat16
    assert torch.equal(norm(torch.zeros(2, 4)), torch.zeros(2, 4))


def test_rotation_turns_pairs_by_their_angle():
    x = random(2, 5, 2, 3, 8)
    angle = angles(5, 4)
    turned = norm_and_rotate(x, angle.cos(), angle.sin())
    a, b = F.rms_norm(x, (8,)).unflatten(-1, (4, 2)).unbind(-1)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    expected = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
    assert torch.allclose(turned, expected, atol=1e-6)
    assert gradcheck(lambda x: norm_and_rotate(x, angle.cos(), angle.sin()), (x,))


def test_squared_relu():
    x = random(4, 6)
    assert torch.equal(squared_relu(x), F.relu(x).square())
    assert gradcheck(squared_relu, (x,))


@pytest.mark.parametrize("seen", [0, 3])
def test_attention(seen: int):
    q, k, v = random(4, 5, 8), random(4, 5 + seen, 8) * 0.7, random(4, 5 + seen, 8) + 1
    added = torch.full((5, 5 + seen), -torch.inf, dtype=torch.float64).triu(seen + 1).expand(4, -1, -1)
    expected = F.scaled_dot_product_attention(q, k, v, added)
    assert torch.allclose(attention(q, k, v, added), expected)
    assert gradcheck(lambda q, k, v: attention(q, k, v, added), (q, k, v))
