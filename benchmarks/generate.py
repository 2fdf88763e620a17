"""Sampling with a key/value cache, against the same network computing the whole row again for every token."""

import torch

from benchmarks.harness import compare, options, show
from music_assets.generation.config import SamplingConfig
from music_assets.generation.sampling import draw, keep_likeliest, sample
from music_assets.models.build import build
from music_assets.models.config import network_config
from music_assets.models.network import Network
from music_assets.tokens.vocabulary import Vocabulary

ROWS, TOKENS = 16, 192


@torch.inference_mode()
def without_cache(network: Network, vocabulary: Vocabulary) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor(vocabulary.prompt()).expand(ROWS, -1)
    for _ in range(TOKENS):
        token = draw(keep_likeliest(network(ids)[:, -1].float(), 1.0, 0, 0.98), generator)
        ids = torch.cat([ids, token[:, None]], dim=1)


def main() -> None:
    chosen = options(__doc__)
    vocabulary = Vocabulary()
    network = build(network_config("gpt", "tiny"), vocabulary.size).eval()
    settings = SamplingConfig(count=ROWS, max_tokens=TOKENS, max_bars=512)
    result = compare(
        "generate_tokens_per_second",
        "tokens/s",
        ROWS * TOKENS,
        lambda: sample(network, vocabulary, None, settings),
        "no cache, no grammar",
        lambda: without_cache(network, vocabulary),
    )
    show([result], chosen.json)


if __name__ == "__main__":
    main()
