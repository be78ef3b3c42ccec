"""Files that are replaced whole: written beside their place, brought to the disk, and only then renamed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PARTIAL = ".*.part"  # what a process that was killed while it wrote may leave beside a file


@contextmanager
def replacing(path: Path, *, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Gives a file to write; it takes the place of `path` once it is complete and on the disk.

    It stands in the same folder until then, so that no move from another file system can be cut short. Whatever
    happens, power cuts included, `path` is as it was or as it is to be. The folder is made where it is missing.

    Args:
        path: The file.
        keep: Where the file that was at `path` goes, in place of what is there.

    Raises:
        OSError: it could not be written, or is a device or a pipe; its `filename` is `path`.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device or a pipe, which no file replaces", str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(partial, path)
        _sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file by these bytes."""
    with replacing(path) as file:
        file.write(content)


def remove_partial(folder: Path) -> None:
    """Removes what killed processes have left half written in a folder; nothing else may write there meanwhile."""
    for path in folder.glob(PARTIAL):
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Brings a folder's names to the disk: a rename is only then safe from a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no such call for folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
