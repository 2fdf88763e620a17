import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def closed_servers() -> Iterator[None]:
    """Gradio leaves the event loop of a server unclosed: it is collected here, and not in some other test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
