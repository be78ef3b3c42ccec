"""The files that words of the command line name."""

import io
import os
import sys
from pathlib import Path

import pytest

from drolt_pl.errors import SettingError
from drolt_pl.predict.names import Names


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/2.jpg", "a/10.JPG", "a/b/x.png", "a/note.md", "a/.hidden.jpg", ".git/y.jpg", "c.jpeg", "d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["d.jpg", "c.jpeg", "d.jpg"], ["d.jpg", "c.jpeg", "d.jpg"]),
        (["a"], ["a/10.JPG", "a/2.jpg", "a/b/x.png"]),
        (["a/"], ["a/10.JPG", "a/2.jpg", "a/b/x.png"]),
        (["a/note.md"], ["a/note.md"]),  # named outright
        (["*.jp*g"], ["c.jpeg", "d.jpg"]),
        (["a/[0-9].jpg"], ["a/2.jpg"]),
        (["**/*.jpg"], ["d.jpg", "a/2.jpg"]),
        (["a/**"], ["a/10.JPG", "a/2.jpg", "a/b/x.png"]),
        (["*/b"], ["a/b/x.png"]),
    ],
)
def test_words(tree: Path, words: list[str], named: list[str]) -> None:
    names = Names(words)
    assert list(names) == list(names) == named
    assert names.count() == len(named)


def test_lists(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\xef\xbb\xbfd.jpg\r\n\r\nnowhere.jpg\nodd \xff name.jpg"
    named = ["d.jpg", "nowhere.jpg", os.fsdecode(b"odd \xff name.jpg")]
    (tree / "list.txt").write_bytes(content)
    (tree / "list").write_bytes(content)
    assert list(Names(["list.txt"])) == list(Names(["@list"])) == named
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    names = Names(["c.jpeg", "-"])
    assert names.count() is None
    assert list(names) == ["c.jpeg", *named]


def test_null_bytes_end_names(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{'x' * 200}{number}{chr(10) * (number % 7 == 3)}.jpg" for number in range(1000)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\0".join([*names, ""]).encode())))
    assert list(Names(["-"])) == names


def test_a_name_with_pattern_characters_is_a_file_first(tree: Path) -> None:
    (tree / "x[1].jpg").touch()
    assert list(Names(["x[1].jpg"])) == ["x[1].jpg"]


def test_a_link_into_itself_ends(tree: Path) -> None:
    (tree / "a" / "loop").symlink_to(tree / "a")
    assert list(Names(["a"])) == ["a/10.JPG", "a/2.jpg", "a/b/x.png"]


def test_files_that_are_not_called_like_an_image_are_counted(tree: Path) -> None:
    for name in ("x.HEIC", "b/y.heic", "b/notes", ".hidden.heic"):
        (tree / "a" / name).touch()
    names = Names(["a", "?/b"])
    for _ in range(2):
        assert len(list(names)) == 4
        assert names.others == {".heic": 3, "without suffix": 2, ".md": 1}
    (tree / "a" / "b" / "x.png").unlink()
    with pytest.raises(SettingError, match=r"exist, got 'a/b'; passed over: 2 files not called like an image: "):
        Names(["a/b"])


def test_what_names_nothing(tree: Path) -> None:
    (tree / "empty").mkdir()
    for word in ("nowhere.jpg", "empty", "*.webp"):
        with pytest.raises(SettingError, match="must name images that exist"):
            Names(["d.jpg", word])
    with pytest.raises(SettingError, match="must name a file"):
        Names([])
    (tree / "windows.txt").write_text("d.jpg\n", "utf-16")
    with pytest.raises(SettingError, match="must be listed in UTF-8, and this list is UTF-16; save it as UTF-8"):
        Names(["windows.txt"])
    with pytest.raises(SettingError, match=r"can be read \(No such file or directory\), got 'nowhere'"):
        Names(["@nowhere"])
