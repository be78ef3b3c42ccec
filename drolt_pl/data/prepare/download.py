"""Fetching files by address and checksum, bounded in bytes and in time."""

import hashlib
import os
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urlsplit

from drolt_pl.errors import SettingError
from drolt_pl.regular import read_regular

TIMEOUT = 60.0  # seconds without an answer
TOTAL = 3600.0  # seconds for all of a file
MAX_BYTES = 2 * 1024**3
PIECE = 1 << 20


def fetch(address: str, folder: Path) -> bool:
    """Fetch `https://host/path/NAME#sha256=HASH` as `folder/NAME`, unless a file with that hash is there.

    Returns:
        Whether it had to be fetched.

    Raises:
        SettingError: the address has no hash or cannot be reached, or its file is too large, comes too slowly, or has
            another hash; it is not kept.
    """
    url, fragment = urldefrag(address)
    kind, _, wanted = fragment.partition("=")
    name = Path(unquote(urlsplit(url).path)).name
    if urlsplit(url).scheme not in ("http", "https") or not name or "\0" in name:
        raise SettingError("url", "must be the http address of a file", address)
    if kind != "sha256" or len(wanted) != 64:
        raise SettingError("url", "must end in '#sha256=' and the 64 digits of the file's hash", address)
    path = folder / name
    if path.is_file() and _hashed(path, "sha256") == wanted.lower():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = retrieve(url, path, "sha256", wanted)
    except (OSError, HTTPException) as error:
        demand = f"must be an address that can be fetched: {url} cannot ({error})"
        raise SettingError("url", demand, remedy=f"fetch {name} by hand into {str(folder)!r}") from None
    if found != wanted.lower():
        demand = f"must give a file with SHA-256 {wanted}: {url} gives one with {found}"
        raise SettingError("url", demand, remedy="nothing was kept")
    return True


def retrieve(url: str, path: Path, kind: str, wanted: str) -> str:
    """Fetch a file, which is kept only where its hash is the wanted one.

    Args:
        url: The address, of http or https.
        path: Where it is kept; its folder exists.
        kind: Of the hash, such as sha256.
        wanted: The hash.

    Returns:
        The hash of what came.

    Raises:
        OSError, HTTPException: the address does not answer, or gives too much or too slowly.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    found: list[str] = []
    failed: list[Exception] = []
    ended = threading.Event()

    def run() -> None:
        try:
            with temporary.open("wb") as file:
                found.append(_copied(url, file, kind, ended))
        except Exception as error:
            failed.append(error)

    # Of its own, since a server that sends a byte a minute holds whoever waits for its headers.
    worker = threading.Thread(target=run, daemon=True)
    try:
        worker.start()
        worker.join(TOTAL)
        if worker.is_alive():
            raise TimeoutError(f"it takes longer than {TOTAL:.0f} seconds")
        if failed:
            raise failed[0]
        if found[0] == wanted.lower():
            temporary.replace(path)
        return found[0]
    finally:
        ended.set()
        temporary.unlink(missing_ok=True)


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows no redirection to another kind of address."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise OSError(f"it leads to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copied(url: str, file: IO[bytes], kind: str, ended: threading.Event) -> str:
    """Copies what an address gives; returns its hash."""
    digest, size, start = hashlib.new(kind), 0, time.monotonic()
    try:
        with urllib.request.build_opener(_WebOnly).open(url, timeout=TIMEOUT) as answer:
            # read1 returns with what has come: read would wait for a whole piece.
            while piece := answer.read1(PIECE):
                size += len(piece)
                if size > MAX_BYTES:
                    raise OSError(f"it has more than {MAX_BYTES:,} bytes")
                if ended.is_set() or time.monotonic() - start > TOTAL:
                    raise TimeoutError(f"it takes longer than {TOTAL:.0f} seconds")
                digest.update(piece)
                file.write(piece)
            if answer.length:
                raise OSError(f"it ends {answer.length:,} bytes early")
    except HTTPError as error:
        error.close()  # it holds the connection
        raise
    return digest.hexdigest()


def _hashed(path: Path, kind: str) -> str:
    return hashlib.new(kind, read_regular(path, MAX_BYTES)).hexdigest()
