"""Files that commands write: one of another kind, which was named by mistake, is not replaced."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from drolt_pl.errors import SettingError
from drolt_pl.regular import read_start

START = 512  # bytes of a file that are looked at


def require_replaceable(option: str, path: Path, *begins: bytes, endings: Sequence[str] = ()) -> None:
    """Refuses a place where the command cannot write, and to replace a file that it cannot have written.

    Args:
        option: What names the file.
        path: The file.
        begins: Regular expressions of how a file of the command may begin; none: no file may be there.
        endings: What its name may end in, in any case: another promises content that the command does not write.

    Raises:
        SettingError: there is a file that begins otherwise, no file can be there, or its name ends otherwise.
    """
    if endings and path.suffix.lower() not in endings:
        raise SettingError(option, f"must end in {' or '.join(endings)}", str(path))
    if path.is_dir():
        raise SettingError(option, "must name a file, not a folder", str(path))
    if path.is_file() and path.stat().st_size:
        start = read_start(path, START)
        if not any(re.match(begin, start, re.DOTALL) for begin in begins):
            demand = "must not replace a file that another program or command has written"
            raise SettingError(option, demand, str(path), remedy="name another file, or remove this one")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise SettingError(option, f"must name a file that can be written: no file can be made in {folder}", str(path))
