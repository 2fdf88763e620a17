"""Optimisers and the learning-rate schedule."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from music_assets.models.network import Network
from music_assets.models.registry import find_architecture
from music_assets.training.precision import fast_bfloat16
from music_assets.training.settings import TrainingSettings

PEAK_RATES = {"muon": 0.016, "adamw": 0.004}
"""Peak learning rates. Of the powers of two around them, these needed the fewest bits a note in short trainings."""


def resolve_defaults(config: TrainingSettings, architecture: str) -> TrainingSettings:
    """The configuration with the optimiser and the peak learning rate that suit the network, where they are open.

    A GPT learns as much from a token with AdamW as with Muon, in less time; recurrent networks a good deal less
    (benchmarks/training.md).
    """
    optimizer = find_architecture(architecture).optimizer if config.optimizer == "auto" else config.optimizer
    learning_rate = PEAK_RATES[optimizer] if config.learning_rate is None else config.learning_rate
    return config.model_copy(update={"optimizer": optimizer, "learning_rate": learning_rate})


def build_optimizers(network: Network, config: TrainingSettings) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the matrices inside the layers and AdamW for the rest.

    Matrices inside the layers decay; embeddings, output layer and biases do not. Muon's updates are scaled to
    the size of AdamW's (Liu et al. 2025), so that both take the same learning rate.
    """
    config = resolve_defaults(config, network.config.architecture)
    learning_rate = config.learning_rate
    assert learning_rate is not None
    outer = {id(part.weight) for part in network.modules() if isinstance(part, nn.Embedding)} | {
        id(network.head.weight)
    }
    matrices = [p for p in network.parameters() if p.ndim == 2 and id(p) not in outer]
    inner = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in inner]

    def adamw(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
        return torch.optim.AdamW(parameters, learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)

    if config.optimizer == "adamw":
        return [adamw(matrices, config.weight_decay), adamw(others, 0.0)]
    return [Muon(matrices, learning_rate, config.weight_decay), adamw(others, 0.0)]


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024), with Nesterov's step.

    Each update has a root mean square of 0.2 times the learning rate, about AdamW's (Liu et al. 2025, equation 4).
    Matrices of one size, turned or not, are made orthogonal together. ``torch.optim.Muon`` gives the same updates, but
    multiplies in bfloat16 on every device: on a CPU that has no instructions for it, thirty times as slow as float32.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        """``parameters`` are matrices.

        Raises:
            ValueError: one is not.
        """
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for parameter in self._all():
            if parameter.ndim != 2:
                raise ValueError(f"Muon takes matrices, not a weight of shape {tuple(parameter.shape)}.")

    def _all(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every weight that has a gradient."""
        loss = closure() if closure else None
        for group in self.param_groups:
            self._move([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])  # pyright: ignore[reportPrivateImportUsage]
        updates = torch._foreach_lerp(gradients, buffers, group["momentum"])  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
        inner_type = torch.bfloat16 if fast_bfloat16(updates[0].device) else updates[0].dtype
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, p in enumerate(parameters):
            by_size.setdefault(tuple(sorted(p.shape)), []).append(index)
        for size, indices in by_size.items():
            wide = torch.stack([_wide(updates[index].to(inner_type)) for index in indices])
            scale = -group["lr"] * 0.2 * size[1] ** 0.5
            for index, matrix in zip(indices, orthogonal(wide), strict=True):
                p = parameters[index]
                p.add_(matrix if p.shape[0] <= p.shape[1] else matrix.T, alpha=scale)


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Wide matrices [N, R, C], R <= C, with all singular values brought near 1 (between about 0.7 and 1.2).

    Newton-Schulz's iteration of order five with Jordan's coefficients, which bfloat16 is exact enough for.
    """
    x = matrices / (torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(steps):
        gram = x @ x.mT  # [N, R, R]
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        x = polynomial @ x
    return x


def state_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What the optimisers remember, by `number of the optimiser.number of the weight.name`."""
    return {
        f"{index}.{parameter}.{name}": tensor
        for index, optimizer in enumerate(optimizers)
        for parameter, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def load_state_tensors(optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """The inverse of :func:`state_tensors`."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, tensor in tensors.items():
        index, parameter, name = key.split(".")
        states[int(index)].setdefault(int(parameter), {})[name] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def learning_rate_schedule(fraction: float, config: TrainingSettings) -> float:
    """Learning rate after a fraction of the budget, as a share of the peak: up, then down, both linear."""
    if fraction < config.warmup:
        return fraction / config.warmup
    return max(0.0, 1 - (fraction - config.warmup) / (1 - config.warmup)) * (1 - config.final_rate) + config.final_rate
