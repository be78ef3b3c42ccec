"""Fetching list files by address and checksum."""

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urlsplit

TIMEOUT = 60  # seconds without an answer
PIECE = 1 << 20


def fetch(address: str, folder: Path) -> bool:
    """Fetch `https://host/path/NAME#sha256=HASH` as `folder/NAME`; a file that is there with that hash is kept.

    Returns:
        Whether it had to be fetched.

    Raises:
        ValueError: the address has no hash, or what came does not fit it; nothing is kept then.
        OSError: the address cannot be reached.
    """
    url, fragment = urldefrag(address)
    kind, _, wanted = fragment.partition("=")
    name = Path(unquote(urlsplit(url).path)).name
    if urlsplit(url).scheme not in ("http", "https") or not name:
        raise ValueError(f"url must be the http address of a file, got {address!r}")
    if kind != "sha256" or len(wanted) != 64:
        raise ValueError(f"url must end in '#sha256=' and the 64 digits of the file's hash, got {address!r}")
    path = folder / name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted.lower():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, temporary.open("wb") as file:
            while piece := answer.read(PIECE):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != wanted.lower():
            raise ValueError(f"url: what {url} gives has SHA-256 {digest.hexdigest()}, not {wanted}; nothing was kept")
        temporary.replace(path)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise OSError(f"url: {url} cannot be fetched ({error}); fetch {name} by hand into {str(folder)!r}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return True
