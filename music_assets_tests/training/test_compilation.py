"""What a training does about a compiler whose code is wrong."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from music_assets.training import loop
from music_assets.training.loop import train
from music_assets_tests.training.corpus import shards, small_config

Loss = Callable[..., tuple[Tensor, Tensor]]


def with_wrong_gradients(loss: Loss, **options: Any) -> Loss:
    """Code whose value is right and whose gradient is not a number."""
    weight = next(loss.__self__.parameters())  # type: ignore[attr-defined]

    def compiled(*batch: Tensor) -> tuple[Tensor, Tensor]:
        nats, count = loss(*batch)
        return nats + (0 * weight.sum()).sqrt(), count

    return compiled


def test_a_network_whose_compiled_gradients_are_no_numbers_is_trained_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = train("gpt", small_config(compile=False), shards(), tmp_path / "plain")
    monkeypatch.setattr(loop.torch, "compile", with_wrong_gradients)
    with caplog.at_level(logging.WARNING):
        found = train("gpt", small_config(compile=True), shards(), tmp_path / "compiled")
    assert "without torch.compile" in caplog.text
    assert found.last_loss == expected.last_loss
    assert torch.isfinite(torch.tensor(found.facts.bits_per_note))
