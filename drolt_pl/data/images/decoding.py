"""Decoding image files to RGB: whole, or no more of one than a view of it needs."""

from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.io import ImageReadMode, decode_jpeg

from drolt_pl.data.images.files import (
    MAX_PIXELS,
    jpeg_size,
    naming,
    opened_image,
    orientation_of,
    read_image,
    require_size,
)
from drolt_pl.data.images.view import View

JPEG_START = b"\xff\xd8"


def read_rgb(path: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of an image file as RGB, (H, W, 3): upright, by its EXIF orientation, and the first of its frames.

    torchvision decodes JPEG files. It gives PIL's pixels without PIL's look at the header, which for a small image
    takes longer than the decoding.

    Args:
        path: The file.
        max_pixels: That it may declare; a larger one is not decoded.

    Raises:
        UnreadableError: the file is missing, damaged, too large, or no regular file.
    """
    with naming(path):
        return _whole(read_image(path, max_pixels), max_pixels)


def read_view(path: str, view: View, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The view of an image file, (size, size, 3); see `read_rgb`.

    Where the view has far fewer pixels than its part of a JPEG file, the file is decoded at 1/2, 1/4 or 1/8 of its
    size: libjpeg leaves out most of the transform then.
    """
    with naming(path):
        return decode_view(path, view, max_pixels)


def decode_view(path: str, view: View, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """As `read_view`, but with the exceptions of the decoders; `reason_of` puts them into words."""
    data = read_image(path, max_pixels)
    if not data.startswith(JPEG_START) or not view.may_reduce(*jpeg_size(data)):
        return view.of(_whole(data, max_pixels))
    with opened_image(data, max_pixels) as image:
        width, height = image.size
        cut = view.cut(width, height) if orientation_of(image) < 5 else view.cut(height, width)
        reduced = cut.reduction()
        if reduced == 1:
            return cut.of(_whole(data, max_pixels))
        image.draft(None, (width // reduced, height // reduced))
        return cut.of(np.asarray(to_rgb(image)), reduced)


def _whole(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    if data.startswith(JPEG_START):
        require_size(*jpeg_size(data), max_pixels)
        with suppress(RuntimeError):  # PIL finds the reason
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            decoded = decode_jpeg(encoded, ImageReadMode.RGB, apply_exif_orientation=True)
            pixels: NDArray[np.uint8] = decoded.permute(1, 2, 0).numpy()
            return pixels
    with opened_image(data, max_pixels) as image:
        return np.asarray(to_rgb(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL mode to RGB, upright.

    Alpha is dropped. Of whole numbers up to 65,535 the high byte is kept, where PIL would clip them to white; floats
    are taken for shares of white.

    Raises:
        OSError: 32-bit numbers beyond these ranges, since the file does not say what white is.
    """
    image.load()  # PIL itself turns TIFF files then
    if orientation_of(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values, white = np.asarray(image), 1.0 if image.mode == "F" else 65535.0
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= white):  # no number is neither
            known = f"its values of mode {image.mode} are {low:g} to {high:g}, and 0 to {white:g} are known"
            raise OSError(f"{known}: save it with 8 bits a channel")
        scaled = np.rint(values * 255) if image.mode == "F" else values >> 8
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
