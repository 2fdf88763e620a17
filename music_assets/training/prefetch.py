"""Drawing batches while others are computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor


class Prefetcher:
    """Batches, each drawn in a thread while the one before it is computed."""

    def __init__(self, draw: Callable[[int], tuple[Tensor, ...]]) -> None:
        self._draw = draw
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[tuple[Tensor, ...]]] | None = None

    def __enter__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "batches")

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self._thread.shutdown()

    def __call__(self, n: int) -> tuple[Tensor, ...]:
        """Batch ``n``."""
        assert self._thread is not None
        if self._next is None or self._next[0] != n:
            self._next = n, self._thread.submit(self._draw, n)
        batch = self._next[1].result()
        self._next = n + 1, self._thread.submit(self._draw, n + 1)
        return batch
