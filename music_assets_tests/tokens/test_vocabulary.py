import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from music_assets.tokens import vocabulary as vocabulary_module
from music_assets.tokens.vocabulary import (
    CONTROL_RANGES,
    CONTROLS,
    DOCUMENT_FINGERPRINT,
    FINGERPRINT,
    MEANINGS,
    TOKEN_TYPES,
    BadVocabulary,
    Controls,
    UnknownControl,
    UnknownGenre,
    Vocabulary,
    VocabularyMismatch,
)
from music_assets_tests.tokens.scores import miditok_remi


def test_ids_and_names_are_miditoks() -> None:
    vocabulary = Vocabulary()
    names = {vocabulary.name(token): token for token in range(vocabulary.ranges["TimeSig"].stop)}
    assert names == miditok_remi().vocab


def test_ranges_follow_each_other_and_give_the_types() -> None:
    vocabulary = Vocabulary()
    assert tuple(vocabulary.ranges) == TOKEN_TYPES
    ids = [token for ids in vocabulary.ranges.values() for token in ids]
    assert ids == list(range(len(ids)))
    for index, name in enumerate(TOKEN_TYPES):
        assert (vocabulary.token_type[list(vocabulary.ranges[name])] == index).all()
    assert (vocabulary.token_type[len(ids) :] == 0).all()
    assert vocabulary.size % 64 == 0
    assert vocabulary.size <= np.iinfo(np.uint16).max
    assert len({vocabulary.name(token) for token in range(vocabulary.size)}) == vocabulary.size
    assert tuple(MEANINGS) == TOKEN_TYPES


def test_the_fingerprint_of_stored_shards_and_checkpoints_is_still_this_versions() -> None:
    # Another one makes every shard and checkpoint useless: change it only together with the ids.
    assert DOCUMENT_FINGERPRINT == "6d1eb1fe2dba9c67"


def test_an_edited_edge_or_class_is_another_vocabulary_but_leaves_documents_theirs(monkeypatch):
    source = Path(vocabulary_module.__file__).read_text()
    stored = Vocabulary(("jazz",)).to_json()
    for old, new in (
        ("[70, 85, 100", "[70, 86, 100"),
        ("1.5, 2.5", "1.5, 2.6"),
        ('"density": 8, "bars": 12', '"density": 9, "bars": 11'),
    ):
        assert old in source
        edited = ModuleType("edited")
        monkeypatch.setitem(sys.modules, "edited", edited)
        exec(compile(source.replace(old, new), "edited", "exec"), edited.__dict__)
        assert edited.DOCUMENT_FINGERPRINT == DOCUMENT_FINGERPRINT
        with pytest.raises(edited.VocabularyMismatch, match=FINGERPRINT):
            edited.Vocabulary.from_json(stored)


def test_a_new_genre_changes_no_id_and_no_fingerprint() -> None:
    old = Vocabulary(("jazz", "folk"))
    new = old.with_genres(["blues", "jazz"])
    assert new.genres == ("jazz", "folk", "blues")
    assert [new.genre_id(genre) for genre in old.genres] == [old.genre_id(genre) for genre in old.genres]
    assert new.fingerprint == old.fingerprint
    assert new.prompt("blues") == [new.bos, new.genre_id("blues")]
    assert new.prompt() == [new.bos]
    assert new.name(new.genre_id("blues")) == "Genre_blues"


def test_genres_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnknownGenre, match="'ska' is not in the vocabulary; it has jazz"):
        Vocabulary(("jazz",)).genre_id("ska")
    with pytest.raises(BadVocabulary, match="65 genres do not fit the 64 genre slots"):
        Vocabulary(tuple(map(str, range(65))))
    with pytest.raises(ValueError, match="named twice"):
        Vocabulary(("jazz", "jazz"))


def test_controls_hold_the_first_control_slots() -> None:
    vocabulary = Vocabulary()
    slots = [token for ids in CONTROL_RANGES.values() for token in ids]
    assert slots == list(vocabulary.ranges["Control"])[: sum(CONTROLS.values())]
    assert vocabulary.name(CONTROL_RANGES["instrument"][16]) == "Control_instrument_16"
    assert vocabulary.name(CONTROL_RANGES["tempo"][3]) == "Control_tempo_3"
    assert vocabulary.name(slots[-1] + 1) == f"Control_{len(slots)}"


def test_a_prompt_states_what_it_knows_in_one_order() -> None:
    vocabulary = Vocabulary(("jazz",))
    whole = Controls(instruments=(16, 0, 4), tempo=3, density=0, bars=11, key=13, time_signature=2)
    names = [vocabulary.name(token) for token in vocabulary.prompt("jazz", whole)]
    assert names == [
        *("BOS_None", "Genre_jazz", "Control_instrument_0", "Control_instrument_4", "Control_instrument_16"),
        *("Control_tempo_3", "Control_density_0", "Control_bars_11"),
        *("Control_key_13", "Control_time_signature_2"),
    ]
    assert vocabulary.prompt("jazz", Controls()) == vocabulary.prompt("jazz")
    assert [vocabulary.name(token) for token in vocabulary.prompt(None, Controls(density=2))] == [
        *("BOS_None", "Control_density_2")
    ]


@pytest.mark.parametrize(
    ("controls", "sentence"),
    [
        (Controls(instruments=(17,)), "no instrument class 17: choose 0 to 16"),
        (Controls(tempo=-1), "no tempo class -1: choose 0 to 7"),
        (Controls(bars=12), "no bars class 12: choose 0 to 11"),
    ],
)
def test_a_control_out_of_range_is_refused(controls: Controls, sentence: str) -> None:
    with pytest.raises(UnknownControl, match=sentence):
        Vocabulary().prompt(None, controls)


def test_json_keeps_genres_and_refuses_another_layout() -> None:
    vocabulary = Vocabulary(("jazz", "folk"))
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    with pytest.raises(VocabularyMismatch, match="make it again"):
        Vocabulary.from_json(vocabulary.to_json().replace(vocabulary.fingerprint, "0123456789abcdef"))


def test_tokens_import_neither_torch_nor_miditok() -> None:
    modules = "vocabulary, shards, transposition, remi, grammar, rolls, build"
    code = (
        f"import sys; from music_assets.tokens import {modules}; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'miditok', 'sklearn', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
