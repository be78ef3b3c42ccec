"""The image files that words of the command line name, one after the other, without a list of all of them."""

import os
import re
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import translate
from pathlib import Path
from typing import BinaryIO

from drolt_pl.data.images.suffixes import is_image, passed_over, suffix_of
from drolt_pl.data.prepare.reading import with_slashes
from drolt_pl.data.sets.layout import is_hidden
from drolt_pl.errors import SettingError

STANDARD_INPUT = "-"
CHUNK = 1 << 16  # bytes of a list that are read at once
WILD = re.compile(r"[*?\[]")


class Names:
    """The files that words name, in the words' order: an iterable that can be iterated again, without standard input.

    A word is an image; a folder, whose images are taken at any depth, sorted name by name; a pattern (`*`, `?`, `[]`,
    and `**` for folders at any depth), sorted alike; a list file (`@FILE`, or any name that ends in .txt) with a name a
    line, relative to the current folder; or `-` for such lines on standard input. Only the names in one folder are ever
    held together.

    Args:
        words: At least one.

    Attributes:
        others: Files in folders that the latest iteration passed over, as they are not called like an image; by suffix.

    Raises:
        SettingError: a word that names nothing.
    """

    def __init__(self, words: Sequence[str]) -> None:
        if not words:
            raise SettingError("images", "must name a file, a folder, a pattern or a list file")
        self.words = list(words)
        self.others = Counter[str]()
        for word in self.words:
            if word != STANDARD_INPUT and next(_named(word, self.others), None) is None:
                remedy = passed_over(self.others) if self.others else ""
                raise SettingError("images", "must name images that exist", word, remedy=remedy)
            self.others.clear()

    def __iter__(self) -> Iterator[str]:
        self.others.clear()
        for word in self.words:
            yield from _named(word, self.others)

    @property
    def repeatable(self) -> bool:
        """Whether the names can be read again: standard input cannot."""
        return STANDARD_INPUT not in self.words

    def count(self) -> int | None:
        """How many there are; None where only reading standard input would tell."""
        return sum(1 for _ in self) if self.repeatable else None


def images_below(folder: str, others: Counter[str]) -> Iterator[str]:
    """The images at any depth below a folder, sorted name by name; hidden files and folders are passed over.

    Args:
        folder: The folder.
        others: Where files that are not called like an image are counted, by suffix.
    """
    return _walk(folder, (), others)


def _named(word: str, others: Counter[str]) -> Iterator[str]:
    if word == STANDARD_INPUT:
        yield from _lines(sys.stdin.buffer)
    elif word.startswith("@") or (word.lower().endswith(".txt") and not WILD.search(word)):
        with _readable(word.removeprefix("@")), Path(word.removeprefix("@")).open("rb") as file:
            yield from _lines(file)
    elif os.path.isdir(word):
        yield from images_below(word, others)
    elif os.path.lexists(word):
        yield word
    elif WILD.search(word):
        head = re.match(r"(?:[^*?\[]*/)?", word)  # folders before the first pattern
        start = head.group() if head else ""
        yield from _matches(start, word[len(start) :].split("/"), others)


def _lines(file: BinaryIO) -> Iterator[str]:
    """Names of a list, a line each; a byte order mark, carriage returns and empty lines are passed over.

    Where the list has null bytes (`find -print0`), they end the names in place of line ends.
    """
    for number, line in enumerate(_pieces(file)):
        if number == 0 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):  # as PowerShell writes it
            raise SettingError("images", "must be listed in UTF-8, and this list is UTF-16", remedy="save it as UTF-8")
        name = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        if name := name.rstrip(b"\r\n"):
            yield with_slashes(os.fsdecode(name), Path())


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """What stands between the separators of a list; a line is there as soon as it is written."""
    separator, rest = b"", b""
    while chunk := file.readline(CHUNK):
        separator = separator or (b"\0" if b"\0" in chunk else b"\n")
        *whole, rest = (rest + chunk).split(separator)  # in lines, one and nothing
        yield from whole
    yield rest


def _matches(folder: str, patterns: Sequence[str], others: Counter[str]) -> Iterator[str]:
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        if rest:
            yield from _matches(folder, rest, others)
        for entry in _entries(folder or "."):
            if entry.is_dir(follow_symlinks=False):
                yield from _matches(f"{folder}{entry.name}/", patterns, others)
            elif not rest and is_image(folder or ".", entry.name):
                yield folder + entry.name
            elif not rest:
                others[suffix_of(entry.name)] += 1
        return
    fits = re.compile(translate(first))
    for entry in _entries(folder or "."):
        if fits.match(entry.name) and rest and entry.is_dir():
            yield from _matches(f"{folder}{entry.name}/", rest, others)
        elif fits.match(entry.name) and not rest:
            path = folder + entry.name
            yield from images_below(path, others) if entry.is_dir() else (path,)


def _walk(folder: str, above: tuple[tuple[int, int], ...], others: Counter[str]) -> Iterator[str]:
    with _readable(folder):
        here = os.stat(folder)
    if (here.st_dev, here.st_ino) in above:  # a link to a folder that it lies in
        return
    for entry in _entries(folder):
        path = os.path.join(folder, entry.name)
        if entry.is_dir():
            yield from _walk(path, (*above, (here.st_dev, here.st_ino)), others)
        elif is_image(folder, entry.name):
            yield path
        else:
            others[suffix_of(entry.name)] += 1


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with _readable(folder), os.scandir(folder) as entries:
        shown = [entry for entry in entries if not is_hidden(entry.name)]
    return sorted(shown, key=lambda entry: entry.name)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns a failure to read a folder or a list into a sentence that names it."""
    try:
        yield
    except OSError as error:
        raise SettingError("images", f"must be named where it can be read ({error.strerror})", name) from error
