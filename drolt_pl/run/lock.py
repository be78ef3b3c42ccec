"""One process at a time: a lock on a folder, which the kernel gives back however its holder ends."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drolt_pl.errors import SettingError

LOCK = ".lock"  # in the folder; it holds the host and the number of the last process
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # of some network file systems
_held: set[int] = set()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder; it is made where it is missing.

    Raises:
        SettingError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _held.add(descriptor)
    try:
        _lock(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        raise SettingError(
            str(folder), f"is in use: {holder} writes to it; wait for it, or name another folder"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _in_child() -> None:
    """A forked process, a loader's worker, shares the lock; a holder that was killed must not live on in it."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_in_child)
