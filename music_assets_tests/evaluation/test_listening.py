"""Blind listening tests: nothing betrays the truth, nothing said is lost, and the statistics are the published ones."""

import itertools
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from music_assets.evaluation.listening import (
    LOUDNESS,
    SCALES,
    BadMaterial,
    Excerpt,
    ListeningFiles,
    ListeningReport,
    ListeningSettings,
    Material,
    Rating,
    append_rating,
    crossed_weights,
    krippendorff_alpha,
    latest,
    levelled,
    listening_report,
    prepare_session,
    read_material,
    read_materials,
    read_ratings,
)
from music_assets.evaluation.results import NotMeasurable, load_result, save_result
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.evaluation.subject import Subject
from music_assets.generation.request import Wishes
from music_assets.generation.samples import SampleBatch
from music_assets.paths import DataPaths
from music_assets.rendering.audio import OGG_RATE, PEAK
from music_assets.tokens.remi import encode
from music_assets_tests.generation.checkpoints import untrained
from music_assets_tests.midi_files import make_tune
from music_assets_tests.training.corpus import shards

SETTINGS = EvaluationSettings(bootstrap_rounds=200)
SHORT = ListeningSettings(count=3, most_seconds=6)
RUN = "run"


def batch(genre: str, style: str, bars: list[int]) -> SampleBatch:
    """Samples of so many bars each, none of them in the shards; one of no bars is empty."""
    tunes = [make_tune(style=style, seed=1000 + n, bars=count) for n, count in enumerate(bars) if count]
    ids = [*map(encode, tunes), *[np.empty(0, np.uint16)] * bars.count(0)]
    names = [f"{genre}-{n:03d}" for n in range(len(ids))]
    return SampleBatch(Path(), genre, "gpt", RUN, Wishes(), names, [""] * len(ids), ids, [len(one) for one in ids])


def subject(root: Path, **bars: list[int]) -> Subject:
    """What has samples of so many bars, by genre, beside the test pieces of the small shards (three a genre)."""
    facts = untrained().facts.model_copy(update={"genres": [*bars], "run": RUN})
    made = Subject(DataPaths(root), Path(), facts)
    batches = [batch(genre, genre, counts) for genre, counts in bars.items()]
    vars(made).update(shards=shards(18, transpositions=("original",)), batches=batches)
    return made


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> tuple[Path, Material]:
    root = tmp_path_factory.mktemp("data")
    material = prepare_session(subject(root, reel=[8, 9, 3, 0], waltz=[8, 12]), SHORT)
    return DataPaths(root).listening("gpt"), material


@pytest.mark.slow
def test_as_many_of_both_and_of_each_genre_as_many_of_both(session):
    _, material = session
    assert [one.name for one in material.excerpts] == ["01", "02", "03", "04", "05", "06"]
    assert len({one.group for one in material.excerpts}) == 6
    of = {kind: sorted(one.genre for one in material.excerpts if one.is_real == kind) for kind in (True, False)}
    assert of[True] == of[False]
    assert set(of[True]) == {"reel", "waltz"}
    assert all(one.piece.startswith(one.genre) != one.is_real for one in material.excerpts)
    assert (material.run, material.architecture) == (RUN, "gpt")
    assert (material.short_pieces, material.short_samples) == (0, 2)


@pytest.mark.slow
def test_the_folder_betrays_nothing(session):
    folder, material = session
    files = sorted((folder / material.session).iterdir())
    assert [file.name for file in files] == [f"{n:02d}.ogg" for n in range(1, 7)]
    assert re.fullmatch("[0-9a-f]{8}", material.session)
    headers = set()
    for file in files:
        with soundfile.SoundFile(file) as sound:
            headers.add((sound.frames, sound.samplerate, sound.channels, tuple(sound.copy_metadata().items())))
        known = [*(word for one in material.excerpts for word in (one.piece, one.genre)), b"real", b"generated"]
        content = file.read_bytes()[:500]
        assert not [word for word in known if (word if isinstance(word, bytes) else word.encode()) in content]
    assert len(headers) == 1
    assert read_materials(ListeningFiles(folder)) == {material.session: material}


@pytest.mark.slow
def test_all_are_equally_long_and_loud_once_they_are_decoded(session):
    folder, material = session
    sounds = [soundfile.read(file)[0] for file in sorted((folder / material.session).iterdir())]
    assert {len(sound) for sound in sounds} == {round(material.seconds * OGG_RATE)}
    assert 4 <= material.seconds <= 6
    loud = [20 * np.log10(np.sqrt(np.mean(sound**2))) for sound in sounds]
    assert max(loud) - min(loud) < 0.5
    assert max(np.abs(sound).max() for sound in sounds) < 1
    for sound in sounds:
        assert np.abs(sound[: OGG_RATE // 4]).max() > 0.01  # begins at once
        assert np.abs(sound[-10:]).max() < 0.01  # and ends softly


@pytest.mark.slow
def test_the_same_settings_make_the_same_session_and_leave_it(tmp_path):
    made = prepare_session(subject(tmp_path, reel=[8, 8]), ListeningSettings(count=1, most_seconds=4))
    files = ListeningFiles(DataPaths(tmp_path).listening("gpt"))
    before = {file: file.stat().st_mtime_ns for file in files.session(made.session).iterdir()}
    again = prepare_session(subject(tmp_path, reel=[8, 8]), ListeningSettings(count=1, most_seconds=4))
    assert again == made
    assert {file: file.stat().st_mtime_ns for file in files.session(made.session).iterdir()} == before
    other = prepare_session(subject(tmp_path, reel=[8, 8]), ListeningSettings(count=1, most_seconds=4, seed=1))
    assert other.session != made.session
    assert not [path for path in files.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_folder_that_is_lost_is_made_again(tmp_path):
    made = prepare_session(subject(tmp_path, reel=[8, 8]), ListeningSettings(count=1, most_seconds=4))
    files = ListeningFiles(DataPaths(tmp_path).listening("gpt"))
    lost = files.session(made.session).rename(tmp_path / "elsewhere")
    prepare_session(subject(tmp_path, reel=[8, 8]), ListeningSettings(count=1, most_seconds=4))
    assert {file.name for file in files.session(made.session).iterdir()} == {file.name for file in lost.iterdir()}


@pytest.mark.parametrize("bars", [{"reel": [8, 3, 0]}, {"jig": [8, 8]}, {"reel": []}])
def test_too_few_pairs_are_said(bars, tmp_path):
    with pytest.raises(NotMeasurable, match="pairs of a test piece and a sample of its genre have 8 bars"):
        prepare_session(subject(tmp_path, **bars), ListeningSettings(count=2))
    assert not DataPaths(tmp_path).listening("gpt").exists()


def test_a_sample_that_was_made_twice_is_heard_once(tmp_path):
    twice = subject(tmp_path, reel=[8])
    (one,) = twice.batches
    again = SampleBatch(Path(), "reel", "gpt", RUN, Wishes(), ["a", "b"], ["", ""], one.ids * 2, one.notes * 2)
    vars(twice).update(batches=[again])
    with pytest.raises(NotMeasurable, match="Only 1 pairs"):
        prepare_session(twice, ListeningSettings(count=2))


def test_levels_are_equal_and_no_peak_is_cut():
    random = np.random.default_rng(0)
    noise = random.normal(size=3 * OGG_RATE).astype(np.float32)
    click = np.zeros(2 * OGG_RATE, np.float32)
    click[100:110] = 0.5
    soft, peaky = levelled([0.01 * noise, noise]), levelled([0.01 * noise, click])
    assert soft.shape == (2, 3 * OGG_RATE)
    assert np.sqrt((soft**2).mean(axis=1)) == pytest.approx([LOUDNESS] * 2, rel=1e-4)
    assert peaky.shape == (2, 2 * OGG_RATE)
    first, second = np.sqrt((peaky**2).mean(axis=1))
    assert first == pytest.approx(second, rel=1e-4)
    assert np.abs(peaky).max() == pytest.approx(PEAK)


def rating(excerpt: str = "01", rater: str = "ann", grade: int = 3, is_real: bool = True, session: str = "s") -> Rating:
    return Rating(
        session=session, excerpt=excerpt, rater=rater, musicality=grade, coherence=grade, creativity=grade,
        is_real=is_real,
    )  # fmt: skip


def test_ratings_come_back_in_order(tmp_path):
    path = tmp_path / "deep" / "ratings.jsonl"
    assert read_ratings(path).ratings == []
    given = [rating("01", grade=1), rating("02"), rating("01", "Zoë \n\u2028 ", 5)]
    for one in given:
        append_rating(path, one)
    assert read_ratings(path).ratings == given
    assert given[2].rater == "Zoë"
    assert json.loads(path.read_text("utf-8").splitlines()[0])["time"].endswith("Z")
    assert abs((datetime.now(UTC) - given[0].time).total_seconds()) < 60


@pytest.mark.parametrize(
    "wrong",
    [{"musicality": 0}, {"coherence": 6}, {"creativity": 2.5}, {"creativity": True}, {"rater": " "}, {"is_real": "x"}],
)
def test_what_is_no_rating_is_refused(wrong):
    with pytest.raises(ValidationError):
        Rating.model_validate(rating().model_dump() | wrong)


@pytest.mark.parametrize(
    "torn", ['{"session": "s", "exc', "\udc80".encode(errors="surrogateescape"), "null", "x" * 9000]
)
def test_a_torn_line_breaks_nothing_and_swallows_nothing(torn, tmp_path):
    path = tmp_path / "ratings.jsonl"
    append_rating(path, rating("01"))
    with path.open("ab") as file:
        file.write(torn if isinstance(torn, bytes) else torn.encode())
    assert [one.excerpt for one in read_ratings(path).ratings] == ["01"]
    append_rating(path, rating("02"))
    append_rating(path, rating("03"))
    stored = read_ratings(path)
    assert [one.excerpt for one in stored.ratings] == ["01", "02", "03"]
    assert stored.damaged == [2]


def test_a_rating_that_lacks_only_the_end_of_its_line_counts(tmp_path):
    path = tmp_path / "ratings.jsonl"
    append_rating(path, rating("01"))
    path.write_bytes(path.read_bytes()[:-1])
    append_rating(path, rating("02"))
    stored = read_ratings(path)
    assert [one.excerpt for one in stored.ratings] == ["01", "02"]
    assert not stored.damaged


def test_a_write_that_is_done_in_parts_is_whole(tmp_path, monkeypatch):
    path, write = tmp_path / "ratings.jsonl", os.write
    monkeypatch.setattr(os, "write", lambda to, line: write(to, line[:7]))
    append_rating(path, rating("01"))
    assert [one.excerpt for one in read_ratings(path).ratings] == ["01"]


APPENDING = """
import sys
from pathlib import Path
from music_assets.evaluation.listening import Rating, append_rating
path, rater, count = sys.argv[1:]
print("ready", flush=True)
input()
grades = dict.fromkeys(("musicality", "coherence", "creativity"), 3)
for number in range(int(count)):
    append_rating(Path(path), Rating(session="s", excerpt=str(number), rater=rater, is_real=True, **grades))
"""


@pytest.mark.slow
def test_processes_that_append_at_once_lose_nothing(tmp_path):
    path, raters, count = tmp_path / "ratings.jsonl", ["a", "b", "c"], 50
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDING, str(path), rater, str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for rater in raters
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=100)
    assert [process.returncode for process in processes] == [0] * len(raters)
    stored = read_ratings(path)
    assert not stored.damaged
    for rater in raters:
        assert [one.excerpt for one in stored.ratings if one.rater == rater] == [str(n) for n in range(count)]


def test_the_last_word_counts_whatever_the_clocks_say():
    first, other = rating(grade=1), rating("02")
    early = rating(grade=5).model_copy(update={"time": datetime(2000, 1, 1, tzinfo=UTC)})
    assert latest([first, other, early]) == [early, other]


def material(session: str = "s", pieces: int = 4, run: str = RUN) -> Material:
    """The first half is real."""
    excerpts = [
        Excerpt(name=f"{n:02d}", is_real=n <= pieces // 2, genre="reel", piece=f"p{n}", group=f"{session} {n}")
        for n in range(1, pieces + 1)
    ]
    return Material(
        session=session, architecture="gpt", run=run, settings=ListeningSettings(), seconds=9, excerpts=excerpts,
        short_pieces=0, short_samples=0,
    )  # fmt: skip


def report(ratings: list[Rating], *materials: Material) -> ListeningReport:
    return listening_report(ratings, {one.session: one for one in materials or [material()]}, SETTINGS, RUN)


def test_means_difference_and_guesses_are_as_counted_by_hand():
    grades = {"01": 5, "02": 4, "03": 2, "04": 1}
    found = report(
        [
            *(rating(name, "ann", grade, is_real=name < "03") for name, grade in grades.items()),
            *(rating(name, "bob", grade, is_real=True) for name, grade in grades.items()),
        ]
    )
    for name in SCALES:
        row = found.scale(name)
        assert (row.real.value, row.generated.value, row.difference.value) == (4.5, 1.5, -3)
        assert row.difference.low <= -3 <= row.difference.high < 0
        assert row.alpha == 1
    assert (found.right.value, found.right_of_real.value, found.right_of_generated.value) == (0.75, 1, 0.5)
    assert (found.ratings, found.raters, found.real_pieces, found.generated_pieces) == (8, 2, 2, 2)


def test_intervals_cover_people_and_pieces():
    """Two people who differ and pieces that do not; one person and pieces that differ; one of each."""
    people = report(
        [rating(name, rater, grade) for name in ("01", "02", "03", "04") for rater, grade in (("a", 1), ("b", 5))]
    )
    assert (people.scales[0].real.low, people.scales[0].real.high) == (1, 5)
    assert (people.scales[0].difference.low, people.scales[0].difference.high) == (0, 0)
    pieces = report([rating(name, "a", grade) for name, grade in (("01", 1), ("02", 5), ("03", 3), ("04", 3))])
    assert (pieces.scales[0].real.low, pieces.scales[0].real.high) == (1, 5)
    assert (pieces.scales[0].generated.low, pieces.scales[0].generated.high) == (3, 3)
    alone = report([rating("01", "a", 4), rating("03", "a", 2)], material())
    assert (alone.scales[0].real.low, alone.scales[0].real.high) == (4, 4)
    assert np.isnan(alone.scales[0].alpha)


def test_without_ratings_of_one_kind_there_is_no_difference():
    found = report([rating("01", "a", 4), rating("02", "b", 2)])
    assert found.scales[0].real.value == 3
    assert np.isnan(
        [found.scales[0].generated.value, found.scales[0].difference.value, found.right_of_generated.low]
    ).all()
    assert found.generated_pieces == 0


def test_what_is_gone_or_of_another_checkpoint_is_counted():
    known = [material(), material("other", run="before")]
    given = [rating(), rating("77"), rating(session="gone"), rating(session="other"), rating(session="other", grade=1)]
    found = report(given, *known)
    assert (found.ratings, found.gone, found.of_other_runs) == (1, 2, 1)
    with pytest.raises(
        NotMeasurable, match=r"no ratings yet of the checkpoint run \(2 of excerpts that are gone, 1 of other"
    ):
        report(given[1:], *known)
    with pytest.raises(NotMeasurable, match="There are no ratings yet of the checkpoint run: make a session"):
        report([])


def test_a_piece_of_two_sessions_is_drawn_as_one():
    twice = [material("s"), material("t").model_copy(update={"excerpts": material("s").excerpts})]
    found = report([rating("01"), rating("01", session="t")], *twice)
    assert (found.real_pieces, found.ratings) == (1, 2)


def test_a_report_is_kept_and_read(tmp_path):
    found = report([rating("01", "a", 4), rating("01", "b", 2), rating("03", "b", 2)])
    save_result(tmp_path / "listening.json", RUN, SETTINGS, found)
    assert load_result(tmp_path / "listening.json", RUN, ListeningReport).found == found


def test_a_weight_is_draws_of_the_rater_times_draws_of_the_piece():
    raters, pieces = ["a", "a", "b", "b", "a"], ["x", "y", "x", "y", "z"]
    is_real = np.array([True, True, True, True, False])
    weights = crossed_weights(raters, pieces, is_real, 300, np.random.default_rng(0))
    assert weights.shape == (300, 5)
    assert (weights[:, 0] * weights[:, 3] == weights[:, 1] * weights[:, 2]).all()  # a product of two
    assert (weights[:, :4].sum(axis=1) == 4).all()  # two raters and two pieces are drawn, and all rated all
    assert set(weights[:, 4].tolist()) == {0, 1, 2}  # the only generated piece is always drawn
    assert (weights[:, 4] == weights[:, :2].sum(axis=1) / 2).all()


def test_a_crossed_interval_is_about_as_wide_as_theory_has_it():
    """Of x_rp = a_r + b_p, the variance of the mean is var(a)/R + var(b)/P."""
    random = np.random.default_rng(1)
    people, tunes = random.normal(size=40), random.normal(size=30)
    raters, pieces = zip(*itertools.product(range(40), range(30)), strict=True)
    values = people[list(raters)] + tunes[list(pieces)]
    weights = crossed_weights(
        [*map(str, raters)], [*map(str, pieces)], np.ones(len(values), bool), 1000, np.random.default_rng(2)
    )
    spread = (weights @ values / weights.sum(axis=1)).std()
    assert spread == pytest.approx(np.sqrt(people.var() / 40 + tunes.var() / 30), rel=0.1)


NAN = np.nan
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), part C: four observers, twelve units."""


def slow_alpha(table: np.ndarray) -> float:
    """By the matrix of coincidences of that paper, pair by pair."""
    coincidences: dict[tuple[float, float], float] = {}
    for unit in table.T:
        values = [value for value in unit if not np.isnan(value)]
        for one, other in itertools.permutations(range(len(values)), 2):
            pair = values[one], values[other]
            coincidences[pair] = coincidences.get(pair, 0) + 1 / (len(values) - 1)
    totals: dict[float, float] = {}
    for (one, _), count in coincidences.items():
        totals[one] = totals.get(one, 0) + count
    n = sum(totals.values())
    observed = sum(count * (one - other) ** 2 for (one, other), count in coincidences.items())
    expected = sum(totals[one] * totals[other] * (one - other) ** 2 for one in totals for other in totals)
    return 1 - (n - 1) * observed / expected if expected else NAN


def test_alpha_is_the_published_one():
    assert round(krippendorff_alpha(OBSERVERS), 3) == 0.849
    assert round(slow_alpha(OBSERVERS), 3) == 0.849
    assert krippendorff_alpha(OBSERVERS[::-1, ::-1]) == pytest.approx(krippendorff_alpha(OBSERVERS))


@given(
    st.lists(st.lists(st.sampled_from([NAN, 1, 2, 3, 4, 5]), min_size=3, max_size=3), min_size=1, max_size=8).map(
        lambda units: np.array(units, np.float64).T
    )
)
def test_alpha_is_that_of_the_coincidences(table):
    assert krippendorff_alpha(table) == pytest.approx(slow_alpha(table), nan_ok=True)


def test_alpha_at_its_edges():
    assert krippendorff_alpha(np.array([[1.0, 2, 5], [1, 2, 5]])) == 1
    assert krippendorff_alpha(np.array([[1.0, 5], [5, 1]])) < 0
    assert np.isnan(krippendorff_alpha(np.array([[3.0, 3], [3, 3]])))
    assert np.isnan(krippendorff_alpha(np.array([[1.0, 2, 5]])))
    assert np.isnan(krippendorff_alpha(np.array([[1, NAN], [NAN, 2]])))
    assert np.isnan(krippendorff_alpha(np.empty((0, 0))))


def test_material_that_is_missing_or_damaged_is_said(tmp_path):
    files = ListeningFiles(tmp_path)
    with pytest.raises(BadMaterial, match=r"There is no session s in .*: prepare one with music-assets listen prepare"):
        read_material(files, "s")
    files.material("s").write_text(material().model_dump_json())
    assert read_material(files, "s") == material()
    with pytest.raises(BadMaterial, match="there are s"):
        read_material(files, "t")
    files.material("s").write_text("{}")
    with pytest.raises(BadMaterial, match="damaged"):
        read_materials(files)
