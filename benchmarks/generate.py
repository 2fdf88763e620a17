"""Sampling with a key/value cache against the same network without one; the grammar's mask against a decoding step."""

from dataclasses import replace

import torch
from music_assets.generation.config import SamplingConfig
from music_assets.generation.sampling import draw, keep_allowed, keep_likeliest, sample

from benchmarks.harness import Result, compare, options, show
from music_assets.models.network import Network, TokenNetwork
from music_assets.models.registry import build, network_config
from music_assets.tokens.grammar import Grammar
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.precision import choose_device

ROWS, TOKENS = 16, 192
MASK_ROWS, MASK_STEPS = 64, 100


@torch.inference_mode()
def without_cache(network: Network, vocabulary: Vocabulary) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor(vocabulary.prompt()).expand(ROWS, -1)
    for _ in range(TOKENS):
        token = draw(keep_likeliest(network(ids)[:, -1].float(), 1.0, 0, 0.98), generator)
        ids = torch.cat([ids, token[:, None]], dim=1)


@torch.inference_mode()
def mask_share(vocabulary: Vocabulary) -> Result:
    """What a step of ``sample`` spends on the grammar, in percent of the network's own work in it, drawing left out.

    The network is the tiny GPT, with half its context written. The grammar walks: each step advances by an id that
    its mask allowed.
    """
    device = choose_device()
    network = build(network_config("gpt", "tiny"), vocabulary.size).eval().to(device)
    grammar = Grammar(lambda table: torch.as_tensor(table, device=device))
    generator = torch.Generator(device).manual_seed(0)
    half = network.config.context // 2
    written = torch.randint(vocabulary.size, (MASK_ROWS, half), device=device)
    _, cache = network.decode(written, network.initial_state(MASK_ROWS, network.config.context))
    logits = torch.randn(MASK_ROWS, vocabulary.size, device=device)
    walk, state = [], grammar.initial_state(MASK_ROWS)
    for _ in range(MASK_STEPS):
        walk.append(draw(keep_allowed(logits, grammar, state), generator))
        state = grammar.advance(state, walk[-1])

    def mask() -> None:
        state = grammar.initial_state(MASK_ROWS)
        for tokens in walk:
            keep_allowed(logits, grammar, state)
            state = grammar.advance(state, tokens)
        _wait(device)

    def step() -> None:
        for tokens in walk:
            network.decode(tokens[:, None], cache)
        _wait(device)

    measured = compare("mask_share_of_step", "steps/s", MASK_STEPS, mask, "the network's part of a step", step)
    share = measured.baseline_value / measured.value
    return replace(
        measured,
        value=round(100 * share, 2),
        unit="% of a decoding step",
        baseline_value=100.0,
        ratio=round(1 / share, 2),
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    chosen = options(__doc__)
    vocabulary = Vocabulary()
    network = build(network_config("gpt", "tiny"), vocabulary.size).eval()
    assert isinstance(network, TokenNetwork)
    settings = SamplingConfig(count=ROWS, max_tokens=TOKENS, max_bars=512)
    speed = compare(
        "generate_tokens_per_second",
        "tokens/s",
        ROWS * TOKENS,
        lambda: sample(network, vocabulary, None, settings),
        "no cache, no grammar",
        lambda: without_cache(network, vocabulary),
    )
    show([speed, mask_share(vocabulary)], chosen.json)


if __name__ == "__main__":
    main()
