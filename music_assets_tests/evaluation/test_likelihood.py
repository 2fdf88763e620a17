import numpy as np
import pytest

from music_assets.evaluation.likelihood import PARTS, baseline_nats, likelihood, train_baseline, train_ngram
from music_assets.evaluation.pieces import Piece
from music_assets.evaluation.results import NotMeasurable
from music_assets.evaluation.settings import EvaluationSettings
from music_assets.tokens.remi import notes
from music_assets.tokens.vocabulary import TOKEN_TYPES, Vocabulary

VOCABULARY = Vocabulary(("reel",))
CONFIG = EvaluationSettings()


def document(pitches):
    """A bar of 4/4 with one note a beat."""
    first = {name: ids.start for name, ids in VOCABULARY.ranges.items()}
    ids = [first["Bar"], first["TimeSig"] + 3]
    for beat, pitch in enumerate(pitches):
        ids.append(first["Position"] + 12 * beat)
        ids += [first["Tempo"]] if beat == 0 else []
        ids += [first["Program"], first["Pitch"] + pitch, first["Velocity"] + 20, first["Duration"] + 11]
    return np.array(ids, np.uint16)


def piece(name, pitches, group=None):
    ids = document(pitches)
    return Piece(name, group or name, "reel", ids, notes(ids), 2.0)


def uniform(one):
    return np.full(len(one.ids) + 1, np.log(2))  # one bit a token


def test_one_bit_a_token_gives_as_many_bits_as_tokens():
    pieces = [piece("a", [60, 62, 64]), piece("b", [60])]
    result = likelihood("m", "reel", pieces, [uniform(one) for one in pieces], VOCABULARY, CONFIG)
    tokens = sum(len(one.ids) + 1 for one in pieces)
    assert result.notes == 4
    assert result.tokens == tokens
    assert result.bits_per_note == pytest.approx(tokens / 4)
    assert sum(result.parts.values()) == pytest.approx(result.bits_per_note)
    assert result.parts["pitch"] == pytest.approx(1)
    assert result.parts["onset"] == pytest.approx((2 * 2 + 4 + 2 + 2) / 4)  # bar, metre; positions; tempo; end
    assert result.bits_per_second == pytest.approx(tokens / 4.0)
    assert result.perplexity_per_token == pytest.approx(2)


def test_every_token_type_of_a_document_belongs_to_exactly_one_part():
    named = [name for names in PARTS.values() for name in names]
    assert len(named) == len(set(named))
    assert set(TOKEN_TYPES) - set(named) == {"Pad", "Genre", "Control"}


def test_the_interval_resamples_songs_and_not_their_versions():
    cheap, dear = piece("a", [60, 62]), piece("b", [60, 62])
    nats = [uniform(cheap), 3 * uniform(dear)]
    apart = likelihood("m", "reel", [cheap, dear], nats, VOCABULARY, CONFIG)
    assert apart.low == pytest.approx(apart.bits_per_note / 2)
    assert apart.high == pytest.approx(apart.bits_per_note * 1.5)
    versions = [piece("a", [60, 62], "song"), piece("b", [60, 62], "song")]
    together = likelihood("m", "reel", versions, nats, VOCABULARY, CONFIG)
    assert together.low == together.high == pytest.approx(together.bits_per_note)


def test_nothing_to_score_is_an_error():
    with pytest.raises(NotMeasurable, match="There is no test piece with a note to score"):
        likelihood("m", "jig", [], [], VOCABULARY, CONFIG)


def test_the_ngram_scores_every_token_and_the_end_but_not_the_prompt():
    training = [piece(str(i), [60, 62, 64, 65]) for i in range(50)]
    known, new = piece("known", [60, 62, 64, 65]), piece("new", [72, 30, 90, 31])
    order = EvaluationSettings.model_validate({"ngram_order": 4})
    model, share = train_ngram(VOCABULARY, training, [], order)
    scored = baseline_nats(model, VOCABULARY, [known, new])
    assert (model.order, share) == (4, 1)
    assert [len(nats) for nats in scored] == [len(known.ids) + 1, len(new.ids) + 1]
    assert scored[0].sum() < 0.2 * scored[1].sum()


def test_the_ngram_counts_as_many_tokens_as_it_may():
    training = [piece(str(i), [60, 62, 64, 65]) for i in range(50)]
    model, share = train_ngram(VOCABULARY, training, [], EvaluationSettings.model_validate({"ngram_tokens": 1}))
    assert share == pytest.approx(1 / 50)
    assert model.order == EvaluationSettings.model_validate({}).ngram_order


def test_the_order_of_the_ngram_is_the_best_on_validation_pieces():
    training = [piece(str(i), [60 + i % 7, 62 + i % 5, 64 + i % 3, 65]) for i in range(50)]
    valid = [piece("v", [61, 63, 66, 65])]
    chosen, _ = train_ngram(VOCABULARY, training, valid, CONFIG)
    longest, _ = train_ngram(VOCABULARY, training, [], CONFIG)
    costs = [baseline_nats(longest.shortened(n), VOCABULARY, valid)[0].sum() for n in range(1, CONFIG.ngram_order + 1)]
    assert baseline_nats(chosen, VOCABULARY, valid)[0].sum() == pytest.approx(min(costs))


def test_the_baselines_weights_are_fitted_on_validation_pieces():
    training = [piece(str(i), [60 + i % 7, 62 + i % 5, 64 + i % 3, 65]) for i in range(50)]
    valid = [piece("v", [71, 42, 66, 35] * 6)]
    fitted, share = train_baseline(VOCABULARY, training, valid, CONFIG)
    ngram, _ = train_ngram(VOCABULARY, training, valid, CONFIG)
    assert share == 1
    assert fitted.ngram.order == ngram.order
    cost, without = (baseline_nats(model, VOCABULARY, valid)[0].sum() for model in (fitted, ngram))
    assert cost < 0.9 * without  # the piece repeats itself


def test_a_baseline_without_validation_pieces_is_the_ngram():
    known = piece("a", [60, 62, 64, 65])
    fitted, _ = train_baseline(VOCABULARY, [known], [], CONFIG)
    assert not fitted.weights.any()
