import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from music_assets.checkpoints.runs import CheckpointError, RunLocked, locked, read_facts, set_champion
from music_assets.checkpoints.storage import load_checkpoint, load_trainer_state
from music_assets.foundation.publishing import DiskFull
from music_assets.tokens.vocabulary import DOCUMENT_FINGERPRINT, Vocabulary, VocabularyMismatch
from music_assets.training import compilation, loop
from music_assets.training.batches import Batch, Batches
from music_assets.training.champion import challenge
from music_assets.training.compilation import can_compile
from music_assets.training.loop import TrainingDiverged, train
from music_assets.training.optimizer import PEAK_RATES, learning_rate_schedule
from music_assets.training.position import RunMismatch
from music_assets.training.precision import UnusableDevice
from music_assets.training.scoring import token_nats
from music_assets.training.settings import TrainingSettings
from music_assets.training.validation import BEGINNING, bits_saved_by_genre, validate, validation_set
from music_assets_tests import disks
from music_assets_tests.architectures import TOKEN_ARCHITECTURES
from music_assets_tests.training.corpus import shards, small_config
from music_assets_tests.training.stopping import Stopped, until

pytestmark = pytest.mark.slow

DROPOUT: dict[str, Any] = {"network": {"dropout": 0.2}}


def weights(result):
    return load_file(result.latest / "model.safetensors")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", TOKEN_ARCHITECTURES)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, architecture, optimizer):
    network = {"layers": 2, "dropout": 0.2}
    config = small_config(architecture, network=network, optimizer=optimizer, save_minutes=1e-9)
    whole, parts = [], []
    expected = train(architecture, config, shards(), tmp_path / "whole", report=until(None, whole))
    for step in (1, 5, 7):
        with pytest.raises(Stopped):
            train(architecture, config, shards(), tmp_path / "parts", report=until(step, parts))
    resumed = train(architecture, config, shards(), tmp_path / "parts", report=until(None, parts))
    assert expected.steps == resumed.steps == 12
    assert dict(parts) == dict(whole)
    for name, tensor in weights(expected).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    assert expected.facts.bits_per_note == resumed.facts.bits_per_note


def test_losses_between_reports_survive_a_stop(tmp_path):
    config = small_config(report_every=5, save_minutes=1e-9)
    whole, parts, stopped = [], [], []
    train("gpt", config, shards(), tmp_path / "whole", report=until(None, whole))

    def stop_at_seven(batches, n, rank, world, original=Batches.rows):
        if n == 7 and not stopped:
            stopped.append(n)
            raise Stopped
        return original(batches, n, rank, world)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batches, "rows", stop_at_seven)
        with pytest.raises(Stopped):
            train("gpt", config, shards(), tmp_path / "parts", report=until(None, parts))
    train("gpt", config, shards(), tmp_path / "parts", report=until(None, parts))
    assert parts == whole


KILLED = """
import sys
from pathlib import Path
from typing import Any
import torch
from music_assets.training.loop import train
from music_assets_tests.training.corpus import shards, small_config

torch.set_num_threads(int(sys.argv[2]))  # sums of another number of parts are other ones
config = small_config(tokens=4 * 64 * 40, save_minutes=1e-9)
train("gpt", config, shards(), Path(sys.argv[1]), report=lambda progress: print(progress.step, flush=True))
"""


@pytest.mark.slow
def test_a_killed_process_is_resumed_with_the_same_losses(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(torch.get_num_threads())],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if int(line) == 15:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    config = small_config(tokens=4 * 64 * 40, save_minutes=1e-9)
    whole, rest = [], []
    expected = train("gpt", config, shards(), tmp_path / "whole", report=until(None, whole))
    resumed = train("gpt", config, shards(), tmp_path / "killed", report=until(None, rest))
    assert 14 <= rest[0][0] <= 20
    assert set(rest) <= set(whole)
    for name, tensor in weights(expected).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train("gpt", small_config(), shards(), tmp_path / "run")
    reports = []
    second = train("gpt", small_config(), shards(), tmp_path / "run", report=reports.append)
    assert reports == []
    assert (first.steps, first.facts) == (second.steps, second.facts)


def test_what_a_checkpoint_holds(tmp_path):
    config = small_config(**DROPOUT)
    vocabulary = Vocabulary(("jazz", "waltz", "reel"))
    reports = []
    made = shards()
    result = train(
        "gpt", config, made, tmp_path / "run", vocabulary=vocabulary, report=reports.append, mlflow_run_id="x"
    )
    checkpoint = load_checkpoint(result.best)
    facts = checkpoint.facts
    assert checkpoint.vocabulary == vocabulary
    assert not checkpoint.network.training
    assert facts.genres == ["reel", "waltz"]
    assert facts.transpositions == ["original", "up2"]
    assert facts.run == "run"
    assert facts.mlflow_run_id == "x"
    assert facts.validation_hash == result.validation.hash
    assert TrainingSettings.model_validate(facts.training) == config
    assert sum(shard.pieces for shard in facts.shards) == 4 * 8
    score = validate(checkpoint.network, checkpoint.vocabulary, result.validation)
    assert score
    assert score.bits_per_note == facts.bits_per_note
    assert score.by_genre == facts.bits_per_note_by_genre
    validated = [progress for progress in reports if progress.score]
    assert len(validated) == config.validations
    assert facts.bits_per_note == min(progress.score.bits_per_note for progress in validated)
    assert result.first_loss
    assert result.last_loss
    assert result.last_loss < result.first_loss
    assert load_trainer_state(result.best) is None
    assert load_trainer_state(result.latest) is not None


def test_the_network_learns(tmp_path):
    config = small_config(tokens=4 * 64 * 150, learning_rate=0.01, network={"width": 64}, report_every=10)
    result = train("gpt", config, shards(), tmp_path / "run")
    assert result.first_loss
    assert result.last_loss
    assert result.last_loss < 0.6 * result.first_loss


def test_minutes_are_a_budget_too(tmp_path):
    started = time.perf_counter()
    reports = []
    config = small_config(tokens=None, minutes=0.03, validations=3)
    result = train("gpt", config, shards(), tmp_path / "run", report=reports.append)
    assert result.minutes == pytest.approx(0.03, abs=0.02)
    assert time.perf_counter() - started < 10
    assert 1 <= sum(progress.score is not None for progress in reports) <= 3
    assert reports[-1].score is not None
    assert reports[-1].fraction >= 1


def test_a_network_may_be_told_nothing_of_what_came_before(tmp_path):
    result = train("gpt", small_config(network={"memory": False}), shards(), tmp_path / "run")
    network = load_checkpoint(result.best).token_network
    assert network.columns == 0
    assert json.loads((result.best / "config.json").read_text())["memory"] is False


def test_what_the_genre_saves_is_counted_on_beginnings(tmp_path):
    made = shards()
    result = train("gpt", small_config(tokens=256 * 40, learning_rate=0.02), made, tmp_path / "run")
    network, vocabulary = load_checkpoint(result.best).token_network, load_checkpoint(result.best).vocabulary
    costs = {
        told: [
            nats[:BEGINNING].sum()
            for genre, documents in result.validation.documents.items()
            for nats in token_nats(network, vocabulary, [d[:BEGINNING] for d in documents], genre if told else None)
        ]
        for told in (True, False)
    }
    saved = np.mean(np.array(costs[False]) - costs[True]) / np.log(2)
    assert result.facts.measures["genre_saves"] == pytest.approx(saved, rel=0.05)
    stranger = Vocabulary(("polka",))
    assert bits_saved_by_genre(network, stranger, result.validation) is None


def test_transpositions_can_be_chosen(tmp_path):
    result = train("gpt", small_config(transpositions=["original"]), shards(), tmp_path / "run")
    assert result.facts.transpositions == ["original"]
    assert len(result.facts.shards) == 2


def test_without_held_out_pieces_the_latest_is_the_best(tmp_path):
    moved = [shard for shard in shards() if shard.transposition != "original"]
    result = train("gpt", small_config(), moved, tmp_path / "run")
    assert result.validation.pieces == 0
    assert result.facts.bits_per_note is None
    assert result.facts.step == 12


def test_the_validation_set_is_held_out_balanced_and_fixed():
    made = shards(pieces=36)
    chosen = validation_set(made, tokens=2_000)
    assert chosen.hash == validation_set(made[::-1], tokens=2_000).hash
    assert chosen.hash != validation_set(made, tokens=4_000).hash
    for shard in made:
        if shard.transposition == "original":
            rows = shard.where("valid")
            documents = chosen.documents[shard.genre]
            assert 0 < len(documents) < len(rows)
            for row, document in zip(rows, documents, strict=False):
                assert (shard.document(row) == document).all()
            total = sum(map(len, documents))
            assert 1_000 <= total < 1_000 + max(map(len, documents))


def test_two_trainers_never_write_one_folder(tmp_path):
    with locked(tmp_path / "run"), pytest.raises(RunLocked):
        train("gpt", small_config(), shards(), tmp_path / "run")


def test_other_settings_or_data_are_no_resumption(tmp_path):
    train("gpt", small_config(), shards(), tmp_path / "run")
    with pytest.raises(RunMismatch, match="another learning_rate"):
        train("gpt", small_config(learning_rate=1e-3), shards(), tmp_path / "run")
    with pytest.raises(RunMismatch, match="another dataset_hash"):
        train("gpt", small_config(), shards(pieces=13), tmp_path / "run")
    train("lstm", small_config("lstm"), shards(), tmp_path / "lstm")
    with pytest.raises(RunMismatch, match="another architecture"):
        train("gru", small_config("lstm"), shards(), tmp_path / "lstm")


def test_a_diverging_loss_stops_the_run_and_leaves_the_last_good_state(tmp_path, monkeypatch):
    original = loop.learning_rate_schedule
    shares = iter(range(100))
    diverging = lambda *given: math.nan if next(shares) == 7 else original(*given)  # noqa: E731
    monkeypatch.setattr(loop, "learning_rate_schedule", diverging)
    with pytest.raises(TrainingDiverged, match=r"nan at step 9: lower learning_rate"):
        train("gpt", small_config(report_every=3), shards(), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "latest").facts.step == 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train("gpt", small_config(), shards(), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copied(trained, tmp_path):
    return Path(shutil.copytree(trained.best.parent, tmp_path / "run"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocabulary.json", "training.json"])
def test_a_missing_or_truncated_file_is_one_sentence(copied, name):
    file = copied / "best" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_checkpoint(copied / "best")
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(copied / "best")


def test_weights_of_another_shape_are_refused(copied):
    path = copied / "best" / "config.json"
    path.write_text(path.read_text().replace('"width": 32', '"width": 64'))
    with pytest.raises(CheckpointError, match=r"other weights than this version's network .*: train again") as caught:
        load_checkpoint(copied / "best")
    assert "\n" not in str(caught.value)


def test_another_vocabulary_is_refused(copied):
    path = copied / "best" / "vocabulary.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"fingerprint": "0123456789abcdef"}))
    with pytest.raises(VocabularyMismatch, match=r"best.*0123456789abcdef"):
        load_checkpoint(copied / "best")


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_sentence(tmp_path):
    """As version 0.0 left it: no fingerprint beside the facts, the one of documents in the vocabulary, `orders` in
    the code alone."""
    folder = tmp_path / "gpt" / "old" / "best"
    folder.mkdir(parents=True)
    config = {"architecture": "gpt", "layers": 1, "width": 32, "dropout": 0.0, "heads": 2, "embedding": None}
    (folder / "config.json").write_text(json.dumps(config | {"context": 64, "tied": False}))
    vocabulary = {"fingerprint": DOCUMENT_FINGERPRINT, "size": Vocabulary().size, "genres": ["reel"]}
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    save_file({"embedding.weight": torch.zeros(704, 32)}, folder / "model.safetensors")
    facts = {"architecture": "gpt", "run": "old", "step": 1, "tokens": 256, "minutes": 0.1, "parameters": 9}
    facts |= {"genres": ["reel"], "transpositions": ["original"], "shards": [], "dataset_hash": "", "seed": 0}
    facts |= {"validation_hash": "", "training": {"ema": None}, "torch_version": "2"}
    (folder / "training.json").write_text(json.dumps(facts))
    for read in (read_facts, load_checkpoint):
        with pytest.raises(CheckpointError, match=r"best was trained by an earlier version .*: train again") as caught:
            read(folder)
        assert "\n" not in str(caught.value)
    set_champion(tmp_path / "gpt", folder)
    result = train("gpt", small_config(), shards(), tmp_path / "gpt" / "new")
    decision = challenge(tmp_path / "gpt", result.best, result.validation)
    assert decision.won
    assert "earlier version" in decision.reason


def test_a_damaged_trainer_state_is_one_sentence(copied):
    file = copied / "latest" / "trainer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"trainer's state .* is damaged"):
        train("gpt", small_config(), shards(), copied)


def test_no_pickle_is_written(trained):
    suffixes = {path.suffix for path in trained.best.parent.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors", ""}


def test_a_disk_that_is_full_leaves_the_old_checkpoint(copied, monkeypatch):
    from music_assets.checkpoints import storage as checkpoints

    def full(*arguments):
        raise OSError(28, "No space left on device")

    before = load_checkpoint(copied / "best").facts
    monkeypatch.setattr(checkpoints, "save_file", full)
    loaded = load_checkpoint(copied / "best")
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_checkpoint(copied / "best", loaded.network, loaded.vocabulary, loaded.facts)
    monkeypatch.undo()
    assert load_checkpoint(copied / "best").facts == before
    assert sorted(path.name for path in copied.iterdir()) == ["best", "latest", "lock"]


def test_the_learning_rate_rises_and_falls():
    config = small_config(warmup=0.1, final_rate=0.2)
    assert learning_rate_schedule(0.0, config) == 0
    assert learning_rate_schedule(0.05, config) == pytest.approx(0.5)
    assert learning_rate_schedule(0.1, config) == pytest.approx(1.0)
    assert learning_rate_schedule(0.55, config) == pytest.approx(0.6)
    assert learning_rate_schedule(1.0, config) == pytest.approx(0.2)
    assert learning_rate_schedule(1.2, config) == pytest.approx(0.2)
    assert learning_rate_schedule(0.0, small_config(warmup=0.0)) == 1


def test_a_run_needs_a_budget():
    with pytest.raises(ValidationError, match="needs a budget"):
        TrainingSettings.model_validate({"minutes": None})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["minutes", "learning_rate", "weight_decay", "gradient_clip", "genre_temperature"])
def test_settings_are_finite(name, number):
    with pytest.raises(ValidationError, match="finite number"):
        TrainingSettings.model_validate({name: number})


def test_an_unknown_device_is_one_sentence(tmp_path):
    with pytest.raises(UnusableDevice, match="The device 'abacus' cannot be used"):
        train("gpt", small_config(device="abacus"), shards(), tmp_path / "run")


def test_accumulated_batches_make_one_step(tmp_path):
    reports = []
    config = small_config(accumulate=3, tokens=3 * 4 * 64 * 5)
    result = train("gpt", config, shards(), tmp_path / "run", report=reports.append)
    assert result.steps == 5
    assert result.tokens == 3 * 4 * 64 * 5


def test_a_large_batch_equals_accumulated_parts(tmp_path, monkeypatch):
    """The same rows at once or in parts: equal but for the order of sums."""
    whole, parts = [], []
    train("gpt", small_config(batch_size=8, tokens=8 * 64 * 6), shards(), tmp_path / "whole", report=whole.append)
    rows = Batches.rows

    def halves(self, n, rank=0, world=1):
        self.batch_size = 8
        half = Batch._make(part[n % 2 :: 2] for part in rows(self, n // 2, rank, world))
        self.batch_size = 4
        return half

    monkeypatch.setattr(Batches, "rows", halves)
    config = small_config(batch_size=4, accumulate=2, tokens=8 * 64 * 6)
    train("gpt", config, shards(), tmp_path / "parts", report=parts.append)
    assert [one.loss for one in parts] == pytest.approx([one.loss for one in whole], rel=0.002)
    assert [one.gradient_norm for one in parts] == pytest.approx([one.gradient_norm for one in whole], rel=0.05)


def test_training_ends_when_validation_no_longer_improves(tmp_path):
    config = small_config(tokens=4 * 64 * 400, validations=40, patience=2, learning_rate=1e-12, network={"width": 16})
    reports = []
    result = train("gpt", config, shards(), tmp_path / "run", report=reports.append)
    scores = [one.score.bits_per_note for one in reports if one.score]
    assert config.tokens is not None
    assert result.tokens < config.tokens
    assert min(scores[-2:]) >= min(scores[:-2])
    assert train("gpt", config, shards(), tmp_path / "run").tokens == result.tokens


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path / "disk", "24m") as disk:
        yield disk


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_resumes_from_the_old_checkpoint(small_disk, tmp_path):
    config = small_config(save_minutes=1e-9)

    def fill(progress):
        if progress.step == 7:
            with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass

    with pytest.raises(DiskFull, match="free some space and start again") as caught:
        train("gpt", config, shards(), small_disk / "run", report=fill)
    assert "\n" not in str(caught.value)
    assert load_checkpoint(small_disk / "run" / "latest").facts.step == 6
    (small_disk / "filler").unlink()
    resumed = train("gpt", config, shards(), small_disk / "run")
    expected = train("gpt", config, shards(), tmp_path / "whole")
    for name, tensor in weights(expected).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:<class .*> should not be instantiated:DeprecationWarning")  # torch.compile does
def test_a_compiled_network_learns_the_same_and_resumes_bit_by_bit(tmp_path):
    if not can_compile(torch.device("cpu")):
        pytest.skip("torch.compile needs a C++ compiler and Python's header files")
    plain, compiled, parts = [], [], []
    train("gpt", small_config(), shards(), tmp_path / "plain", report=plain.append)
    train("gpt", small_config(compile=True), shards(), tmp_path / "compiled", report=compiled.append)
    assert [one.loss for one in compiled] == pytest.approx([one.loss for one in plain], rel=0.01)

    config = small_config(compile=True, save_minutes=1e-9, **DROPOUT)
    expected = train("gpt", config, shards(), tmp_path / "whole")
    with pytest.raises(Stopped):
        train("gpt", config, shards(), tmp_path / "parts", report=until(5, parts))
    resumed = train("gpt", config, shards(), tmp_path / "parts", report=until(None, parts))
    for name, tensor in weights(expected).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def slow_to_compile(loss, **options):
    """In the place of torch.compile: the first call takes two seconds."""
    calls = itertools.count()

    def compiled(*batch):
        if next(calls) == 0:
            time.sleep(2)
        return loss(*batch)

    return compiled


def test_the_learning_rate_begins_to_rise_when_the_network_is_compiled(tmp_path, monkeypatch):
    seen = []

    def report(progress):
        seen.append(progress)
        if progress.step == 2:
            raise Stopped

    monkeypatch.setattr(torch, "compile", slow_to_compile)
    config = small_config(compile=True, tokens=None, minutes=2, warmup=0.5, report_every=1)
    with pytest.raises(Stopped):
        train("gpt", config, shards(), tmp_path / "run", report=report)
    assert seen[0].fraction > 0.01  # it took a while
    assert seen[0].learning_rate < seen[1].learning_rate < 0.1 * PEAK_RATES["adamw"]


@pytest.mark.parametrize(
    ("architecture", "settings", "expected"),
    [
        ("gpt", {"minutes": 3}, True),
        ("gpt", {"minutes": 1}, False),
        ("gpt", {"minutes": 1, "compile": True}, True),
        ("gpt", {"minutes": 3, "compile": False}, False),
        ("gpt", {"minutes": None, "tokens": 10**7}, True),
        ("gpt", {"minutes": None, "tokens": 10**6}, False),
        ("lstm", {"minutes": 3}, False),
    ],
)
def test_a_network_is_compiled_where_it_pays(architecture, settings, expected, monkeypatch):
    monkeypatch.setattr(compilation, "can_compile", lambda device: True)
    assert compilation.should_compile(TrainingSettings(**settings), architecture, torch.device("cpu")) is expected


WITHOUT_COMPILER = """
import torch
from music_assets.training.champion import challenge
from music_assets.training.compilation import can_compile
print(can_compile(torch.device("cpu")))
"""


@pytest.mark.slow
def test_without_a_compiler_it_says_what_to_install_and_goes_on(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER],
        env=os.environ | {"PATH": "", "CXX": "", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.stdout == "False\n"
    assert "install a C++ compiler" in found.stderr
