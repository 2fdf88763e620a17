"""`music-assets vocabulary` as people meet it."""

import json
import re
import sys
from pathlib import Path

import pytest

from music_assets.cli import main
from music_assets.tokens.vocabulary import TOKEN_TYPES, Vocabulary


@pytest.fixture
def vocabulary(monkeypatch, capsys):
    """Runs the command; its output, and what it says on standard error."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["music-assets", "vocabulary", *arguments])
        with pytest.raises(SystemExit):
            main()
        return tuple(capsys.readouterr())

    return run


def cells(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]


def test_every_id_is_in_one_named_range(vocabulary) -> None:
    output, _ = vocabulary()
    rows = cells(output)
    assert [row[0] for row in rows] == [*TOKEN_TYPES, ""]
    ids = [token for row in rows for token in range(int(row[1]), int(row[2]) + 1)]
    assert ids == list(range(Vocabulary().size))
    assert sum(int(row[3]) for row in rows) == Vocabulary().size
    assert all(row[4] for row in rows)
    for kind, first, last, _, _, names in rows[:-1]:
        assert names.startswith(Vocabulary().name(int(first))), kind
        assert names.endswith(Vocabulary().name(int(last))), kind
    assert f"{Vocabulary().size} ids, fingerprint {Vocabulary().fingerprint}" in output


def test_the_genres_of_a_checkpoint(vocabulary, tmp_path: Path) -> None:
    stored = Vocabulary(("jazz", "folk", "ragtime"))
    (tmp_path / "vocabulary.json").write_text(stored.to_json())
    for path in (tmp_path, tmp_path / "vocabulary.json"):
        output, _ = vocabulary("--checkpoint", str(path))
        assert cells(output)[-3:] == [[name, str(stored.genre_id(name))] for name in stored.genres]
        assert "Genre_jazz … Genre_63" in output
    output, _ = vocabulary("--checkpoint", str(tmp_path), "--genre", "ragtime", "--genre", "jazz")
    assert cells(output)[-2:] == [["ragtime", "722"], ["jazz", "720"]]


def test_what_is_wrong_is_said_in_one_sentence(vocabulary, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        output, sentence = vocabulary(*arguments)
        assert output == ""
        return sentence.strip()

    file = tmp_path / "vocabulary.json"
    way_out = "name the folder of a checkpoint, or its vocabulary.json."
    assert said("--checkpoint", str(tmp_path)) == f"music-assets: There is no {file}: {way_out}"
    for damaged in ("{", "[]", "{}", '"text"'):
        file.write_text(damaged)
        way_out = "name the vocabulary.json of a checkpoint."
        assert said("--checkpoint", str(tmp_path)) == f"music-assets: {file} is not a vocabulary: {way_out}"
    file.write_text(json.dumps(json.loads(Vocabulary().to_json()) | {"fingerprint": "0123456789abcdef"}))
    assert re.fullmatch(f"music-assets: {file}: .* 0123456789abcdef, .*make it again.", said("--checkpoint", str(file)))
    file.write_text(Vocabulary(("jazz", "folk")).to_json())
    expected = "music-assets: Genre 'ska' is not in the vocabulary; it has jazz, folk."
    assert said("--checkpoint", str(file), "--genre", "ska") == expected
