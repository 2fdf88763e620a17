"""Generating music on a CPU: notes per second beside transformers' GPT-2, and what a step takes.

    python -m benchmarks.generate [--data DIR] [--json]

With the champion of a data folder, or an untrained network, whose choices are as wide as they can be. The baseline
draws as many tokens per row from a GPT-2 over the same vocabulary by `generate` with a cache, with one thread or two,
whichever is faster; its notes are counted at our tokens a note, since it knows no grammar. One GPT-2 has as many
weights as ours, of which a half is memory's table, that is looked up and not multiplied by; another has as many layers,
and so as many weights to multiply by. It needs the extra `bench`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import ROUNDS, Result, machine, show
from music_assets.checkpoints.storage import Checkpoint, load_checkpoint
from music_assets.evaluation.subject import champion_of
from music_assets.generation.choice import Filters, choose
from music_assets.generation.generate import generate, stream
from music_assets.generation.request import make_request
from music_assets.models.gpt_decoder import GPTDecoder
from music_assets.paths import DataPaths
from music_assets.tokens.constraints import Constraints
from music_assets.tokens.grammar import Grammar
from music_assets_tests.generation.checkpoints import untrained

BARS = 8
STEPS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder with a trained gpt")
    parser.add_argument("--json", action="store_true", help="only the JSON lines")
    chosen = parser.parse_args()
    if chosen.data:
        checkpoint = load_checkpoint(champion_of(DataPaths(chosen.data), "gpt").checkpoint)
    else:
        checkpoint = untrained("gpt", width=256, layers=3, heads=4, context=256)
    results = [result for rows in (1, 16) for result in against_transformers(checkpoint, rows)]
    show([*results, first_bar(checkpoint), guidance(checkpoint), choice(checkpoint), bound(checkpoint)], chosen.json)


def against_transformers(checkpoint: Checkpoint, rows: int) -> list[Result]:
    """Notes per second of ``rows`` candidates at once, beside a GPT-2 of as many weights and one of as many layers."""
    config = checkpoint.network.config
    as_many_weights = round(checkpoint.network.parameter_count / (12 * config.width**2)) - 1
    made = generate(checkpoint, bars=BARS, count=rows, guidance=1.0)
    tokens, notes = sum(len(one.ids) for one in made), sum(one.note_count for one in made)
    ours = notes / _median(lambda: generate(checkpoint, bars=BARS, count=rows, guidance=1.0))
    length = round(tokens / rows)
    name = f"generate_notes_per_second_{rows}"
    return [
        _result(
            called, ours, "notes/s", f"transformers' GPT-2 of {layers} layers", notes / tokens * rows * length / taken
        )
        for called, layers in ((name, as_many_weights), (f"{name}_same_layers", config.layers))
        for taken in [_transformers_seconds(checkpoint, layers, rows, length)]
    ]


def _transformers_seconds(checkpoint: Checkpoint, layers: int, rows: int, length: int) -> float:
    """Of a GPT-2 that writes so many tokens of each of some rows."""
    model = _transformers(checkpoint, layers)

    def write() -> None:
        with torch.inference_mode():
            model.generate(
                torch.full((rows, 2), 5), max_new_tokens=length, min_new_tokens=length, do_sample=True, top_p=0.98,
                top_k=0, pad_token_id=0,
            )  # fmt: skip

    threads = torch.get_num_threads()
    times = []
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        times.append(_median(write, rounds=3))
    torch.set_num_threads(threads)
    return min(times)


def first_bar(checkpoint: Checkpoint) -> Result:
    """From a loaded checkpoint to the first bar; beside it the whole of one candidate."""
    request = make_request(bars=BARS, count=1, guidance=1.0)

    def begin() -> None:
        bars = stream(checkpoint, request)
        next(bars)
        bars.close()

    whole = _median(lambda: list(stream(checkpoint, request)))
    value = _median(begin)
    return Result(
        "generate_first_bar_seconds", round(value, 3), "s", f"all of its {BARS} bars", round(whole, 3),
        round(whole / value, 2), machine(),
    )  # fmt: skip


def guidance(checkpoint: Checkpoint) -> Result:
    """Seconds a token with guidance, beside those without."""

    def seconds(scale: float) -> float:
        made = generate(checkpoint, bars=BARS, count=1, guidance=scale, genre=checkpoint.facts.genres[0])
        taken = _median(
            lambda: generate(checkpoint, bars=BARS, count=1, guidance=scale, genre=checkpoint.facts.genres[0])
        )
        return taken / len(made[0].ids)

    with_it, without = seconds(1.01), seconds(1.0)
    return Result(
        "generate_guidance_cost", round(with_it / without, 2), "times a token's time", "without guidance", 1.0,
        round(without / with_it, 2), machine(),
    )  # fmt: skip


def choice(checkpoint: Checkpoint) -> Result:
    """Mask, filters and draw of a token in percent of the network's step, 16 rows."""
    network = checkpoint.token_network
    decoder = network.decoder(16, network.config.context)
    assert isinstance(decoder, GPTDecoder)
    grammar = Grammar(constraints=Constraints(least_bars=BARS, most_bars=BARS, notes_in_bar=256))
    rows, ones = np.arange(16), np.ones(16, np.int64)
    candidates = np.zeros((16, network.columns), np.int64)
    decoder.lengths[:] = network.config.context // 2
    logits = decoder.advance(rows, ones, np.full(16, 5), candidates)
    nothing, none = np.empty((0, network.vocab_size), np.float32), np.full((16, 1), -1)

    def step() -> None:
        decoder.lengths[:] = network.config.context // 2
        for _ in range(STEPS):
            decoder.lengths[:] = network.config.context // 2
            decoder.advance(rows, ones, np.full(16, 5), candidates)

    def draw() -> None:
        states = np.ascontiguousarray(grammar.initial_state(16))
        for _ in range(STEPS):
            uniform = np.full(16, 0.5)
            choose(logits, nothing, np.ones(16), grammar, states, Filters(top_p=0.98), none, 1.0, uniform)

    share = _median(draw) / _median(step)
    return Result(
        "generate_choice_share", round(100 * share, 1), "% of a step", "the step", 100.0, round(1 / share, 1), machine()
    )


def bound(checkpoint: Checkpoint) -> Result:
    """Tokens per second of one candidate in percent of those if a token took as long as reading the weights once."""
    weights = np.concatenate([p.detach().numpy().ravel() for p in checkpoint.network.parameters()])
    read = min(_median(lambda: weights.sum()) for _ in range(5))
    made = generate(checkpoint, bars=BARS, count=1, guidance=1.0)
    token = _median(lambda: generate(checkpoint, bars=BARS, count=1, guidance=1.0)) / len(made[0].ids)
    return Result(
        "generate_share_of_weight_reading", round(100 * read / token, 1), "%", "reading all weights a token", 100.0,
        round(read / token, 2), machine(),
    )  # fmt: skip


def _transformers(checkpoint: Checkpoint, layers: int) -> Any:
    try:
        transformers: Any = import_module("transformers")
    except ModuleNotFoundError:
        raise SystemExit("The baseline is missing: pip install 'music-assets[bench]'.") from None
    config = checkpoint.network.config
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=checkpoint.vocabulary.size, n_positions=2048, n_embd=config.width, n_layer=layers,
            n_head=config.heads, bos_token_id=1, eos_token_id=None,
        )
    )  # fmt: skip
    return model.eval()


def _median(function: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds, after one round that is not measured."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _result(name: str, ours: float, unit: str, baseline: str, theirs: float) -> Result:
    return Result(name, round(ours, 1), unit, baseline, round(theirs, 1), round(ours / theirs, 2), machine())


if __name__ == "__main__":
    main()
