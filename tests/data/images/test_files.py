"""Files of images that anybody may have made: nothing hangs, nothing large is decoded, and one sentence says why."""

import io
import os
import socket
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.data_tools import write_images
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from drolt_pl.cli.app import app
from drolt_pl.data.images.decoding import read_rgb
from drolt_pl.data.images.files import UnreadableError, jpeg_head
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.images.readable import fetch_readable
from drolt_pl.data.images.sources import FileSource
from drolt_pl.errors import SettingError


def large_png(path: Path) -> None:
    """13,000 x 13,000 pixels in 20 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + 13_000 // 8)
    data = b"".join(packer.compress(row) for _ in range(13_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def large_jpeg(path: Path) -> None:
    """A small file that declares 65,500 x 65,500 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65_500, 65_500)
    path.write_bytes(data)


def hidden_jpeg(path: Path) -> None:
    """The same behind fill bytes, a comment that looks like a small frame, and a marker without length."""
    large_jpeg(path)
    data = path.read_bytes()
    frame = b"\xff\xc0\x00\x11\x08\x00\x08\x00\x08\x03"
    comment = b"\xff\xff\xff\xfe" + struct.pack(">H", 2 + len(frame)) + frame
    path.write_bytes(data[:2] + comment + b"\xff\x01" + data[2:])


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:300])


def postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # such a path has at most a hundred characters
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def tiff(path: Path) -> None:
    Image.new("1", (9_000, 9_000)).save(path, "TIFF", compression="group4")


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "it is a pipe"),
    "socket": (a_socket, "it is a socket"),
    "device": (device, "it is a device"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "large PNG": (large_png, "13000x13000 pixels, and max_pixels=64,000,000 are allowed|169000000 pixels"),
    "large JPEG": (large_jpeg, "it declares 65500x65500 pixels"),
    "hidden JPEG": (hidden_jpeg, "it declares 65500x65500 pixels"),
    "large TIFF": (tiff, "it declares 9000x9000 pixels"),
    "truncated": (truncated, "truncated|broken|unrecognized"),
    "EPS": (postscript, "it is no image of the kinds JPEG, PNG"),
    "empty": (lambda path: path.touch(), "it is no image of the kinds JPEG, PNG"),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@EVERY_KIND
def test_reading_ends_in_one_sentence_and_takes_no_memory(kind: str, tmp_path: Path) -> None:
    make, reason = KINDS[kind]
    path = tmp_path / "x.jpg"
    make(path)
    tracemalloc.start()
    with pytest.raises(
        UnreadableError, match=rf"^root must hold readable images: '.*x.jpg' cannot be read \(.*{reason}"
    ):
        read_rgb(str(path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


@EVERY_KIND
def test_skipping_goes_past_them(kind: str, tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    KINDS[kind][0](tmp_path / "x.jpg")
    source = FileSource(tmp_path, np.array([b"000.png", b"x.jpg", b"001.png"]), image_size=8)
    _, readable = fetch_readable(source, np.arange(3))
    assert readable.tolist() == [True, False, True]


@EVERY_KIND
def test_predictions_refuse_them(kind: str, tmp_path: Path) -> None:
    KINDS[kind][0](tmp_path / "x.jpg")
    preprocessing = Preprocessing(image_size=8, channels=3, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(SettingError, match=r"^images must be (files that exist|readable)"):
        preprocessing([tmp_path / "x.jpg"])


def test_the_check_lists_them(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    for seed, name in enumerate("ab"):
        write_images(tmp_path / "images" / name, 3, seed=seed)
    for number, (make, _) in enumerate(KINDS.values()):
        make(tmp_path / "images" / "a" / f"x{number}.jpg")
    (tmp_path / "images" / "b" / "\x1b[31mred.png").write_bytes(b"")
    done = CliRunner().invoke(app, ["data", "check", str(tmp_path / "images"), "--png", str(tmp_path / "h.png")])
    assert done.exit_code == 1
    assert f"files that cannot be read: {len(KINDS) + 1}" in done.output
    assert "a/x0.jpg: it is a pipe" in done.output
    assert "\x1b[31m" not in done.output
    assert r"b/\x1b[31mred.png: empty file" in done.output


def test_the_bound_can_be_set(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    path = str(tmp_path / "000.png")
    assert read_rgb(path, 64).shape == (8, 8, 3)
    with pytest.raises(UnreadableError, match="it declares 8x8 pixels, and max_pixels=63 are allowed"):
        read_rgb(path, 63)
    tiff(tmp_path / "x.tif")
    assert read_rgb(str(tmp_path / "x.tif"), 81_000_000).shape == (9_000, 9_000, 3)


def test_a_file_above_the_bound_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(UnreadableError, match=r"it has 10,000,000,000 bytes, and 512,000,000 are allowed"):
        read_rgb(str(tmp_path / "x.jpg"))


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.binary(max_size=20))
def test_the_size_of_a_jpeg_is_pils(width: int, height: int, progressive: bool, comment: bytes) -> None:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG", progressive=progressive, comment=comment)
    assert jpeg_head(file.getvalue())[:3] == (width, height, 3)


@given(st.binary(max_size=300))
def test_the_size_of_any_bytes_is_two_numbers(data: bytes) -> None:
    assert min(jpeg_head(b"\xff\xd8" + data)) >= 0
