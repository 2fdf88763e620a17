"""Does music made for a genre sound like it? Judged by a classifier that has only seen real music."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import f1_score

from music_assets.evaluation.arrays import Integers, Strings
from music_assets.evaluation.features import PROGRAM_FEATURES, FeatureTable, excerpt, feature_table, windows
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.resampling import Estimate, bootstrap_weights, percentile_interval
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.tokens.remi import NoteArray

NO_MUSIC = -1  # the "prediction" for a sample without a note


class TooFewGenres(NotMeasurable):
    """There is nothing to tell apart."""


@dataclass(frozen=True)
class Excerpts:
    """Excerpts of equal bars as features, with the genre and the song group (or sample) of each."""

    features: FeatureTable
    genres: Strings
    groups: Strings

    def __len__(self) -> int:
        return len(self.genres)

    def of(self, genre: str) -> "Excerpts":
        """Those of one genre."""
        return self.rows(self.genres == genre)

    def rows(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Excerpts":
        """Those at ``index`` (numbers or a mask)."""
        return Excerpts(self.features.rows(index), self.genres[index], self.groups[index])


@dataclass(frozen=True)
class Consistency:
    """What the classifier heard. Accuracies are balanced: the mean over genres of the share that is right.

    ``floor`` is 1/K, ``ceiling`` real held-out excerpts, ``score`` generated ones (a sample without notes is
    wrong), ``headline`` (score − floor) / (ceiling − floor). ``permuted`` is the score when the samples'
    genres are shuffled among them, which must lie at the floor; ``p_value`` the share of shuffles that
    reach the score. Confusions count excerpts, a row the true or prompted genre, a column the heard one;
    the generated one has a last column for samples without notes. ``left_out`` lists genres that lack one
    of the three sets.
    """

    genres: tuple[str, ...]
    with_programs: bool
    floor: float
    ceiling: Estimate
    macro_f1: float
    score: Estimate
    headline: Estimate
    permuted: Estimate
    p_value: float
    real_confusion: Integers
    generated_confusion: Integers
    training_excerpts: int
    left_out: tuple[str, ...]

    @property
    def is_above_floor(self) -> bool:
        """Whether the score's whole interval lies above chance."""
        return self.score.low > self.floor


@dataclass(frozen=True)
class Verdicts:
    """The verdict of a classifier that sees which instruments play, and of one that does not."""

    with_programs: Consistency
    without_programs: Consistency


def judge(
    training: Sequence[Piece], held_out: Sequence[Piece], samples: Sequence[Piece], settings: EvaluationSettings
) -> Verdicts:
    """Judge samples by :func:`genre_consistency`, with and without what instruments play.

    Raises:
        TooFewGenres: fewer than two genres have training, test and generated excerpts.
    """
    train = real_excerpts(training, settings.excerpt_bars, settings.excerpts_per_piece)
    test = real_excerpts(held_out, settings.excerpt_bars)
    generated = generated_excerpts(samples, settings.excerpt_bars)
    return Verdicts(*(genre_consistency(train, test, generated, settings, shown) for shown in (True, False)))


def real_excerpts(
    pieces: Sequence[Piece],
    bars: int,
    most: int = 1,
    measure: Callable[[list[NoteArray]], FeatureTable] = feature_table,
) -> Excerpts:
    """The first ``most`` complete excerpts of every real piece; pieces of fewer bars give none."""
    return _excerpts([(window, piece) for piece in pieces for window in windows(piece.notes, bars, most)], measure)


def generated_excerpts(
    samples: Sequence[Piece], bars: int, measure: Callable[[list[NoteArray]], FeatureTable] = feature_table
) -> Excerpts:
    """The first ``bars`` bars of every sample: short and empty samples stay, for they count against the
    model.
    """
    return _excerpts([(excerpt(sample.notes, bars), sample) for sample in samples], measure)


def genre_consistency(
    train: Excerpts,
    test: Excerpts,
    generated: Excerpts,
    settings: EvaluationSettings,
    with_programs: bool = True,
) -> Consistency:
    """Train on ``train``, find the ceiling on ``test`` and the score on ``generated``.

    ``with_programs=False`` hides what instruments play. Same input and seed, same result.

    Raises:
        TooFewGenres: fewer than two genres have training, test and generated excerpts.
    """
    named = [set(excerpts.genres.tolist()) for excerpts in (train, test, generated)]
    genres = sorted(set.intersection(*named))
    listener = Listener(train, test, genres, settings, with_programs)
    return replace(listener.judge(generated), left_out=tuple(sorted(set.union(*named) - set(genres))))


class Listener:
    """A classifier of genres that has heard real music, and what it makes of other music.

    Extremely randomised trees, which take undefined features as they are: as accurate as boosted trees here at an
    eighth of the time. Trained on at most ``settings.train_excerpts_per_genre`` of ``train`` a genre.

    Raises:
        TooFewGenres: there are fewer than two genres.
    """

    def __init__(
        self,
        train: Excerpts,
        test: Excerpts,
        genres: Sequence[str],
        settings: EvaluationSettings,
        with_programs: bool = True,
    ) -> None:
        if len(genres) < 2:
            raise TooFewGenres(
                f"Genre consistency needs two genres with training, test and generated excerpts, and found "
                f"{len(genres)}: add genres, or pieces so that some fall into the test split, or lower excerpt_bars."
            )
        rng = np.random.default_rng(settings.seed)
        self._settings, self._genres, self._with_programs = settings, tuple(genres), with_programs
        self._without = () if with_programs else PROGRAM_FEATURES
        train = train.rows(_balanced(train.genres, genres, settings.train_excerpts_per_genre, rng))
        self._training_excerpts = len(train)
        self._trees = ExtraTreesClassifier(
            settings.classifier_trees, class_weight="balanced", random_state=settings.seed, n_jobs=-1
        )
        self._trees.fit(train.features.matrix(self._without), np.searchsorted(genres, train.genres))
        self._test = test.rows(np.isin(test.genres, genres))
        self._truth = np.searchsorted(genres, self._test.genres)
        self._heard_real = self._heard(self._test)

    def judge(self, generated: Excerpts) -> Consistency:
        """How well the genres of excerpts are heard, beside those of real ones; other genres are left out.

        Intervals resample song groups and samples within each genre; they hold for this one classifier.
        """
        settings, k = self._settings, len(self._genres)
        rng = np.random.default_rng(settings.seed)
        generated = generated.rows(np.isin(generated.genres, self._genres))
        truth, prompted = self._truth, np.searchsorted(self._genres, generated.genres)
        heard_real, heard = self._heard_real, self._heard(generated)
        heard[generated.features.notes == 0] = NO_MUSIC
        floor = 1 / k
        ceiling, score = (
            float(_balanced_accuracy(labels, labels == seen, np.ones((1, len(labels))), k)[0])
            for labels, seen in ((truth, heard_real), (prompted, heard))
        )
        ceilings, scores = (
            _balanced_accuracy(labels, labels == seen, _stratified(labels, groups, settings.bootstrap_rounds, rng), k)
            for labels, seen, groups in ((truth, heard_real, self._test.groups), (prompted, heard, generated.groups))
        )
        shuffled = rng.permuted(np.tile(prompted, (settings.bootstrap_rounds, 1)), axis=1)
        permuted = np.array(
            [_balanced_accuracy(labels, labels == heard, np.ones((1, len(labels))), k)[0] for labels in shuffled]
        )
        return Consistency(
            genres=self._genres,
            with_programs=self._with_programs,
            floor=floor,
            ceiling=percentile_interval(ceiling, ceilings, settings.confidence),
            macro_f1=float(f1_score(truth, heard_real, average="macro", labels=range(k))),
            score=percentile_interval(score, scores, settings.confidence),
            headline=percentile_interval(
                float(_headline(score, ceiling, floor)), _headline(scores, ceilings, floor), settings.confidence
            ),
            permuted=percentile_interval(float(permuted.mean()), permuted, settings.confidence),
            p_value=float((1 + (permuted >= score).sum()) / (1 + len(permuted))),
            real_confusion=_confusion(truth, heard_real, k)[:, :k],
            generated_confusion=_confusion(prompted, heard, k),
            training_excerpts=self._training_excerpts,
            left_out=(),
        )

    def _heard(self, excerpts: Excerpts) -> NDArray[np.int64]:
        if not len(excerpts):
            return np.zeros(0, np.int64)
        return np.array(self._trees.predict(excerpts.features.matrix(self._without)), np.int64)


def _excerpts(found: Sequence[tuple[NoteArray, Piece]], measure: Callable[[list[NoteArray]], FeatureTable]) -> Excerpts:
    return Excerpts(
        measure([notes for notes, _ in found]),
        np.array([piece.genre for _, piece in found], np.str_),
        np.array([piece.group for _, piece in found], np.str_),
    )


def _balanced(
    labels: NDArray[np.str_], genres: Sequence[str], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of at most ``most`` random excerpts of each genre."""
    chosen = [rng.permutation(np.flatnonzero(labels == genre))[:most] for genre in genres]
    return np.sort(np.concatenate(chosen))


def _stratified(
    labels: NDArray[np.integer], groups: NDArray[np.str_], rounds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Bootstrap weights (rounds, n) that keep every genre in every round."""
    weights = np.zeros((rounds, len(labels)))
    for label in np.unique(labels):
        weights[:, labels == label] = bootstrap_weights(groups[labels == label].tolist(), rounds, rng)
    return weights


def _balanced_accuracy(
    labels: NDArray[np.integer], correct: NDArray[np.bool_], weights: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Mean over genres of the weighted share that is right, shape (rounds,)."""
    member = np.eye(k)[labels]
    return ((weights * correct) @ member / (weights @ member)).mean(axis=1)


def _headline(
    score: float | NDArray[np.float64], ceiling: float | NDArray[np.float64], floor: float
) -> NDArray[np.float64]:
    """(score − floor) / (ceiling − floor); NaN where real music itself is not recognised above the floor."""
    room = np.asarray(ceiling) - floor
    return np.where(room > 1e-9, (np.asarray(score) - floor) / np.maximum(room, 1e-9), np.nan)


def _confusion(labels: NDArray[np.integer], heard: NDArray[np.integer], k: int) -> NDArray[np.int64]:
    """Counts (k, k + 1); the last column holds samples without notes."""
    counts = np.zeros((k, k + 1), np.int64)
    np.add.at(counts, (labels, np.where(heard == NO_MUSIC, k, heard)), 1)
    return counts
