"""A checkpoint as a file that knows whether it is as it was written: its SHA-256 is its end.

The file is the ZIP archive of `torch.save`, which `torch.load` reads as ever; the checksum of all bytes before is the
archive's comment. One changed bit anywhere, a cut, or another end is found before anything is read out of it.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from drolt_pl.disk import replacing
from drolt_pl.errors import SettingError

HEADER = "drolt_pl"  # key of what we add to Lightning's own content
RUN = "run"  # key of the header: which run the checkpoint is of; files that have it are sealed
MARK = b"sha256:"
SEAL = len(MARK) + hashlib.sha256().digest_size * 2
CHUNK = 2**20


class DamagedError(SettingError):
    """A checkpoint that cannot be used: no such file, not ours, or not as it was written."""


def write(path: Path, content: Mapping[str, Any], *, keep: Path | None = None) -> None:
    """Writes a checkpoint, sealed; see `disk.replacing`."""
    # In memory first: a full disk would end in torch's own words, which name none.
    archive = io.BytesIO()
    torch.save(content, archive)
    with archive.getbuffer() as data, replacing(path, keep=keep) as file:
        data[-2:] = SEAL.to_bytes(2, "little")  # the archive ends with the length of its comment, so far none
        file.write(data)
        file.write(MARK + hashlib.sha256(data).hexdigest().encode())


def read(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU: plain values and tensors, nothing that could run.

    Files of earlier versions have no seal; the archive's own checksums are compared there.

    Raises:
        DamagedError: it is not as it was written.
    """
    if not path.is_file():
        raise DamagedError(str(path), "does not exist, or is no file" if not path.exists() else "is no file")
    with path.open("rb") as file:
        sealed = _is_sealed(file, path)
        content = _content(file, path, sealed)
    header = content.get(HEADER)
    if not sealed and isinstance(header, Mapping) and RUN in header:
        raise DamagedError(str(path), "is damaged: it has lost its checksum")
    return content


def _is_sealed(file: IO[bytes], path: Path) -> bool:
    """Whether a file has a checksum, which is then the right one."""
    length = file.seek(0, os.SEEK_END) - SEAL
    if length < 0:
        return False
    file.seek(length)
    seal = file.read(SEAL)
    if not seal.startswith(MARK):
        return False
    if seal != MARK + _sha256(file, length).encode():
        raise DamagedError(str(path), "is damaged: it does not match its checksum")
    return True


def _content(file: IO[bytes], path: Path, sealed: bool) -> dict[str, Any]:
    reason: object = "it holds other things"
    file.seek(0)
    try:
        if not sealed:
            with zipfile.ZipFile(file) as archive:
                wrong = archive.testzip()
            if wrong is not None:
                raise DamagedError(str(path), f"is damaged: {wrong} does not match its checksum")
            file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SettingError, MemoryError):
        raise
    except Exception as error:  # what a broken archive or pickle raises is anybody's guess
        content, reason = None, error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), Mapping):
        return content
    text = next(iter(str(reason).strip().splitlines()), type(reason).__name__)[:100]
    raise DamagedError(str(path), f"is damaged, or no checkpoint ({text})")


def _sha256(file: IO[bytes], length: int) -> str:
    """Of a file's first bytes, as a hexadecimal number; the file's position is then behind them."""
    found = hashlib.sha256()
    file.seek(0)
    while length:
        chunk = file.read(min(CHUNK, length))
        if not chunk:
            break
        found.update(chunk)
        length -= len(chunk)
    return found.hexdigest()
