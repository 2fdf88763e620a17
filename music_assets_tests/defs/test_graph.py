"""The whole graph on real files, and what is not done again when something arrives."""

import contextlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from music_assets.corpus.index.splits import own_split
from music_assets.corpus.labels.songs import fold_title
from music_assets.defs.automation import retrainings
from music_assets.defs.due import MEASURES_OF_MODEL, MEASURES_OF_SAMPLES, reports_due, samples_due, shards_due
from music_assets.foundation.midi.reading import load_score
from music_assets.paths import ListeningFiles
from music_assets.tokens.remi import encode
from music_assets.tokens.shards import read_shard
from music_assets.tokens.transposition import TRANSPOSITIONS
from music_assets.training.tracking import Tracking
from music_assets_tests import disks
from music_assets_tests.defs.conftest import QUICK, TINY, Graph, failure, graph_on
from music_assets_tests.midi_files import write_corpus, write_tune

pytestmark = pytest.mark.slow

MEASURES = (*MEASURES_OF_MODEL, *MEASURES_OF_SAMPLES)


def shard_states(graph: Graph) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(graph.paths.root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(graph.paths.root.glob("tokens/*/*.arrow"))
    }


def splits(graph: Graph) -> dict[str, str]:
    with duckdb.connect(str(graph.paths.index), read_only=True) as connection:
        return dict(connection.execute("select path, split from pieces").fetchall())


def test_five_new_files_cost_five_readings_and_touch_one_genre(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 40, "jig": 40}, bars=8)
    graph.ingest()
    assert graph.genres == ["jig", "reel"]
    for genre in graph.genres:
        graph.tokenise(genre)
    assert shards_due(graph.instance, graph.paths) == []
    before, split_before = shard_states(graph), splits(graph)
    assert len(before) == 2 * len(TRANSPOSITIONS)

    for number in range(5):
        write_tune(graph.paths.raw / f"tunes/reel/New/Arrival {number}.mid", style="reel", seed=900 + number, bars=8)
    graph.ingest()
    assert graph.latest("raw_midi").metadata["files_read"].value == 5
    for genre in graph.genres:
        graph.make("genre_pieces", partition=genre)
    assert graph.latest("genre_pieces", "jig").metadata["rewritten"].value is False
    assert graph.latest("genre_pieces", "reel").metadata["rewritten"].value is True
    assert shards_due(graph.instance, graph.paths) == ["reel"]
    for genre in graph.genres:
        graph.tokenise(genre)
    assert graph.latest("token_shards", "jig|original").metadata["pieces_encoded"].value == 0
    assert graph.latest("token_shards", "jig|original").metadata["shards_rewritten"].value == 0
    assert graph.latest("token_shards", "reel|original").metadata["pieces_encoded"].value == 5
    after = shard_states(graph)
    assert {path for path in after if after[path] != before[path]} == {p for p in after if p.startswith("tokens/reel/")}
    assert {path: split for path, split in splits(graph).items() if path in split_before} == split_before

    assert shards_due(graph.instance, graph.paths) == []
    graph.ingest()
    for genre in graph.genres:
        graph.tokenise(genre)
    assert graph.latest("raw_midi").metadata["files_read"].value == 0
    assert graph.latest("midi_index").metadata["rewritten"].value is False
    assert shard_states(graph) == after


def test_transposed_shards_hold_training_pieces_only(trained: Graph):
    original = read_shard(trained.paths.shard("reel", "original"))
    up = read_shard(trained.paths.shard("reel", "up1"))
    assert set(original.splits) > {"train"}
    assert set(up.splits) == {"train"}
    assert up.piece_ids == [original.piece_ids[row] for row in original.where("train")]
    assert pl.scan_ipc(trained.paths.shard("reel", "up1")).select(pl.len()).collect().item() == len(up)


def test_the_training_is_in_mlflow(trained: Graph):
    made = trained.latest("checkpoint", "gpt")
    assert made.text("champion_genres") == "jig, reel"
    assert made.text("decision") == "It is the first champion."
    tracking = Tracking(trained.paths)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert {"train/loss", "valid/bits_per_note", "train/learning_rate"} <= {*run.data.metrics}
    assert {"training.seed", "network.layers"} <= {*run.data.params}
    (model,) = tracking.client.search_registered_models()
    assert model.name == "music-assets-gpt"
    assert {alias: int(version) for alias, version in model.aliases.items()} == {"champion": 1}
    consistency = made.text("genre_consistency")
    assert re.fullmatch(r"-?\d+% \[-?\d+%, -?\d+%\]", consistency)
    assert tracking.client.get_model_version(model.name, "1").tags["genre_consistency"] == consistency


def test_samples_are_heard_during_training_and_the_model_has_a_card(trained: Graph):
    heard = {path.name for path in trained.paths.mlflow.glob("artifacts/*/artifacts/samples/*/*")}
    assert {Path(name).suffix for name in heard} >= {".mid", ".png"}
    (model,) = Tracking(trained.paths).client.search_registered_models()
    assert model.description
    assert "bits per note" in model.description
    assert "[Dagster run](" in model.description


def test_samples_and_reports(trained: Graph):
    from music_assets.generation.samples import read_samples

    settings = {"count": 3, "max_bars": 6}
    for genre in ("jig", "reel"):
        trained.make("generated_samples", partition=f"gpt|{genre}", config=settings)
        batch = read_samples(trained.paths.samples("gpt", genre))
        assert len(batch.names) == 3
        for name, ids in zip(batch.names, batch.ids, strict=True):
            assert np.array_equal(encode(load_score(batch.folder / f"{name}.mid")), ids)
            assert (batch.folder / f"{name}.png").stat().st_size > 1000
    assert list(reports_due(trained.instance, trained.paths, "gpt")) == [*MEASURES, "evaluation_report"]
    trained.make(*MEASURES, partition="gpt", config=QUICK)
    assert list(reports_due(trained.instance, trained.paths, "gpt")) == ["evaluation_report"]
    trained.make("evaluation_report", partition="gpt")
    assert reports_due(trained.instance, trained.paths, "gpt") == {}
    ratings = ListeningFiles(trained.paths.listening("gpt")).ratings
    ratings.parent.mkdir(parents=True)
    ratings.write_text("\n")
    assert list(reports_due(trained.instance, trained.paths, "gpt")) == ["listening_report", "evaluation_report"]
    ratings.unlink()
    for genre in ("jig", "reel"):  # samples made anew: the measures are due again, with the settings of the last time
        trained.make("generated_samples", partition=f"gpt|{genre}", config=settings)
    due = reports_due(trained.instance, trained.paths, "gpt")
    assert due["consistency_report"].items() >= QUICK.items()
    folder = trained.paths.evaluation("gpt")
    likelihoods = json.loads((folder / "likelihood.json").read_text())["result"]["rows"]
    models = {row["model"] for row in likelihoods}
    assert len(models) == 2
    assert "gpt" in models
    for row in likelihoods:
        assert sum(row["parts"].values()) == pytest.approx(row["bits_per_note"])
    by_genre = pl.read_csv(folder / "likelihood.by_genre.csv")
    assert by_genre["bits_per_note"].to_list() == pytest.approx([row["bits_per_note"] for row in likelihoods], rel=1e-3)
    assert {path.name.split(".")[0] for path in folder.glob("*.csv")} == {*MEASURES, "report"} - {"listening_report"}
    page = (folder / "report.html").read_text()
    assert "<audio" in page
    assert page.count("Not in this report") == page.count("There are no ratings yet") == 1
    assert '<td>floor_rounds</td><td class="wrap">10</td>' in page
    run = trained.latest("consistency_report", "gpt")
    assert run.metadata["floor"].value == 0.5
    artifacts = {path.name for path in (trained.paths.mlflow / "artifacts").rglob("*") if path.is_file()}
    assert trained.latest("evaluation_report", "gpt").text("missing") == "listening"
    assert {"report.html", "reel-000.mid", "reel-000.ogg", "reel-000.png", "model.safetensors"} <= artifacts


def test_samples_are_due_if_other_settings_are_wanted_and_keep_the_last_ones(trained: Graph):
    settings = {"count": 1, "max_bars": 2, "temperature": 0.8}
    due = samples_due(trained.instance, trained.paths, "gpt")
    assert {one.partition for one in due} <= {"gpt|jig", "gpt|reel"}
    for genre in ("jig", "reel"):
        trained.make("generated_samples", partition=f"gpt|{genre}", config=settings)
    assert samples_due(trained.instance, trained.paths, "gpt") == []
    assert samples_due(trained.instance, trained.paths, "gpt", {"count": 1}) == []
    two = samples_due(trained.instance, trained.paths, "gpt", {"count": 2})
    assert [one.partition for one in two] == ["gpt|jig", "gpt|reel"]
    for one in two:
        assert settings | {"count": 2} == {name: one.settings[name] for name in settings}
    assert two[0].key != two[1].key


def test_the_last_checkpoints_are_compared_in_the_ui(trained: Graph):
    trained.make("comparison", config=QUICK)
    table = trained.latest("comparison").text("comparison")
    assert table == trained.paths.comparison.read_text()
    assert "| gpt |" in table
    assert "materialise checkpoint [lstm]" in failure(trained.run("comparison", config={"architectures": ["lstm"]}))


def test_a_genre_that_the_champion_has_not_seen_is_refused(trained: Graph):
    trained.instance.add_dynamic_partitions("genre", ["polka"])
    assert failure(trained.run("generated_samples", partition="gpt|polka")) == (
        "The champion gpt was trained before polka had shards: materialise checkpoint [gpt] again, then sample polka."
    )


def test_samples_of_an_untrained_architecture_are_refused(trained: Graph):
    assert "train gru first" in failure(trained.run("generated_samples", partition="gru|reel"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is currently in preview")
def test_two_processes_train_one_network(trained: Graph):
    network = {"layers": 1, "width": 32, "embedding": 16, "context": 64}
    trained.make("checkpoint", partition="gru", config=TINY | {"network": network, "processes": 2, "device": "cpu"})
    tokens = trained.latest("checkpoint", "gru").metadata["tokens"].value
    assert isinstance(tokens, int)
    assert tokens >= 12_000


@pytest.mark.parametrize("architecture", ["lstm", "gru"])
def test_recurrent_networks_go_through_the_same_graph(trained: Graph, architecture: str):
    network = {"layers": 1, "width": 32, "embedding": 16, "context": 64}
    trained.make("checkpoint", partition=architecture, config=TINY | {"network": network})
    settings = {"count": 2, "max_bars": 4}
    trained.make("generated_samples", partition=f"{architecture}|reel", config=settings)
    assert trained.latest("generated_samples", f"{architecture}|reel").metadata["samples"].value == 2


def test_a_piano_roll_is_trained_on_the_same_shards_sampled_and_judged(trained: Graph):
    network = {"layers": 1, "width": 32, "context": 64}
    trained.make("checkpoint", partition="pianoroll", config=TINY | {"network": network})
    made = trained.latest("checkpoint", "pianoroll")
    for name in ("bits_per_note", "density_expected", "density_found"):
        value = made.metadata[name].value
        assert isinstance(value, float)
        assert value > 0
    assert made.text("champion_genres") == "jig, reel"
    assert made.text("decision") == "It is the first champion."
    tracking = Tracking(trained.paths)
    (run,) = tracking.client.search_runs([tracking.experiment_id], "tags.architecture = 'pianoroll'")
    assert {"valid/bits_per_note", "valid/density_expected", "valid/density_found"} <= {*run.data.metrics}
    artifacts = trained.paths.mlflow / "artifacts" / run.info.run_id / "artifacts"
    assert (artifacts / "environment").is_dir()
    assert list((artifacts / "samples").rglob("*.mid"))
    for genre in ("jig", "reel"):
        trained.make("generated_samples", partition=f"pianoroll|{genre}", config={"count": 2, "max_bars": 4})
    trained.make(*MEASURES, partition="pianoroll", config=QUICK)
    trained.make("evaluation_report", partition="pianoroll")
    page = (trained.paths.evaluation("pianoroll") / "report.html").read_text()
    assert "The bits of a pianoroll are not of tokens" in page
    assert "<audio" in page


def test_an_empty_drop_folder(graph: Graph):
    assert "There is no MIDI file under" in failure(graph.run("raw_midi"))


def test_no_label_at_all(graph: Graph):
    write_tune(graph.paths.raw / "lakh/Some Artist/Some Song.mid")
    assert failure(graph.run("raw_midi", "midi_index")).startswith("None of the 1 pieces has a genre: sort them into")


def test_no_usable_file(graph: Graph):
    (graph.paths.raw / "lakh").mkdir(parents=True)
    (graph.paths.raw / "lakh" / "page.mid").write_bytes(b"<html>")
    sentence = failure(graph.run("raw_midi", "midi_index"))
    assert sentence.startswith("None of the 1 files can be used (not MIDI: 1): `music-assets corpus why <file>` tells")


def test_a_genre_below_the_minimum(graph: Graph):
    write_corpus(graph.paths.raw, {"reel": 2})
    sentence = failure(graph.run("raw_midi", "midi_index"))
    assert sentence.startswith("No genre has the minimum of 20 training pieces (the largest, reel, has 2)")


def test_shards_before_pieces_and_training_before_shards(graph: Graph):
    graph.instance.add_dynamic_partitions("genre", ["reel"])
    assert "materialise genre_pieces [reel] first" in failure(graph.run("token_shards", partition="reel|original"))
    assert "materialise token_shards first" in failure(graph.run("checkpoint", partition="gpt", config=TINY))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"minutes": math.nan}, "minutes cannot be nan: input should be a finite number."),
        ({"minutes": -1.0}, "minutes cannot be -1.0: input should be greater than 0."),
        ({"minutes": None}, "A training run needs a budget: give minutes, tokens or both."),
    ],
)
def test_settings_that_cannot_be_are_one_sentence_and_not_tried_again(
    graph: Graph, settings: dict[str, float | None], sentence: str
):
    done = graph.run("checkpoint", partition="gpt", config=settings)
    assert failure(done) == sentence
    assert not [event for event in done.all_events if event.is_step_up_for_retry]


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"key": "H"}, "key cannot be 'H': 'H' is no key: name a tonic"),
        ({"bars": 4, "length": 50}, "Bars and length exclude each other"),
        ({"instruments": ["kazoo"]}, "no instrument is called 'kazoo'"),
    ],
)
def test_wishes_that_cannot_be_are_one_sentence(graph: Graph, wishes: dict[str, object], sentence: str):
    graph.instance.add_dynamic_partitions("genre", ["reel"])
    done = graph.run("generated_samples", partition="gpt|reel", config=wishes)
    assert sentence in failure(done)
    assert not [event for event in done.all_events if event.is_step_up_for_retry]


def test_what_cannot_be_measured_is_a_sentence_of_the_report(graph: Graph):
    titles = [title for number in range(60) if own_split(fold_title(title := f"Air {number}")) == "train"][:24]
    for number, title in enumerate(titles):
        path = graph.paths.raw / "tunes" / "reel" / f"Artist {number // 3}" / f"{title}.mid"
        write_tune(path, style="reel", seed=number, bars=8)
    graph.ingest()
    graph.tokenise("reel")
    graph.make("checkpoint", partition="gpt", config=TINY | {"tokens": 1_000, "samples": 0})
    graph.make("generated_samples", partition="gpt|reel", config={"count": 2, "max_bars": 4})
    graph.make(*MEASURES, partition="gpt", config=QUICK)
    graph.make("evaluation_report", partition="gpt")
    page = (graph.paths.evaluation("gpt") / "report.html").read_text()
    said = re.findall(r"Not in this report: (.*)", page)
    beginnings = (
        "There is no test piece with a note to score",
        "Genre consistency needs two genres with training",
        "No test piece begins with a note that the network has heard",
        "No test piece has notes with a bar before and a bar behind them",
        "No genre has both samples and test pieces of 2 bars",
        "No genre has both samples and test pieces of 8 bars",
        "Guidance is judged by two genres with training and test pieces",
        "Copying is judged beside test pieces of the samples&#39; genres",
        "No test piece of the network&#39;s genres has a note",
        "There are no ratings yet of the checkpoint",
    )
    assert len(said) == len(beginnings)
    assert all(any(sentence.startswith(beginning) for sentence in said) for beginning in beginnings)
    assert "<audio" in page


def test_a_genre_whose_name_is_longer_than_a_file_may_be_called(graph: Graph):
    genre, tunes = "polka" * 50, graph.paths.raw / "tunes"
    write_corpus(graph.paths.raw, {"polka": 30}, bars=4)
    (tunes / "polka").rename(tunes / genre)
    graph.ingest()
    assert graph.genres == [genre]
    graph.tokenise(genre)
    graph.make("checkpoint", partition="gpt", config=TINY | {"samples": 1})
    graph.make("generated_samples", partition=f"gpt|{genre}", config={"count": 1, "max_bars": 2})
    assert graph.latest("generated_samples", f"gpt|{genre}").metadata["samples"].value == 1


def test_a_checkpoint_of_another_vocabulary(trained: Graph):
    from music_assets.checkpoints.runs import require_champion

    path = require_champion(trained.paths.checkpoints("gpt")) / "vocabulary.json"
    good = path.read_text()
    path.write_text(json.dumps(json.loads(good) | {"fingerprint": "0123456789abcdef"}))
    try:
        assert "vocabulary" in failure(trained.run("generated_samples", partition="gpt|reel"))
    finally:
        path.write_text(good)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be filled up; its drop folder lies elsewhere."""
    with disks.small_disk(tmp_path / "disk", "4m") as disk:
        (tmp_path / "raw").mkdir()
        (disk / "raw").symlink_to(tmp_path / "raw")
        yield disk


def test_a_full_disk_is_one_sentence_and_loses_nothing(small_disk: Path):
    for graph in graph_on(small_disk):
        write_corpus(graph.paths.raw, {"reel": 30}, bars=4)
        graph.ingest()
        before = graph.paths.files.read_bytes()
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        write_tune(graph.paths.raw / "tunes/reel/New/Arrival.mid", seed=900)
        assert failure(graph.run("raw_midi")).startswith(f"The disk that holds {small_disk}")
        assert graph.paths.files.read_bytes() == before
        filler.unlink()
        graph.ingest()
        assert graph.latest("midi_index").metadata["files"].value == 31


@pytest.mark.slow
def test_the_night_retrains_only_what_has_changed(trained: Graph):
    assert retrainings(trained.instance, trained.paths) == []
    write_tune(trained.paths.raw / "tunes/reel/New/Arrival.mid", style="reel", seed=900, bars=8)
    trained.ingest()
    for genre in ("jig", "reel"):
        trained.tokenise(genre)
    requested = retrainings(trained.instance, trained.paths)
    assert "gpt" in {request.partition_key for request in requested}
    for request in requested:
        settings = request.run_config["ops"]["checkpoint"]["config"]
        assert settings["tokens"] == TINY["tokens"]
        trained.make("checkpoint", partition=request.partition_key, config=settings)
    assert retrainings(trained.instance, trained.paths) == []
