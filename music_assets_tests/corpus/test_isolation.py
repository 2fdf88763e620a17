"""Only the item that kills, hangs or fills its worker is lost."""

import signal
import time

import pytest

from music_assets.corpus.isolation import MEMORY_BYTES, Lost, run_isolated


def test_a_crash_costs_one_item_and_not_its_neighbours() -> None:
    harmless, deadly = signal.SIGURG, signal.SIGSEGV
    items = [harmless] * 10 + [deadly] + [harmless] * 10
    results = list(run_isolated(signal.raise_signal, items, workers=2, chunk=5))
    assert [result for item, result in results if item == harmless] == [None] * 20
    assert [result for item, result in results if item == deadly] == [
        Lost("crashed the parser", f"The worker process ended with code {-deadly}.")
    ]


def test_an_item_that_hangs_is_given_up() -> None:
    results = dict(run_isolated(time.sleep, [0.0, 0.01, 60.0], workers=1, seconds=1.0))
    assert results.pop(60.0) == Lost("took too long", "It was given up after 1 seconds.")
    assert results == {0.0: None, 0.01: None}


def test_an_item_that_fills_the_memory_is_lost() -> None:
    results = dict(run_isolated(bytearray, [3, 2 * MEMORY_BYTES], workers=1))
    assert results[3] == bytearray(3)
    assert isinstance(lost := results[2 * MEMORY_BYTES], Lost)
    assert lost.verdict == "too large"


def test_an_exception_of_the_function_ends_the_run() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_isolated(int, ["1", "one"], workers=1))


def test_nothing_to_do() -> None:
    assert list(run_isolated(int, [])) == []
