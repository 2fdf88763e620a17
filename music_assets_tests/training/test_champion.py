import re
from dataclasses import replace

import pytest

from music_assets.checkpoints.runs import champion, read_facts
from music_assets.training.champion import Decision, Heard, Standing, challenge, compare
from music_assets.training.loop import train
from music_assets.training.model_card import model_card
from music_assets_tests.training.corpus import shards, small_config


def standing(bits: float | None, *heard: float) -> Standing:
    return Standing(bits, Heard(share=heard[0], low=heard[1], high=heard[2]) if heard else None)


KNOWS_AND_PLAYS_BADLY = standing(4.03, 0.11, 0.05, 0.17)  # measured, as the next
KNOWS_LESS_AND_PLAYS = standing(5.53, 0.36, 0.28, 0.45)
PLAYS_ALIKE = standing(5.4, 0.29, 0.22, 0.37)


@pytest.mark.parametrize(
    ("challenger", "champion", "won", "words"),
    [
        (
            KNOWS_AND_PLAYS_BADLY,
            KNOWS_LESS_AND_PLAYS,
            False,
            "heard less well, 11% [5%, 17%] of .* the champion's 36% [28%, 45%]; .* 4.030 against 5.530.$",
        ),
        (
            KNOWS_LESS_AND_PLAYS,
            KNOWS_AND_PLAYS_BADLY,
            True,
            "heard better, 36% [28%, 45%] of .* 11% [5%, 17%]; .* 5.530 against 4.030.$",
        ),
        (
            PLAYS_ALIKE,
            KNOWS_LESS_AND_PLAYS,
            True,
            "5.400 bits .*, fewer than the champion's 5.530.* 29% [22%, 37%] and 36% [28%, 45%]",
        ),
        (
            KNOWS_LESS_AND_PLAYS,
            PLAYS_ALIKE,
            False,
            "not fewer than the champion's 5.400. The genre .* is heard alike, 36%",
        ),
        # intervals that touch overlap
        (standing(4.0, 0.2, 0.1, 0.3), standing(5.0, 0.4, 0.3, 0.5), True, "fewer than .* heard alike"),
        (standing(4.0, 0.2, 0.1, 0.29), standing(5.0, 0.4, 0.3, 0.5), False, "less well"),
        (standing(3.0), standing(4.0), True, "fewer than the champion's 4.000.$"),
        (standing(4.0), standing(4.0), False, "not fewer than"),
        # only one could be judged
        (standing(4.0, 0.1, 0.0, 0.1), standing(5.0), True, "fewer than .* only its own could be judged, 10% "),
        (standing(5.0), standing(4.0, 0.1, 0.0, 0.1), False, "fewer than .* only the champion's could be judged, 10% "),
        (standing(None, 0.9, 0.8, 1.0), standing(None, 0.1, 0.0, 0.2), True, "that goes before bits per note.$"),
        (standing(None), standing(4.0), True, "no held-out piece"),
    ],
)
def test_what_is_heard_goes_before_bits_per_note(challenger, champion, won, words):
    decided, reason = compare(challenger, champion)
    assert decided == won
    assert re.search(words.replace("[", r"\["), reason), reason


def test_a_decision_carries_the_numbers_of_both():
    assert Decision(False, "", KNOWS_AND_PLAYS_BADLY, KNOWS_LESS_AND_PLAYS).numbers == {
        "genre_consistency": "11% [5%, 17%]",
        "incumbent_bits_per_note": "5.5300",
        "incumbent_genre_consistency": "36% [28%, 45%]",
    }
    assert Decision(True, "", standing(None), None).numbers == {"genre_consistency": "not measured"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a checkpoint and a longer trained one, which needs fewer bits."""
    folder = tmp_path_factory.mktemp("gpt")
    made = shards()
    short, long = (
        train("gpt", small_config(tokens=256 * steps, learning_rate=0.02), made, folder / name)
        for name, steps in (("short", 2), ("long", 40))
    )
    return folder, short, long


@pytest.mark.slow
def test_the_one_that_is_heard_better_keeps_its_place_whatever_its_bits(runs):
    folder, short, long = runs
    asked = []

    def judge(checkpoint, genres):
        asked.append((checkpoint.parent.name, genres))
        return (KNOWS_LESS_AND_PLAYS if checkpoint == short.best else KNOWS_AND_PLAYS_BADLY).heard

    first = challenge(folder, short.best, short.validation, judge=judge)
    assert (first.won, first.reason, first.champion) == (True, "It is the first champion.", None)
    assert first.challenger.heard == KNOWS_LESS_AND_PLAYS.heard
    again = challenge(folder, short.best, short.validation, judge=judge)
    assert (again.won, again.reason) == (True, "It is the champion already.")
    decision = challenge(folder, long.best, long.validation, judge=judge)
    assert not decision.won
    assert decision.champion == first.challenger
    assert first.challenger.bits is not None
    assert decision.challenger.bits is not None
    assert decision.challenger.bits < first.challenger.bits
    assert champion(folder) == short.best
    assert "11% [5%, 17%]" in decision.reason
    assert ", genre consistency 11% [5%, 17%]. The genre" in model_card(long.facts, decision, {})
    assert {name for name, _ in asked} == {"short", "long"}
    assert all(genres == ["reel", "waltz"] for _, genres in asked)


@pytest.mark.slow
def test_both_are_heard_in_the_genres_that_both_know(tmp_path):
    made = shards()
    asked = []

    def judge(checkpoint, genres):
        asked.append((checkpoint.parent.name, genres))

    old = train("gpt", small_config(), [shard for shard in made if shard.genre == "reel"], tmp_path / "old")
    challenge(tmp_path, old.best, old.validation, judge=judge)
    new = train("gpt", small_config(), made, tmp_path / "new")
    asked.clear()
    challenge(tmp_path, new.best, new.validation, judge=judge)
    assert sorted(asked) == [("new", ["reel"]), ("old", ["reel"])]


@pytest.mark.slow
def test_a_champion_that_cannot_be_used_gives_way_to_one_that_is_heard(runs, tmp_path):
    _, short, _ = runs
    folder = tmp_path
    (folder / "champion.json").write_text("{damaged")
    checkpoint = folder / "run" / "best"
    checkpoint.parent.mkdir()
    checkpoint.symlink_to(short.best)
    decision = challenge(folder, checkpoint, short.validation, judge=lambda path, genres: PLAYS_ALIKE.heard)
    assert decision.won
    assert "cannot be used any more" in decision.reason
    assert decision.challenger == replace(PLAYS_ALIKE, bits=read_facts(checkpoint).bits_per_note)
    assert decision.champion is None
