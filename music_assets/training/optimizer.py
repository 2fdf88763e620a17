"""Optimisers and the learning rate's course."""

import torch
from torch import nn

from music_assets.models.network import Network
from music_assets.training.config import TrainingConfig


def build_optimizers(network: Network, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the matrices inside the layers and AdamW for the rest.

    Matrices inside the layers decay; embeddings, output layer and biases do not. Muon's updates are scaled to
    the size of AdamW's (Liu et al. 2025), so that both take the same learning rate.
    """
    outer = {id(network.embedding.weight), id(network.head.weight)}
    matrices = [p for p in network.parameters() if p.ndim == 2 and id(p) not in outer]
    inner = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in inner]

    def adamw(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            parameters, config.learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True
        )

    if config.optimizer == "adamw":
        return [adamw(matrices, config.weight_decay), adamw(others, 0.0)]
    muon = torch.optim.Muon(
        matrices, config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, adamw(others, 0.0)]


def rate(fraction: float, config: TrainingConfig) -> float:
    """Learning rate after a fraction of the budget, as a share of the peak: up, then down, both linear."""
    if fraction < config.warmup:
        return fraction / config.warmup
    return max(0.0, 1 - (fraction - config.warmup) / (1 - config.warmup)) * (1 - config.final_rate) + config.final_rate
