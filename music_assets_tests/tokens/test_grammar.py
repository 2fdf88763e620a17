import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from symusic.core import NoteTick, ScoreTick, TrackTick

from music_assets.foundation.midi.errors import BadMidi
from music_assets.foundation.midi.reading import read_score
from music_assets.foundation.midi.writing import midi_bytes
from music_assets.tokens import remi
from music_assets.tokens.grammar import MAX_EMPTY_BARS, Grammar
from music_assets.tokens.vocabulary import RANGES, TIME_SIGNATURES, TOKEN_TYPE, TOKEN_TYPES, Vocabulary
from music_assets_tests.midi_files import STYLES, make_tune
from music_assets_tests.tokens.scores import scores

GRAMMAR = Grammar()
VOCABULARY = Vocabulary()
EOS, BAR = VOCABULARY.eos, RANGES["Bar"].start
PAD = VOCABULARY.pad
DRUMS = RANGES["Program"].stop - 1
NOTE_ENDS = list(RANGES["Duration"])


def rules(ids: list[int]) -> set[int]:
    """What may follow in a document: the grammar in words, one id at a time."""
    kinds = [TOKEN_TYPES[TOKEN_TYPE[token]] for token in ids]
    values = [token - RANGES[kind].start for token, kind in zip(ids, kinds, strict=True)]

    def last(*names: str, since: int = 0) -> int | None:
        return next((i for i in reversed(range(since, len(ids))) if kinds[i] in names), None)

    if not ids:
        return {BAR}
    if EOS in ids:
        return {VOCABULARY.pad}
    match kinds[-1]:
        case "Bar":
            return set(RANGES["TimeSig"])
        case "Pitch" | "PitchDrum":
            return set(RANGES["Velocity"])
        case "Velocity":
            return set(RANGES["Duration"])
    position = last("Position", since=last("Bar") or 0)
    if kinds[-1] == "Program":
        floor = 0
        earlier = last("Pitch", "PitchDrum", since=position or 0)
        if earlier is not None and ids[earlier - 1] == ids[-1]:
            floor = values[earlier] + 1
        return set(RANGES["PitchDrum" if ids[-1] == DRUMS else "Pitch"][floor:])

    may: set[int] = set()
    tempo, note = last("Tempo"), last("Duration")
    positions = TIME_SIGNATURES[values[last("TimeSig") or 0]][0] * 12
    if kinds[-1] != "Position":
        if kinds.count("Bar") - kinds[: note or 0].count("Bar") <= MAX_EMPTY_BARS:
            may.add(BAR)
        may.update(RANGES["Position"][0 if position is None else values[position] + 1 : positions])
    else:
        may.update(set(RANGES["Tempo"]) - ({ids[tempo]} if tempo is not None else set()))
    if kinds[-1] != "TimeSig":
        program, pitch = last("Program", since=position or 0), last("Pitch", "PitchDrum", since=position or 0)
        first = 0
        if program is not None and pitch is not None:
            first = values[program] + (values[pitch] == 127)
        may.update(RANGES["Program"][first:])
    if kinds[-1] == "Duration":
        may.add(EOS)
    if tempo is None:
        may &= {RANGES["Position"].start, *RANGES["Tempo"]}
    return may


def walk(seed: int, batch: int, steps: int, likely: list[float], pull: float = 0) -> np.ndarray:
    """Random allowed ids, each type as likely as ``likely`` says and EOS never chosen; int64[batch, steps].

    ``pull`` draws to the high ids of a type, or to the low ones where it is negative.
    """
    random = np.random.default_rng(seed)
    starts = np.array([ids.start for ids in RANGES.values()])[TOKEN_TYPE]
    rate = np.array(likely)[TOKEN_TYPE] / np.bincount(TOKEN_TYPE)[TOKEN_TYPE]
    rate = rate * np.exp(np.clip(pull * (np.arange(len(rate)) - starts), -300, 300))
    rate[EOS] = 0
    state, columns = GRAMMAR.initial_state(batch), []
    for _ in range(steps):
        allowed = GRAMMAR.allowed(state)
        assert allowed.any(axis=1).all()
        # The smallest of exponential variables with these rates
        waits = np.where(allowed, random.exponential(size=allowed.shape), np.inf)
        columns.append((waits / np.maximum(rate, 1e-300)).argmin(axis=1))
        state = GRAMMAR.advance(state, columns[-1])
    return np.stack(columns, axis=1)


likelihoods = st.lists(st.sampled_from([1.0, 1e-3, 30.0]), min_size=len(TOKEN_TYPES), max_size=len(TOKEN_TYPES))
pulls = st.sampled_from([0.0, 0.0, 0.5, -0.5, 20.0, -5.0])


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), likelihoods, pulls)
def test_every_walk_is_a_canonical_document(seed: int, likely: list[float], pull: float) -> None:
    for row in walk(seed, 4, 160, likely, pull):
        ends = np.flatnonzero(np.isin(row, NOTE_ENDS)) + 1
        for end in [*ends[:2], *ends[-1:]]:
            document = row[:end]
            assert GRAMMAR.first_violation(np.append(document, [EOS, PAD, PAD])) is None
            score = remi.decode(document)
            np.testing.assert_array_equal(remi.encode(score), document)
            np.testing.assert_array_equal(remi.encode(read_score(midi_bytes(score)).score), document)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), likelihoods, pulls)
def test_what_may_follow_is_what_the_rules_say(seed: int, likely: list[float], pull: float) -> None:
    for row in walk(seed, 2, 60, likely, pull):
        state = GRAMMAR.initial_state(1)
        for length in range(len(row)):
            assert set(np.flatnonzero(GRAMMAR.allowed(state)[0]).tolist()) == rules(row[:length].tolist())
            np.testing.assert_array_equal(GRAMMAR.state_after([row[:length]]), state)
            state = GRAMMAR.advance(state, row[length : length + 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), likelihoods, pulls)
def test_eos_stands_where_a_bar_may_stand(seed: int, likely: list[float], pull: float) -> None:
    state = GRAMMAR.initial_state(8)
    for tokens in walk(seed, 8, 80, likely, pull).T:
        allowed = GRAMMAR.allowed(state)
        assert np.all(allowed[:, BAR] >= allowed[:, EOS])
        state = GRAMMAR.advance(state, tokens)


@settings(max_examples=100, deadline=None)
@given(scores())
def test_every_encoding_is_accepted(score: ScoreTick) -> None:
    ids = remi.encode(score)
    rests = np.diff(remi.notes(ids).bar, prepend=-1) - 1
    assume(rests.max(initial=MAX_EMPTY_BARS) <= MAX_EMPTY_BARS)
    if len(ids):
        assert GRAMMAR.first_violation(np.append(ids, EOS)) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 7, MAX_EMPTY_BARS, MAX_EMPTY_BARS + 1, 3 * MAX_EMPTY_BARS]), min_size=1))
def test_a_longer_rest_is_refused_where_its_last_bar_should_have_a_note(rests: list[int]) -> None:
    score = ScoreTick(12)
    score.tracks.append(TrackTick("", 0, False))
    bars = np.cumsum([rest + 1 for rest in rests]) - 1
    for bar in bars:
        score.tracks[0].notes.append(NoteTick(48 * int(bar), 12, 60, 64))
    ids = remi.encode(score)
    expected = None
    if max(rests) > MAX_EMPTY_BARS:
        note_bar = bars[np.argmax(np.array(rests) > MAX_EMPTY_BARS)]
        empty = rests[np.argmax(np.array(rests) > MAX_EMPTY_BARS)]
        expected = np.flatnonzero(ids == BAR)[note_bar - empty + MAX_EMPTY_BARS + 1]
    assert GRAMMAR.first_violation(ids) == expected


@pytest.mark.parametrize("style", STYLES)
def test_tunes_are_accepted(style: str) -> None:
    assert GRAMMAR.first_violation(np.append(remi.encode(make_tune(style=style)), EOS)) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 10_000), st.integers(0, VOCABULARY.size - 1))
def test_a_changed_document_is_accepted_only_if_it_is_canonical(seed: int, place: int, token: int) -> None:
    document = remi.encode(make_tune(style=STYLES[seed % len(STYLES)], seed=seed, bars=4))
    document[place % len(document)] = token
    accepted = GRAMMAR.first_violation(np.append(document, EOS)) is None
    assert accepted == np.array_equal(remi.canonical(document), document)


def test_a_batch_goes_on_from_pieces_of_any_length() -> None:
    pieces = [
        remi.encode(make_tune(style=style, seed=2))[:length]
        for style, length in zip(STYLES, (0, 3, 90, 7, 500), strict=True)
    ]
    together = GRAMMAR.state_after(pieces)
    for row, piece in enumerate(pieces):
        state = GRAMMAR.initial_state(1)
        for token in piece:
            state = GRAMMAR.advance(state, np.array([token]))
        np.testing.assert_array_equal(together[:, [row]], state)
    broken = np.append(pieces[2], RANGES["Genre"][0])
    with pytest.raises(ValueError, match="Genre_0 cannot stand at place 90 of this document"):
        GRAMMAR.state_after([pieces[0], broken])


def test_the_tables_are_as_documented() -> None:
    rows = re.findall(r"^    ([a-z]+) +(\d+)  ", Grammar.__doc__ or "", re.MULTILINE)
    tables = Grammar().tables
    states = np.diff([*tables.first[:, 0], len(tables.allowed)])
    assert [int(number) for _, number in rows] == states.tolist()
    assert f"bool[{len(tables.allowed)}, size]" in (Grammar.__doc__ or "")
    assert tables.allowed.nbytes + tables.following.nbytes <= 3.3e6
    assert (tables.following >= 0).all()
    # Also after what was not allowed, no automaton leaves its rows.
    assert (tables.following < np.repeat(states, states)[:, None]).all()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_torch_gives_the_same_masks(device: str) -> None:
    torch = pytest.importorskip("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    grammar = Grammar(lambda table: torch.as_tensor(table, device=device))
    rows = walk(1, 4, 60, [1.0] * len(TOKEN_TYPES))
    ours, theirs = GRAMMAR.initial_state(4), grammar.initial_state(4)
    for tokens in rows.T:
        np.testing.assert_array_equal(GRAMMAR.allowed(ours), grammar.allowed(theirs).cpu().numpy())
        ours = GRAMMAR.advance(ours, tokens)
        theirs = grammar.advance(theirs, torch.as_tensor(tokens, device=device))
    np.testing.assert_array_equal(grammar.state_after(list(rows)).cpu().numpy(), ours)


@pytest.mark.slow
@pytest.mark.skipif("MUSIC_ASSETS_CORPUS" not in os.environ, reason="MUSIC_ASSETS_CORPUS names no corpus folder")
def test_every_encoding_of_real_files_is_accepted() -> None:
    accepted = 0
    with tarfile.open(Path(os.environ["MUSIC_ASSETS_CORPUS"]) / "midi.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or "broken" in Path(member.name).parts:
                continue
            try:
                ids = remi.encode(read_score(file.read()).score)
            except BadMidi:
                continue
            assert GRAMMAR.first_violation(np.append(ids, EOS)) is None, member.name
            accepted += 1
    assert accepted > 3000
