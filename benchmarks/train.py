"""Training the tiny GPT by the real loop, against a plain GPT in nanoGPT's manner; both in bfloat16 where that is fast.

Without options: the speed of both on the same batches. With ``--data DIR --minutes N``, also the bits per note of
held-out pieces after so many minutes of training each, with each of ``--seeds 0,1,2``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Result, machine, show
from benchmarks.pieces import read_pieces
from music_assets.models.gpt import GPTConfig
from music_assets.models.network import TokenNetwork
from music_assets.models.registry import build, find_architecture
from music_assets.tokens.shards import Shard
from music_assets.tokens.vocabulary import Vocabulary
from music_assets.training.batches import Batches
from music_assets.training.loop import train
from music_assets.training.memory import retain_freed_memory
from music_assets.training.optimizer import learning_rate_schedule
from music_assets.training.precision import autocast, choose_device
from music_assets.training.progress import TrainingProgress
from music_assets.training.scoring import bits_per_note, token_scores
from music_assets.training.settings import TrainingSettings
from music_assets.training.validation import validation_set

N = TypeVar("N", int, float)

STEPS, ROUNDS = 8, 9
BATCH = TrainingSettings.model_fields["batch_size"].default


class Plain(nn.Module):
    """A GPT in nanoGPT's manner: learned positions, LayerNorm, GELU, SDPA, tied output layer."""

    columns = 0

    def __init__(self, config: GPTConfig, vocabulary_size: int, inner: int) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.position = nn.Embedding(config.context, width)
        self.blocks = nn.ModuleList(PlainBlock(width, config.heads, inner) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.head.weight = self.embedding.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                of_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * config.layers) ** 0.5 if of_residual else 0.02)

    def forward(self, ids: Tensor, candidates: Tensor | None = None, skip: int = 0) -> Tensor:
        """As a Network's; of repeats it knows nothing."""
        x = self.embedding(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))  # [B, T, W]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, skip:]))  # [B, T - skip, V]

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self(ids).flatten(0, 1).float(), targets.flatten())

    @property
    def device(self) -> torch.device:
        return self.head.weight.device


class PlainBlock(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norms[0](x)).split(w, -1))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, H, T, D]
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


def inner_width(config: GPTConfig, vocabulary_size: int, weights: int) -> int:
    """Of the plain GPT's feed-forward layers, so that it has about as many weights as another network."""
    one, two = (sum(p.numel() for p in Plain(config, vocabulary_size, inner).parameters()) for inner in (1, 2))
    return 1 + round((weights - one) / (two - one))


class PlainTraining:
    """AdamW on the same pieces, without control tokens and infills, which cost ours a little."""

    def __init__(
        self, config: GPTConfig, pieces: list[Shard], peak: float, inner: int, seed: int = 0, compiled: bool = False
    ) -> None:
        torch.manual_seed(seed)
        self.vocabulary = Vocabulary(tuple(sorted({shard.genre for shard in pieces})))
        self.device = choose_device()
        self.network = Plain(config, self.vocabulary.size, inner).to(self.device)
        self.loss = torch.compile(self.network.loss, dynamic=False) if compiled else self.network.loss
        self.peak = peak
        decayed = [p for p in self.network.parameters() if p.ndim == 2]
        others = [p for p in self.network.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            peak,
            betas=(0.9, 0.95),
            fused=True,
        )
        mixing = TrainingSettings().genre_temperature
        self.batches = Batches(
            pieces, self.vocabulary, batch_size=BATCH, length=config.context, genre_temperature=mixing, seed=seed
        )

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        drawn = self.batches(n)
        return torch.from_numpy(drawn.ids).to(self.device), torch.from_numpy(drawn.targets).to(self.device)

    def step(self, ids: Tensor, targets: Tensor, fraction: float = 0.5) -> None:
        with autocast(self.device):
            loss = self.loss(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * learning_rate_schedule(fraction, TrainingSettings())
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def equally_large(config: GPTConfig, pieces: list[Shard]) -> int:
    """The plain GPT's inner width at which it has as many weights as ours."""
    vocabulary = Vocabulary(tuple(sorted({shard.genre for shard in pieces})))
    return inner_width(config, vocabulary.size, build(config, vocabulary.size).parameter_count)


def speed(pieces: list[Shard]) -> list[Result]:
    """Rounds of ours and of plain ones by turns, in one process."""
    config = GPTConfig.model_validate(find_architecture("gpt").preset("tiny"))
    equal = equally_large(config, pieces)
    plain = {
        "as many weights": PlainTraining(config, pieces, 1e-3, equal),
        "as many weights, compiled": PlainTraining(config, pieces, 1e-3, equal, compiled=True),
        "as wide, compiled": PlainTraining(config, pieces, 1e-3, 4 * config.width, compiled=True),
    }
    round_tokens = STEPS * BATCH * config.context
    ours: list[float] = []
    waited: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in plain}

    def baseline(progress: TrainingProgress) -> None:
        """A round of ours has just ended; now one of each of theirs, with the same memory settings."""
        ours.append(progress.tokens_per_second)
        waited.append(progress.waited)
        for name, training in plain.items():
            drawn = [training.draw(progress.step + n) for n in range(STEPS)]
            began = time.perf_counter()
            for ids, targets in drawn:
                training.step(ids, targets)
            theirs[name].append(round_tokens / (time.perf_counter() - began))

    tokens = (ROUNDS + 1) * round_tokens
    settings = TrainingSettings(
        minutes=None, tokens=tokens, report_every=STEPS, validations=1, validation_tokens=1, compile=True
    )
    with tempfile.TemporaryDirectory() as folder:
        made = train("gpt", settings, pieces, Path(folder) / "run", report=baseline)
    print(f"waiting for batches: {statistics.median(waited[1:]):.2%} of the time", file=sys.stderr)
    value = statistics.median(ours[1:])
    results = []
    for name, training in plain.items():
        weights = sum(parameter.numel() for parameter in training.network.parameters())
        other = statistics.median(theirs[name][1:])
        title = f"plain GPT with AdamW, {name} ({weights / made.facts.parameters - 1:+.1%})"
        results.append(
            Result(
                "train_tokens_per_second",
                round(value),
                "tokens/s",
                title,
                round(other),
                round(value / other, 2),
                machine(),
            )
        )
    return results


def after_minutes(pieces: list[Shard], minutes: float, seeds: list[int], peaks: list[float]) -> None:
    """A table of bits per note of the same held-out pieces; the plain GPT with each of some peak learning rates."""
    config = GPTConfig.model_validate(find_architecture("gpt").preset("tiny"))
    held_out = validation_set(pieces, 60_000)
    print("| model | seed | training tokens | bits per note |\n|---|---|---|---|")
    for seed in seeds:
        settings = TrainingSettings(minutes=minutes, validations=1, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            made = train("gpt", settings, pieces, Path(folder) / "run")
        print(f"| ours | {seed} | {made.tokens:,} | {made.facts.bits_per_note:.3f} |", flush=True)
        for peak in peaks:
            plain = PlainTraining(config, pieces, peak, equally_large(config, pieces), seed)
            steps, seconds = 0, 0.0  # drawing takes it no time
            with retain_freed_memory():
                while seconds < 60 * minutes:
                    ids, targets = plain.draw(steps)
                    began = time.perf_counter()
                    plain.step(ids, targets, seconds / 60 / minutes)
                    seconds += time.perf_counter() - began
                    steps += 1
            scores = [
                score
                for genre, documents in held_out.documents.items()
                for score in token_scores(cast(TokenNetwork, plain.network), plain.vocabulary, documents, genre)
            ]
            bits = bits_per_note([score.nats for score in scores], [score.notes for score in scores])
            print(
                f"| plain GPT, rate {peak:g} | {seed} | {steps * BATCH * config.context:,} | {bits:.3f} |", flush=True
            )


def numbers(text: str, kind: type[N]) -> list[N]:
    return [kind(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print results as JSON lines only")
    parser.add_argument("--data", type=Path, help="a data folder with token shards; without it, tunes are written")
    parser.add_argument("--minutes", type=float, help="also train so long, and score held-out pieces")
    parser.add_argument("--seeds", default="0,1,2", help="by commas")
    parser.add_argument("--peaks", default="0.001", help="peak learning rates of the plain GPT, by commas; may be none")
    chosen = parser.parse_args()
    pieces = read_pieces(chosen.data)
    show(speed(pieces), chosen.json)
    if chosen.minutes:
        after_minutes(pieces, chosen.minutes, numbers(chosen.seeds, int), numbers(chosen.peaks, float))


if __name__ == "__main__":
    main()
