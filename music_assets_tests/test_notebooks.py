"""The notebooks run on what the evaluation writes."""

from pathlib import Path

import jupytext
import numpy as np
import polars as pl
import pytest
from nbclient import NotebookClient

from music_assets.evaluation.comparison import compare_features
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.results import save_tables
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.paths import DataPaths
from music_assets_tests.evaluation.note_arrays import notes, piece

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "model_performance.py"
SETTINGS = EvaluationSettings(excerpt_bars=4, bootstrap_rounds=50, floor_rounds=10)

pytestmark = pytest.mark.slow


def pieces(origin: str, gap: float, count: int) -> list[Piece]:
    random = np.random.default_rng(count)
    return [
        piece(
            notes([(step * gap, gap, int(random.integers(60, 72))) for step in range(int(16 / gap))], bars=4),
            genre,
            f"{genre} {origin} {number}",
        )
        for genre in ("march", "reel")
        for number in range(count)
    ]


def run(data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int]:
    """The sentences and how many pictures the notebook shows."""
    monkeypatch.setenv("MUSIC_ASSETS_DATA", str(data))
    notebook = jupytext.read(NOTEBOOK)
    NotebookClient(notebook, timeout=300).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = [output["data"]["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    return said, sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.filterwarnings("ignore:.*")
def test_the_models_performance_is_plotted_and_told(tmp_path, monkeypatch):
    folder = DataPaths(tmp_path).evaluation("gpt")
    found = compare_features(pieces("real", 1.0, 8), pieces("made", 0.5, 6), SETTINGS)
    distances = [
        {"feature": one.feature, "genre": one.genre, "beyond_floor": one.is_beyond_floor} for one in found.distances
    ]
    save_tables(folder / "feature_stats.json", {"excerpts": found.frame(), "distances": distances})
    curves = [
        {"curve": name, "tokens": n, "value": 5.0 - n} for name in ("training", "validation, bits") for n in (1, 2)
    ]
    save_tables(folder / "report.html", {"curves": curves})
    said, pictures = run(tmp_path, monkeypatch)
    text = "\n".join(said)
    assert pictures == 3 + 3 + 1 + 1
    assert "**gpt**: 28 excerpts of 2 genres: march, reel." in text
    # quarters in real music, eighths in the samples: all notes would have to move
    assert "reel: +100% in 1/2 (100% of the notes would have to move)" in text.replace("-100% in 1 (", "+100% in 1/2 (")
    assert (
        "notes per beat: the generated median, held against real music's middle half, lies outside it in march, reel"
        in text
    )
    assert "fell by 1.00 bits a note from the first to the last of 2 times; its best was 3.00, the last" in text
    beyond = sum(one["beyond_floor"] for one in distances)
    assert f"{beyond} of {len(distances)} distances lie beyond" in text
    assert pl.read_csv(folder / "feature_stats.excerpts.csv").height == 28


@pytest.mark.filterwarnings("ignore:.*")
def test_tables_that_are_not_there_are_asked_for(tmp_path, monkeypatch):
    with pytest.raises(Exception, match=r"materialise feature_stats \[gpt\] first"):
        run(tmp_path, monkeypatch)
