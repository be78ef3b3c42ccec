"""Files that commands write: one of another kind, which was named by mistake, is not replaced."""

from pathlib import Path

from drolt_pl.errors import SettingError
from drolt_pl.regular import read_start


def require_replaceable(path: Path, *begins: bytes) -> None:
    """Refuses to replace a file that the command cannot have written: an image, a list, the model itself.

    Args:
        path: What `-o` names.
        begins: How a file of the command may begin.

    Raises:
        SettingError: there is a file that begins otherwise.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    if not any(read_start(path, len(begin)) == begin for begin in begins):
        demand = "must not replace a file that another program or command has written"
        raise SettingError("-o", demand, str(path), remedy="name another file, or remove this one")
