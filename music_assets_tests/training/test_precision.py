import pytest
import torch

from music_assets.training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("instructions", "amx", "intel", "bfloat16"),
    [
        (True, True, True, True),
        (True, False, True, False),  # slower than float32
        (True, False, False, True),
        (False, False, True, False),  # emulated
        (False, False, False, False),
    ],
)
def test_a_cpu_computes_in_what_is_faster_there(monkeypatch, instructions, amx, intel, bfloat16):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(precision, "_is_intel", lambda: intel)
    assert precision.fast_bfloat16(CPU) is bfloat16
    assert precision.autocast(CPU)._enabled is bfloat16
    assert not precision.autocast(CPU, "float32")._enabled


def test_a_processor_that_says_nothing_of_itself_is_not_intels(monkeypatch):
    def unreadable(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(precision.Path, "read_text", unreadable)
    monkeypatch.setattr(precision.platform, "processor", lambda: "")
    precision._is_intel.cache_clear()
    try:
        assert not precision._is_intel()
    finally:
        precision._is_intel.cache_clear()
