import torch

from music_assets.training import precision

CPU = torch.device("cpu")


def measured(monkeypatch, float32: float, bfloat16: float) -> bool:
    """What is chosen where products take so many seconds; float32 is asked first, then in turn."""
    now, turn = 0.0, 0

    def clock() -> float:
        nonlocal now, turn
        now += (float32 if turn % 4 == 1 else bfloat16) if turn % 2 else 1
        turn += 1
        return now

    monkeypatch.setattr(precision, "perf_counter", clock)
    precision._bfloat16_wins.cache_clear()
    try:
        return precision.fast_bfloat16(CPU)
    finally:
        precision._bfloat16_wins.cache_clear()


def test_a_cpu_computes_in_what_is_faster_there(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert measured(monkeypatch, float32=0.002, bfloat16=0.001)
    assert not measured(monkeypatch, float32=0.001, bfloat16=0.002)


def test_a_cpu_without_bfloat16_is_not_asked(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not measured(monkeypatch, float32=0.002, bfloat16=0.001)


def test_float32_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(precision, "fast_bfloat16", lambda device: True)
    assert precision.autocast(CPU).fast_dtype is torch.bfloat16
    assert precision.autocast(CPU)._enabled
    assert not precision.autocast(CPU, "float32")._enabled
