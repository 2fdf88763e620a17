from music_assets.evaluation import audition as module
from music_assets.evaluation.audition import audition
from music_assets.training.champion import challenge
from music_assets.training.loop import train
from music_assets_tests.training.corpus import shards, small_config


def test_a_verdict_is_kept_until_the_pieces_change(tmp_path, monkeypatch):
    made = shards(pieces=18)
    run = train("gpt", small_config(tokens=256 * 60, learning_rate=0.02), made, tmp_path / "run")
    heard = audition(made, "cpu")(run.best)
    assert heard is not None
    assert heard.low <= heard.share <= heard.high
    assert audition(made, "cpu")(run.best) == heard

    listened = []
    monkeypatch.setattr(module, "_listen", lambda path, shards, device: listened.append(path))
    audition(made, "cpu")(run.best)
    assert not listened
    audition(shards(pieces=24), "cpu")(run.best)
    assert listened == [run.best]


def test_the_same_checkpoint_is_heard_the_same(tmp_path):
    made = shards(pieces=18)
    run = train("gpt", small_config(tokens=256 * 60, learning_rate=0.02), made, tmp_path / "run")
    first = audition(made, "cpu")(run.best)
    (run.best.parent / "best.audition.json").write_text("{damaged")
    assert audition(made, "cpu")(run.best) == first


def test_one_genre_is_not_judged_and_bits_decide(tmp_path):
    made = [shard for shard in shards(pieces=18) if shard.genre == shards()[0].genre]
    run = train("gpt", small_config(), made, tmp_path / "run")
    decision = challenge(tmp_path, run.best, run.validation, judge=audition(made, "cpu"))
    assert decision.won
    assert decision.challenger.heard is None
    assert decision.challenger.bits is not None
