"""Steps of training the tiny GPT in bfloat16 where that is fast, against PyTorch's own transformer layers in it."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import compare, options, show
from music_assets.models.build import build
from music_assets.models.config import NetworkConfig, network_config
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.config import TrainingConfig
from music_assets.training.optimizer import build_optimizers
from music_assets.training.precision import autocast, choose_device

STEPS = 8


class Plain(nn.Module):
    """nn.TransformerEncoder with a causal mask and learned positions, of the same layers, width, heads and context."""

    def __init__(self, config: NetworkConfig, vocabulary_size: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.embedding = nn.Embedding(vocabulary_size, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.head = nn.Linear(config.width, vocabulary_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], device=ids.device)
        return self.head(self.layers(x, mask, is_causal=True))


def main() -> None:
    chosen = options(__doc__)
    device, vocabulary, config = choose_device(), Vocabulary(), network_config("gpt", "tiny")
    settings = TrainingConfig.model_validate({})
    ids = torch.randint(vocabulary.size, (settings.batch_size, config.context + 1), device=device)
    ours = build(config, vocabulary.size).to(device)
    plain = Plain(config, vocabulary.size).to(device)

    def train(network: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        for _ in range(STEPS):
            with autocast(device):
                logits = cast(Tensor, network(ids[:, :-1]))
            F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    our_optimizers = list(build_optimizers(ours, settings))
    plain_optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(plain.parameters(), fused=True)]
    result = compare(
        "train_tokens_per_second",
        "tokens/s",
        STEPS * settings.batch_size * config.context,
        lambda: train(ours, our_optimizers),
        "nn.TransformerEncoder with AdamW",
        lambda: train(plain, plain_optimizers),
    )
    show([result], chosen.json)


if __name__ == "__main__":
    main()
