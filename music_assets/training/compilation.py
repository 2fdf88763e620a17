"""Whether to compile a network with torch.compile."""

import logging
from functools import cache

import torch
from torch import nn

from music_assets.models.registry import find_architecture
from music_assets.training.settings import TrainingSettings

_MINUTES, _TOKENS = 2.0, 3_000_000
"""Budgets from which on compiling, half a minute on two cores, is made up for by a quarter less time a step."""

_logger = logging.getLogger(__name__)


def should_compile(config: TrainingSettings, architecture: str, device: torch.device) -> bool:
    """Whether to compile: as configured, or else where it makes the training faster and the system can do it.

    Recurrent networks are one operation of PyTorch that cannot be made faster. A short training would end sooner than
    the compilation is made up for.
    """
    if config.compile is not None:
        return config.compile
    long_enough = (config.minutes or 0) >= _MINUTES or (config.minutes is None and (config.tokens or 0) >= _TOKENS)
    return find_architecture(architecture).worth_compiling and long_enough and can_compile(device)


@cache
def can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds what it needs: a C++ compiler and Python's header files. Says so if not."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001, it has no exception of its own for what is missing
        reason = str(error).strip().splitlines()[0]
        _logger.warning(
            "The network is not compiled, and each step takes half as long again: install a C++ compiler and Python's "
            "header files (Debian: g++ and python3-dev) for torch.compile. It said: %s",
            reason,
        )
        return False
    return True


def has_finite_gradients(network: nn.Module) -> bool:
    """Whether a compiled network's gradients are numbers; says so if not, for some compilers' code is wrong on some
    processors.
    """
    finite = all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)
    if not finite:
        _logger.warning(
            "The network is trained without torch.compile, whose gradients are no numbers on this processor; each step "
            "takes longer."
        )
    return finite
