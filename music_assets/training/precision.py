"""Which device to compute on, and in which precision."""

from functools import cache
from math import inf
from time import perf_counter

import torch

from music_assets.foundation.errors import MusicAssetsError
from music_assets.training.settings import Precision


class UnusableDevice(MusicAssetsError):
    """The device that was asked for cannot be used here."""


def choose_device(name: str = "auto") -> torch.device:
    """The named device; for ``auto`` a GPU if there is one, else the CPU.

    Raises:
        UnusableDevice: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UnusableDevice(f"The device {name!r} cannot be used ({reason}): choose cpu or auto.") from None
    return device


def autocast(device: torch.device, precision: Precision = "auto") -> torch.autocast:
    """For matrix products: bfloat16 where the device computes it fast, else float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "auto" and fast_bfloat16(device))


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8  # before Ampere it is emulated
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() and _bfloat16_wins()


@cache
def _bfloat16_wins() -> bool:
    """Whether a product as large as a small network's takes this CPU less time in bfloat16 than in float32.

    Instructions for it say nothing of that: without AMX an Intel processor takes up to twice as long as in float32.
    """
    products = {
        dtype: (torch.zeros(512, 256, dtype=dtype), torch.zeros(256, 1024, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    }
    seconds = dict.fromkeys(products, inf)
    for _ in range(10):  # in turn, so that other work on the machine delays both
        for dtype, (x, w) in products.items():
            start = perf_counter()
            torch.mm(x, w)
            seconds[dtype] = min(seconds[dtype], perf_counter() - start)
    return seconds[torch.bfloat16] < seconds[torch.float32]
