import pytest

from music_assets.checkpoints.runs import champion
from music_assets.evaluation import audition as module
from music_assets.evaluation.audition import SAMPLES, Audition
from music_assets.generation.task import BadRequest
from music_assets.tokens.shards import make_shard
from music_assets.training.champion import challenge
from music_assets.training.loop import train
from music_assets_tests.training.corpus import GENRES, shards, small_config, small_roll_config

pytestmark = pytest.mark.slow

PIECES = 18
BOTH = list(GENRES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gpt")


@pytest.fixture(scope="module")
def run(folder):
    return train("gpt", small_config(tokens=256 * 60, learning_rate=0.02), shards(PIECES), folder / "run")


@pytest.fixture
def listened(run, monkeypatch):
    """The checkpoints that are listened to, each judged anew; nothing is kept from another test."""
    stored = run.best.with_name("best.audition.json")
    stored.unlink(missing_ok=True)
    found = []
    listen = Audition._listen
    monkeypatch.setattr(
        Audition, "_listen", lambda self, path, genres: (found.append(path.parent.name), listen(self, path, genres))[1]
    )
    return found


def remade(shard, left_out=(), split=lambda name: name, genre=None):
    """A shard without some of its rows, in other splits or under another genre."""
    rows = [row for row in range(len(shard)) if row not in left_out]
    names = [str(shard.piece_ids[row]) for row in rows]
    splits = [split(str(shard.splits[row])) for row in rows]
    notes, seconds = [int(shard.notes[row]) for row in rows], [float(shard.seconds[row]) for row in rows]
    documents = [shard.document(row) for row in rows]
    return make_shard(genre or shard.genre, shard.transposition, names, names, splits, notes, seconds, documents)


def without_one(split, made):
    """The shards without the last piece of a split in each."""
    return [remade(shard, shard.where(split)[-1:]) for shard in made]


def test_the_same_checkpoint_is_heard_the_same(run, listened):
    made, lines = shards(PIECES), []
    first = Audition(made, log=lines.append)(run.best, BOTH)
    assert first is not None
    assert first.low <= first.share <= first.high
    assert lines[0] == f"judging {SAMPLES} samples of each of 2 genres by run"
    assert lines[1].startswith(f"genre consistency of run {first}, in ")
    run.best.with_name("best.audition.json").write_text("{damaged")
    assert Audition(made)(run.best, BOTH) == first
    assert listened == ["run", "run"]


def test_a_verdict_is_kept_until_the_validation_pieces_change(run, listened):
    made, lines = shards(PIECES), []
    first = Audition(made)(run.best, BOTH)
    assert Audition(made, log=lines.append)(run.best, BOTH) == first
    assert Audition(without_one("train", made))(run.best, BOTH) == first
    assert Audition(without_one("test", made))(run.best, BOTH) == first
    assert listened == ["run"]
    assert not lines
    Audition(without_one("valid", made))(run.best, BOTH)
    assert listened == ["run", "run"]


@pytest.mark.parametrize("name", ["JUDGE_VERSION", "SAMPLES"])
def test_a_verdict_is_renewed_by_another_way_of_judging(run, listened, name, monkeypatch):
    Audition(shards(PIECES))(run.best, BOTH)
    monkeypatch.setattr(module, name, 3)
    Audition(shards(PIECES))(run.best, BOTH)
    assert listened == ["run", "run"]


def test_a_verdict_is_of_one_checkpoint(run, listened, tmp_path):
    Audition(shards(PIECES))(run.best, BOTH)
    other = train("gpt", small_config(), shards(PIECES), tmp_path / "other")
    run.best.with_name("best.audition.json").rename(other.best.with_name("best.audition.json"))
    Audition(shards(PIECES))(other.best, BOTH)
    assert listened == ["run", "other"]


def test_the_test_split_stays_unseen(run, listened):
    made = shards(PIECES)
    first = Audition(made)(run.best, BOTH)
    hidden = [remade(shard, shard.where("test")) for shard in made]
    run.best.with_name("best.audition.json").unlink()
    assert Audition(hidden)(run.best, BOTH) == first
    assert len(listened) == 2


@pytest.mark.parametrize("genres", [["reel"], []])
def test_fewer_than_two_genres_are_not_judged(run, listened, genres):
    lines = []
    assert Audition(shards(PIECES), log=lines.append)(run.best, genres) is None
    assert "fewer than two genres" in lines[0]


def test_without_validation_pieces_nothing_is_judged(run, listened):
    made = [remade(shard, split=lambda name: "train") for shard in shards(PIECES)]
    assert Audition(made)(run.best, BOTH) is None


def test_real_music_that_is_not_told_apart_judges_nothing(run, listened):
    reel, _ = shards(PIECES, transpositions=("original",))
    lines = []
    assert Audition([reel, remade(reel, genre="waltz")], log=lines.append)(run.best, BOTH) is None
    assert "not told apart" in lines[-1]


def test_a_network_that_cannot_sample_is_not_judged_and_bits_decide(run, listened, tmp_path, monkeypatch):
    def refuse(checkpoint, request):
        raise BadRequest("It writes nothing.")

    monkeypatch.setattr(module, "generate", refuse)
    lines = []
    decision = challenge(
        run.best.parent.parent, run.best, run.validation, judge=Audition(shards(PIECES), log=lines.append)
    )
    assert decision.challenger.heard is None
    assert decision.challenger.bits is not None
    assert lines[-1] == "samples of run are not judged: It writes nothing."


@pytest.mark.parametrize(("architecture", "config"), [("gpt", small_config), ("pianoroll", small_roll_config)])
def test_two_real_trainings_are_both_judged(architecture, config, tmp_path):
    made, lines = shards(PIECES), []
    decisions = []
    for name, steps in (("short", 2), ("long", 30)):
        result = train(architecture, config(tokens=256 * steps, learning_rate=0.02), made, tmp_path / name)
        judge = Audition(made, log=lines.append)
        decisions.append(challenge(tmp_path, result.best, result.validation, judge=judge))
    first, second = decisions
    assert first.won
    assert second.champion == first.challenger  # kept, not heard again
    assert len(lines) == 4
    assert second.challenger.heard is not None
    assert second.champion.heard is not None
    assert str(second.challenger.heard) in second.reason
    assert str(second.champion.heard) in second.reason
    assert second.won == (champion(tmp_path) == tmp_path / "long" / "best")
