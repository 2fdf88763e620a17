import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import pytest
import torch
from mlflow import MlflowClient

from music_assets.checkpoints.runs import champion, read_facts
from music_assets.paths import DataPaths
from music_assets.training.champion import Decision, Standing, challenge
from music_assets.training.loop import train
from music_assets.training.mlflow_store import TrackingUnreachable, tracking_uri
from music_assets.training.progress import TrainingProgress
from music_assets.training.tracking import CHAMPION, Tracking
from music_assets.training.validation import Score, validation_set
from music_assets_tests.disks import small_disk
from music_assets_tests.ports import free_port
from music_assets_tests.training.corpus import shards, small_config, small_roll_config

# MLflow asks SQLAlchemy 2.1 for a strategy that it deprecates.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A data folder with an MLflow store; making one takes seconds."""
    paths = DataPaths(tmp_path_factory.mktemp("data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        paths.mlflow.mkdir()
        MlflowClient(tracking_uri(paths)).search_experiments()
    return paths


@pytest.fixture
def paths(migrated, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copied = DataPaths(tmp_path / "data")
    copied.mlflow.mkdir(parents=True)
    shutil.copy(migrated.mlflow / "mlflow.db", copied.mlflow)
    return copied


def progress(tokens, **other):
    values = {"step": 1, "seconds": 6.0, "fraction": 0.5, "loss": 2.0, "learning_rate": 0.1}
    values |= {"gradient_norm": 1.0, "tokens_per_second": 100.0, "waited": 0.01, "score": None}
    return TrainingProgress(tokens=tokens, **(values | other))


def test_the_store_lies_in_the_data_folder_unless_the_environment_names_another(paths, monkeypatch):
    assert tracking_uri(paths) == f"sqlite:///{paths.root}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri(paths) == "http://mlflow:5000"


@pytest.mark.slow
def test_the_data_folder_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    paths = DataPaths(tmp_path / "50% [done]? #1 'x' é" / "a%20b")
    tracking = Tracking(paths)
    with tracking.run("gpt") as run:
        result = train("gpt", small_config(), shards(), paths.checkpoints("gpt") / "one", report=run.report)
        run.log_shards(result.facts.shards)
        run.register(result.best, challenge(paths.checkpoints("gpt"), result.best, result.validation))
    assert {path.name for path in tmp_path.iterdir()} == {"50% [done]? #1 'x' é"}
    assert {path.name for path in paths.mlflow.iterdir()} == {"mlflow.db", "artifacts"}
    assert (paths.mlflow / "artifacts" / run.id / "artifacts" / "training" / "shards.csv").is_file()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)  # as people would give it
    assert Tracking(DataPaths(tmp_path / "other")).has_run(run.id)
    with mlflow_server(tracking.uri, tmp_path / "served", port := free_port()):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        assert len(Tracking(paths).curve(run.id, "train/loss")) == 12
        listed = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/artifacts/list?run_id={run.id}&path=training"
        with urllib.request.urlopen(listed) as answer:
            assert "training/shards.csv" in answer.read().decode()


def one_sentence(paths, *said):
    """What opening the store says: a sentence for people, and no SQL."""
    with pytest.raises(TrackingUnreachable) as caught:
        Tracking(paths)
    message = str(caught.value)
    assert all(words in message for words in said), message
    assert "\n" not in message
    assert "SQL" not in message


def test_a_database_that_cannot_be_used_is_named_with_the_way_out(paths):
    file = paths.mlflow / "mlflow.db"
    whole = file.read_bytes()
    file.write_bytes(b"no database" * 100)
    one_sentence(paths, str(file), "file is not a database", "move it away")
    file.write_bytes(whole[: len(whole) // 2])
    one_sentence(paths, str(file), "malformed", "move it away")
    file.unlink()
    file.mkdir()
    one_sentence(paths, str(file), "unable to open", "move it away")
    file.rmdir()
    file.write_bytes(whole)
    with sqlite3.connect(file) as connection:
        connection.execute("update alembic_version set version_num = 'ffffffffffff'")
    connection.close()
    one_sentence(paths, str(file), "another version of MLflow", "mlflow db upgrade")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://127.0.0.1:9", "server at http://127.0.0.1:9 does not answer: start it again"),
        ("runs", "MLFLOW_TRACKING_URI is runs, where MLflow does not keep runs"),
        ("ftp://somewhere", "MLFLOW_TRACKING_URI is ftp://somewhere, where MLflow does not keep runs"),
        ("sqlite:////no/such/folder/mlflow.db", "database /no/such/folder/mlflow.db cannot be used"),
    ],
)
def test_an_address_that_leads_nowhere_is_named(paths, uri, said, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    one_sentence(paths, said)


@pytest.mark.slow
def test_training_goes_on_while_another_program_writes_to_the_database(paths, monkeypatch, capfd, caplog):
    monkeypatch.setattr("music_assets.training.mlflow_store._LOCKED_SECONDS", 0.1)
    tracking = Tracking(paths)
    with tracking.run("gpt") as run:
        with sqlite3.connect(paths.mlflow / "mlflow.db") as other:
            other.execute("begin exclusive")
            run.report(progress(100))
            one_sentence(paths, "is locked, for another program writes to it")
            run.report(progress(200))
        other.close()
        assert "is locked" in caplog.text
        assert "Training goes on" in caplog.text
    assert [point.step for point in tracking.client.get_metric_history(run.id, "train/loss")] == [100, 200]
    assert "SQL" not in caplog.text + "".join(capfd.readouterr())


def test_training_goes_on_while_the_disk_is_full(migrated, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("music_assets.training.tracking._RETRY_SECONDS", 0)
    size = (migrated.mlflow / "mlflow.db").stat().st_size
    with small_disk(tmp_path / "disk", str(size + (2 << 20))) as disk:
        paths = DataPaths(disk)
        paths.mlflow.mkdir()
        shutil.copy(migrated.mlflow / "mlflow.db", paths.mlflow)
        tracking = Tracking(paths)
        with tracking.run("gpt") as run:
            with suppress(OSError), (disk / "filler").open("wb", 0) as filler:
                while filler.write(bytes(4096)):
                    pass
            run.report(progress(100))
            assert "database" in caplog.text
            assert "is full: free some space" in caplog.text
            (disk / "filler").unlink()
        assert [point.step for point in tracking.client.get_metric_history(run.id, "train/loss")] == [100]


def test_a_run_holds_settings_curves_data_and_machine(paths, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    config = small_config(learning_rate=0.01)
    made = shards()
    tracking = Tracking(paths)
    with tracking.run("gpt", "tiny", {"dagster.run_id": "abc", "dagster.asset_key": "checkpoint"}) as run:
        run.log_settings(training=config.model_dump())
        result = train("gpt", config, made, paths.checkpoints("gpt") / "one", report=run.report)
        run.log_shards(result.facts.shards)
    found = tracking.client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name
    assert found.info.run_name.startswith("gpt-tiny 20")
    assert found.data.tags["dagster.run_id"] == "abc"
    assert found.data.params["training.learning_rate"] == str(config.learning_rate)
    assert json.loads(found.data.params["training.network"])["width"] == 32
    losses = tracking.client.get_metric_history(run.id, "train/loss")
    assert [point.step for point in losses] == [256 * step for step in range(1, 13)]
    assert found.data.metrics["valid/bits_per_note"] >= (result.facts.bits_per_note or 0)
    assert "valid/bits_per_note/reel" in found.data.metrics
    assert "system/cpu_utilization_percentage" in found.data.metrics
    assert found.inputs
    (dataset,) = found.inputs.dataset_inputs
    assert dataset.dataset.digest == result.facts.dataset_hash
    assert json.loads(dataset.dataset.profile or "{}")["num_rows"] == 4
    table = paths.mlflow / "artifacts" / run.id / "artifacts" / "training" / "shards.csv"
    assert table.read_text().splitlines()[0] == "genre,transposition,pieces,tokens,hash"


def test_a_killed_run_goes_on_in_the_same_history(paths):
    tags = {"dagster.root_run_id": "root", "dagster.run_id": "first"}
    tracking = Tracking(paths)
    killed = tracking.run("gpt", "tiny", tags)
    first = killed.__enter__()
    first.log_settings(training={"seed": 0})
    first.report(progress(100))
    assert not killed.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert tracking.client.get_run(first.id).info.status == "KILLED"
    with Tracking(paths).run("gpt", "tiny", tags | {"dagster.run_id": "second"}) as second:
        assert tracking.client.get_run(first.id).info.status == "RUNNING"
        second.log_settings(training={"seed": 1})
        second.report(progress(200, score=Score(4.5, {"slip_jig": 4.5})))
    assert second.id == first.id
    found = tracking.client.get_run(first.id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["dagster.run_id"] == "second"
    assert found.data.params["training.seed"] == "0"
    assert [point.step for point in tracking.client.get_metric_history(first.id, "train/loss")] == [100, 200]
    with tracking.run("lstm", "tiny", tags) as other:
        pass
    assert other.id != first.id


def test_the_better_of_two_is_champion_here_and_in_mlflow(paths):
    folder = paths.checkpoints("gpt")
    made = shards()
    tracking = Tracking(paths)
    versions, decisions, decided = [], [], []
    for name, steps in (("short", 2), ("long", 80), ("shorter", 1)):
        with tracking.run("gpt") as run:
            config = small_config(tokens=256 * steps, learning_rate=0.02)
            result = train("gpt", config, made, folder / name, mlflow_run_id=run.id)
            decided.append(run.id)
            decisions.append(challenge(folder, result.best, result.validation))
            versions.append(run.register(result.best, decisions[-1]))
            assert run.register(result.best, decisions[-1]) == versions[-1]
    assert versions == [1, 2, 3]
    assert [decision.won for decision in decisions] == [True, True, False]
    assert "first champion" in decisions[0].reason
    assert "fewer than the champion's" in decisions[1].reason
    assert "not fewer than the champion's" in decisions[2].reason
    assert champion(folder) == folder / "long" / "best"
    assert int(tracking.client.get_model_version_by_alias("music-assets-gpt", CHAMPION).version) == 2
    version = tracking.client.get_model_version("music-assets-gpt", "2")
    assert version.tags["decision"] == decisions[1].reason
    assert version.tags["incumbent_bits_per_note"] == f"{decisions[0].challenger.bits:.4f}"
    assert version.tags["genre_consistency"] == "not measured"  # nobody judged
    logged = tracking.client.get_logged_model(version.tags["model_id"])
    assert logged.status == "READY"
    stored = tracking.client.list_logged_model_artifacts(logged.model_id)
    assert {file.path for file in stored} >= {"model.safetensors", "config.json", "vocabulary.json", "training.json"}
    outputs = tracking.client.get_run(decided[1]).outputs
    assert outputs
    assert [model.model_id for model in outputs.model_outputs] == [logged.model_id]


def test_the_champion_is_scored_again_on_other_pieces(tmp_path):
    made = shards()
    old = train("gpt", small_config(tokens=256 * 40, learning_rate=0.02), made, tmp_path / "old")
    challenge(tmp_path, old.best, old.validation)
    more = shards(pieces=24)
    new = train("gpt", small_config(tokens=256), more, tmp_path / "new")
    assert new.validation.hash != old.validation.hash
    decision = challenge(tmp_path, new.best, validation_set(more, 100_000))
    assert not decision.won
    assert decision.champion is not None
    assert decision.champion.bits != old.facts.bits_per_note
    assert champion(tmp_path) == old.best
    assert challenge(tmp_path, old.best, old.validation).reason == "It is the champion already."


def test_a_champion_that_cannot_be_used_gives_way(tmp_path):
    made = shards()
    old = train("gpt", small_config(), made, tmp_path / "old")
    challenge(tmp_path, old.best, old.validation)
    (old.best / "model.safetensors").unlink()
    new = train("gpt", small_config(tokens=256), made, tmp_path / "new")
    decision = challenge(tmp_path, new.best, new.validation)
    assert decision.won
    assert "cannot be used any more" in decision.reason
    assert champion(tmp_path) == new.best


def test_without_pieces_to_compare_on_the_newer_wins(tmp_path):
    moved = [shard for shard in shards() if shard.transposition != "original"]
    for name in ("old", "new"):
        result = train("gpt", small_config(), moved, tmp_path / name)
        decision = challenge(tmp_path, result.best, result.validation)
    reason = "It is newer, and there is no held-out piece to compare on."
    assert decision == Decision(True, reason, Standing(None), Standing(None))
    assert read_facts(champion(tmp_path) or tmp_path).run == "new"


def test_files_can_be_added_to_a_run_later(paths, tmp_path):
    tracking = Tracking(paths)
    with tracking.run("gpt") as run:
        pass
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "one.ogg").write_bytes(b"music")
    tracking.log_artifacts(run.id, tmp_path / "samples", "samples/reel")
    tracking.log_artifact(run.id, tmp_path / "samples" / "one.ogg", "alone")
    kept = {
        file.path for folder in ("samples/reel", "alone") for file in tracking.client.list_artifacts(run.id, folder)
    }
    assert kept == {"samples/reel/one.ogg", "alone/one.ogg"}
    assert tracking.client.get_run(run.id).info.status == "FINISHED"


@pytest.mark.slow
def test_mlflow_says_nothing(tmp_path):
    code = (
        "from pathlib import Path; from music_assets.paths import DataPaths;"
        "from music_assets.training.tracking import Tracking;"
        f"tracking = Tracking(DataPaths(Path({str(tmp_path)!r})))\n"
        "with tracking.run('gpt') as run: run.log_settings(training={'seed': 0})"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert (result.stdout, result.stderr) == ("", "")


@contextmanager
def mlflow_server(store, folder, port):
    """The real server on a store; what it is sent itself goes into a folder."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store]
    command += ["--artifacts-destination", str(folder)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            time.sleep(0.2)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
def test_training_goes_on_without_mlflow_and_its_history_is_whole(paths, monkeypatch, caplog):
    port, store = free_port(), tracking_uri(paths)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("music_assets.training.tracking._RETRY_SECONDS", 0.5)
    tags = {"dagster.root_run_id": "root"}
    config = small_config(tokens=256 * 30)
    folder = paths.checkpoints("gpt") / "one"
    with mlflow_server(store, paths.mlflow / "served", port) as server:
        tracking = Tracking(paths)

        def train_while_the_server_dies():
            with tracking.run("gpt", "tiny", tags) as run:

                def report(progress):
                    if progress.step == 10:
                        os.killpg(server.pid, signal.SIGKILL)
                    run.report(progress)

                begun.append(run.id)
                trained = train("gpt", config, shards(), folder, report=report)
                assert trained.steps == 30
                run.register(trained.best, challenge(paths.checkpoints("gpt"), trained.best, trained.validation))

        begun = []
        sentence = f"127.0.0.1:{port} does not answer: start it again"
        with pytest.raises(TrackingUnreachable, match=sentence) as caught:
            train_while_the_server_dies()
        assert "\n" not in str(caught.value)
        assert "Training goes on" in caplog.text
    with pytest.raises(TrackingUnreachable):
        Tracking(paths)
    with mlflow_server(store, paths.mlflow / "served", port), Tracking(paths).run("gpt", "tiny", tags) as again:
        assert [again.id] == begun
        trained = train("gpt", config, shards(), folder, report=again.report)
        assert trained.steps == 30
        decision = challenge(paths.checkpoints("gpt"), trained.best, trained.validation)
        assert again.register(trained.best, decision) == 1


def test_a_registered_model_has_its_card_and_its_environment(paths, tmp_path):
    tracking = Tracking(paths)
    with tracking.run("gpt", tags={"dagster.run_url": "http://dagster/runs/1"}) as run:
        run.link("http://mlflow/#/experiments/1/runs/2")
        run.log_environment()
        result = train("gpt", small_config(), shards(), paths.checkpoints("gpt") / "one", report=run.report)
        version = run.register(result.best, challenge(paths.checkpoints("gpt"), result.best, result.validation))
    card = tracking.client.get_model_version("music-assets-gpt", str(version)).description
    assert card is not None
    assert card == tracking.client.get_registered_model("music-assets-gpt").description
    assert f"{result.facts.bits_per_note:.3f} bits per note" in card
    assert "| reel | 8 |" in card
    assert "Licence" in card
    assert "seed 0" in card
    assert "[Dagster run](http://dagster/runs/1)" in card
    assert "[MLflow run](http://mlflow/#/experiments/1/runs/2)" in card
    packages = paths.mlflow / "artifacts" / run.id / "artifacts" / "environment" / "requirements.txt"
    assert f"torch=={torch.__version__}" in packages.read_text().splitlines()


def test_a_piano_roll_has_its_density_and_says_what_its_bits_are(paths):
    tracking = Tracking(paths)
    with tracking.run("pianoroll") as run:
        result = train(
            "pianoroll", small_roll_config(), shards(), paths.checkpoints("pianoroll") / "one", report=run.report
        )
        decision = challenge(paths.checkpoints("pianoroll"), result.best, result.validation)
        version = run.register(result.best, decision)
    metrics = tracking.client.get_run(run.id).data.metrics
    assert metrics["valid/density_found"] == pytest.approx(result.facts.measures["density_found"])
    assert metrics["valid/density_expected"] > 0
    card = tracking.client.get_model_version("music-assets-pianoroll", str(version)).description
    assert card is not None
    assert "bits per note of the roll, which compare with those of other piano rolls alone" in card
    assert "3,072 training roll steps" in card
