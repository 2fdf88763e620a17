"""Which pages are open, and what becomes of their files."""

import os
from pathlib import Path

import pytest

from music_assets.app.pages import LOST, Pages
from music_assets.foundation.errors import MusicAssetsError


def test_open_pages_are_counted():
    pages = Pages()
    for page in ("one", "two", "two"):
        pages.open(page)
    assert pages.count == 2
    for page in ("one", "one", "never seen"):
        pages.close(page)
    assert pages.count == 1


def test_a_page_that_is_killed_before_it_is_open_never_opens():
    pages = Pages()
    pages.close("one")
    pages.open("one")
    assert pages.count == 0


def test_files_go_with_their_page(tmp_path):
    pages = Pages()
    made = [Path(pages.keep("one", data, "tune.mid", str(tmp_path))) for data in (b"a", b"b")]
    other = Path(pages.keep("two", b"c", "tune.mid", str(tmp_path)))
    assert [path.read_bytes() for path in (*made, other)] == [b"a", b"b", b"c"]
    pages.close("one")
    assert [path.exists() for path in (*made, other)] == [False, False, True]


def test_a_file_stays_as_long_as_one_page_has_it(tmp_path):
    pages = Pages()
    first, second = (pages.keep(page, b"same", "tune.mid", str(tmp_path)) for page in ("one", "two"))
    assert first == second
    pages.close("one")
    assert Path(first).read_bytes() == b"same"
    pages.close("two")
    assert not Path(first).exists()


def test_what_was_sent_goes_with_its_page_unless_it_was_sent_again(tmp_path):
    pages = Pages()
    for name in ("one.mid", "two.mid"):
        (tmp_path / name).write_bytes(b"MThd")
        pages.take("one", tmp_path / name)
    os.utime(tmp_path / "two.mid", ns=(0, 0))  # by a page that has not yet said so
    pages.close("one")
    assert [*tmp_path.iterdir()] == [tmp_path / "two.mid"]


def test_a_page_that_is_gone_gets_no_file(tmp_path):
    pages = Pages()
    pages.close("one")
    (tmp_path / "sent.mid").write_bytes(b"MThd")
    with pytest.raises(MusicAssetsError, match=LOST):
        pages.keep("one", b"a", "tune.mid", str(tmp_path))
    with pytest.raises(MusicAssetsError, match=LOST):
        pages.take("one", tmp_path / "sent.mid")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_files_that_are_deleted_for_their_age_are_forgotten(tmp_path):
    pages = Pages()
    path = Path(pages.keep("one", b"a", "tune.mid", str(tmp_path)))
    path.unlink()
    pages.close("two")
    assert pages._files == {}
    pages.take("one", path)
    pages.close("one")
