"""Which device to compute on, and in which precision."""

from typing import Literal

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The named device; for ``auto`` a GPU if there is one, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {name!r} cannot be used ({reason}): choose cpu or auto.") from None
    return device


def autocast(device: torch.device, precision: Literal["auto", "float32"] = "auto") -> torch.autocast:
    """For matrix products: bfloat16 where the device computes it fast, else float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "auto" and fast_bfloat16(device))


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # On other CPUs bfloat16 is emulated, several times slower than float32.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
