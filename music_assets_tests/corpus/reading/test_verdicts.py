"""What a file costs that meets a bug."""

import logging
from pathlib import Path

import pytest
from symusic.core import ScoreTick

from music_assets.corpus.reading import verdicts
from music_assets_tests.midi_files import write_tune


def test_a_bug_costs_the_file_that_meets_it_and_is_seen_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def planted(score: ScoreTick) -> None:
        raise IndexError("planted")

    monkeypatch.setattr(verdicts, "facts", planted)
    with caplog.at_level(logging.ERROR):
        row = verdicts.examine(write_tune(tmp_path / "tune.mid"))
    assert row["verdict"] == verdicts.FAULT
    assert "IndexError: planted" in row["detail"]
    assert row["md5"]
    assert "in planted" in caplog.text
    assert str(tmp_path / "tune.mid") in caplog.text


def test_a_file_that_needs_too_much_memory_is_left_to_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(score: ScoreTick) -> None:
        raise MemoryError

    monkeypatch.setattr(verdicts, "facts", greedy)
    with pytest.raises(MemoryError):
        verdicts.examine(write_tune(tmp_path / "tune.mid"))
