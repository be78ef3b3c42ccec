"""Reading text that anybody may have written: bounded, in UTF-8, naming images below their root."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from drolt_pl.regular import read_regular

MAX_BYTES = 1024**3  # of a list or manifest, unpacked
MAX_LINE = 65_536  # characters
MAX_PATH = 4_096  # bytes
SHOWN = 200  # characters of what is wrong, in a sentence
OUTSIDE = "leads out of the images' folder"


def read_text(path: Path) -> str:
    """The text of a list file.

    Raises:
        OSError: it is missing, no regular file, or too large.
        UnicodeDecodeError: it is no UTF-8.
    """
    return read_regular(path, MAX_BYTES).decode("utf-8-sig")


def bounded_lines(file: TextIO) -> Iterator[str]:
    """The lines of an open file, which may unpack to far more than it has.

    Raises:
        OSError: a line, or all of them, are too long.
    """
    total = 0
    while line := file.readline(MAX_LINE):
        total += len(line)
        if len(line) == MAX_LINE or total > MAX_BYTES:
            raise OSError(f"it is longer than {MAX_BYTES:,} characters, or one of its lines than {MAX_LINE:,}")
        yield line


def with_slashes(path: str, root: Path) -> str:
    r"""A path of a list with `/` where it was written with Windows' `\`; not where the name of a file has one."""
    if "\\" not in path or os.path.lexists(os.path.join(root, path)):
        return path
    return path.replace("\\", "/")


def path_problem(path: str, root: Path | None = None) -> str | None:
    """What is wrong with the path of an image in a list, to be put behind it; None for a path below the root.

    Args:
        path: As the list has it.
        root: Of the images; an absolute path below it is right. None where paths must be relative.
    """
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        return "is no text"
    if b"\0" in encoded or len(encoded) > MAX_PATH:
        return "cannot be the name of a file"
    if os.path.isabs(path):
        inside = root is not None and Path(os.path.normpath(path)).is_relative_to(os.path.abspath(root))
    else:
        inside = os.path.normpath(path).split(os.sep)[0] not in ("..", ".")
    return None if inside else OUTSIDE
