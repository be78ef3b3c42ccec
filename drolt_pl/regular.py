"""Reading regular files alone, and no more of them than is allowed."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from drolt_pl.errors import SettingError, reason

MAX_BYTES = 256 * 1024**2  # of a file of a run: the split of a million images has a tenth
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(mode: int) -> str | None:
    """What a path leads to by its `st_mode`, in words; None for a regular file."""
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """The content of a regular file; a pipe or a device is not opened, since that may wait for ever.

    Raises:
        OSError: the file is missing, is no regular file, or has more bytes.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(f"it has {size:,} bytes, and {max_bytes:,} are allowed")
        return file.read(size)  # not what a file grows by meanwhile


def read_start(path: str | Path, num_bytes: int) -> bytes:
    """The first bytes of a regular file.

    Raises:
        OSError: the file is missing, or is no regular file.
    """
    with _opened(path) as file:
        return file.read(num_bytes)


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    _require_regular(os.stat(path).st_mode)
    # Without O_NONBLOCK, a pipe that has taken the file's place since would block.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        _require_regular(os.fstat(file.fileno()).st_mode)
        yield file


def read_text(path: Path, kind: str, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file, with or without a byte order mark.

    Args:
        path: The file.
        kind: What it should be, for the sentence.
        max_bytes: That it may have.

    Raises:
        SettingError: it cannot be read, is no regular file, is too large, or is not UTF-8.
    """
    try:
        return read_regular(path, max_bytes).decode("utf-8-sig")
    except OSError as error:
        raise SettingError(str(path), f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise SettingError(str(path), f"is not {kind}: {error}") from error


def _require_regular(mode: int) -> None:
    kind = kind_of(mode)
    if kind is not None:
        raise OSError(f"it is {kind}")
