"""Reading regular files alone, and no more of them than is allowed."""

import os
import stat
from pathlib import Path

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
    _require_regular(os.stat(path).st_mode)
    # Without O_NONBLOCK, a pipe that has taken the file's place since would block.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        _require_regular(found.st_mode)
        if found.st_size > max_bytes:
            raise OSError(f"it has {found.st_size:,} bytes, and {max_bytes:,} are allowed")
        return file.read(max_bytes)  # not what a file grows by meanwhile


def _require_regular(mode: int) -> None:
    kind = kind_of(mode)
    if kind is not None:
        raise OSError(f"it is {kind}")
