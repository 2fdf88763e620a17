import json
import os
import shutil
import subprocess
import sys

import pytest

from music_assets.checkpoints.runs import (
    CheckpointError,
    RunLocked,
    champion,
    dataset_hash,
    locked,
    remove_old_runs,
    require_champion,
    set_champion,
    shard_facts,
)
from music_assets_tests.training.corpus import shards


def test_the_champion_survives_moving_the_folder(tmp_path):
    folder = tmp_path / "gpt"
    (folder / "one" / "best").mkdir(parents=True)
    assert champion(folder) is None
    with pytest.raises(CheckpointError, match="train gpt first"):
        require_champion(folder)
    set_champion(folder, folder / "one" / "best")
    assert require_champion(folder) == folder / "one" / "best"
    moved = folder.rename(tmp_path / "elsewhere")
    assert champion(moved) == moved / "one" / "best"


def test_a_damaged_or_dangling_pointer_is_an_error(tmp_path):
    (tmp_path / "one" / "best").mkdir(parents=True)
    set_champion(tmp_path, tmp_path / "one" / "best")
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"champion\.json names .*best, which is gone"):
        champion(tmp_path)
    for text in ("", "[]", "{}", '"best"'):
        (tmp_path / "champion.json").write_text(text)
        with pytest.raises(CheckpointError, match="is damaged"):
            champion(tmp_path)


HOLD = """
import sys, time
from pathlib import Path
from music_assets.checkpoints.runs import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_has_one_trainer_and_a_killed_one_frees_it(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RunLocked, match="Another process is training in"), locked(tmp_path):
        pass
    other.kill()
    other.communicate()
    with locked(tmp_path):
        pass


def test_old_runs_go_but_neither_the_champions_nor_one_in_training(tmp_path):
    for number in range(6):
        with locked(tmp_path / f"run{number}"):
            (tmp_path / f"run{number}" / "best").mkdir()
        os.utime(tmp_path / f"run{number}" / "lock", (number, number))
    set_champion(tmp_path, tmp_path / "run0" / "best")
    with locked(tmp_path / "run1", touch=False):
        assert sorted(remove_old_runs(tmp_path, keep=2)) == ["run2", "run3"]
    assert sorted(run.name for run in tmp_path.iterdir() if run.is_dir()) == ["run0", "run1", "run4", "run5"]


def test_facts_of_a_shard_count_its_training_pieces():
    for shard in shards():
        facts = shard_facts(shard)
        assert (facts.genre, facts.transposition) == (shard.genre, shard.transposition)
        rows = shard.where("train")
        assert facts.pieces == len(rows) == 8
        assert facts.tokens == sum(len(shard.document(row)) for row in rows)


def test_the_dataset_hash_ignores_order_and_notices_change():
    facts = [shard_facts(shard) for shard in shards()]
    assert dataset_hash(facts) == dataset_hash(facts[::-1])
    assert dataset_hash(facts) != dataset_hash(facts[:-1])


def test_reading_about_checkpoints_needs_no_torch():
    code = (
        "import sys, json, music_assets.checkpoints.runs, music_assets.training.settings, music_assets.models.registry;"
        "print(json.dumps([name for name in ('torch', 'mlflow', 'miditok', 'sklearn') if name in sys.modules]))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []
