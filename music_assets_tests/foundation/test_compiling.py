import subprocess
import sys

import pytest

OF_ANOTHER_FILE = """
from constants import {read}
from music_assets.foundation.compiling import njit

@njit()
def inner():
    return {value}

@njit("int64()")
def compiled():
    return inner()

compiled()
hits = sum(inner.stats.cache_hits.values()) + sum(compiled.stats.cache_hits.values())
print(compiled(), hits)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "value", "before", "after"),
    [
        ("NUMBER", "NUMBER", "NUMBER = 3", "NUMBER = 5"),
        (
            "TABLE",
            "TABLE[2000]",
            "import numpy as np; TABLE = np.full(3000, 3)",
            "import numpy as np; TABLE = np.full(3000, 5)",
        ),
    ],
)
def test_what_was_compiled_with_a_constant_of_another_file_is_compiled_anew(tmp_path, read, value, before, after):
    (tmp_path / "using.py").write_text(OF_ANOTHER_FILE.format(read=read, value=value))

    def run(constants):
        (tmp_path / "constants.py").write_text(constants + "\n")
        found = subprocess.run(
            [sys.executable, "-B", "using.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return [int(word) for word in found.stdout.split()]

    assert run(before) == [3, 0]
    number, hits = run(before)
    assert number == 3
    assert hits > 0
    assert run(after) == [5, 0]
