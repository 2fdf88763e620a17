"""Which device to compute on, and in which precision."""

import platform
from functools import cache
from pathlib import Path

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
    # On other CPUs it is emulated; and without AMX an Intel processor takes up to twice as long as in float32.
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return False
    return torch.cpu._is_amx_tile_supported() or not _is_intel()


@cache
def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()
