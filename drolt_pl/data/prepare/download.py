"""Fetching list files by address and checksum."""

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urlsplit

from drolt_pl.errors import SettingError

TIMEOUT = 60  # seconds without an answer
PIECE = 1 << 20


def fetch(address: str, folder: Path) -> bool:
    """Fetch `https://host/path/NAME#sha256=HASH` as `folder/NAME`, unless a file with that hash is there.

    Returns:
        Whether it had to be fetched.

    Raises:
        SettingError: the address has no hash or cannot be reached, or its file has another hash and is not kept.
    """
    url, fragment = urldefrag(address)
    kind, _, wanted = fragment.partition("=")
    name = Path(unquote(urlsplit(url).path)).name
    if urlsplit(url).scheme not in ("http", "https") or not name:
        raise SettingError("url", "must be the http address of a file", address)
    if kind != "sha256" or len(wanted) != 64:
        raise SettingError("url", "must end in '#sha256=' and the 64 digits of the file's hash", address)
    path = folder / name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted.lower():
        return False
    temporary = folder / f".{name}.{os.getpid()}"
    digest = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, temporary.open("wb") as file:
            while piece := answer.read(PIECE):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != wanted.lower():
            demand = f"must give a file with SHA-256 {wanted}: {url} gives one with {digest.hexdigest()}"
            raise SettingError("url", demand, remedy="nothing was kept")
        temporary.replace(path)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        demand = f"must be an address that can be fetched: {url} cannot ({error})"
        raise SettingError("url", demand, remedy=f"fetch {name} by hand into {str(folder)!r}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return True
