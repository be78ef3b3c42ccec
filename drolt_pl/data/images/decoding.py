"""Decoding image files to RGB: whole, or no more of one than a view of it needs."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from drolt_pl.data.images.files import (
    JPEG_START,
    MAX_PIXELS,
    jpeg_head,
    naming,
    opened_image,
    orientation_of,
    read_image,
    require_size,
)
from drolt_pl.data.images.view import View

# Orientations that are upright once rows and columns have changed places (above 4) and then these axes are reversed.
MIRRORED, UPSIDE_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)


def read_rgb(path: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of an image file as RGB, (H, W, 3): upright, by its EXIF orientation, and the first of its frames.

    simplejpeg decodes JPEG files. It gives PIL's pixels, as both have libjpeg-turbo, without PIL's look at the header,
    which for a small image takes longer than the decoding.

    Args:
        path: The file.
        max_pixels: That it may declare; a larger one is not decoded.

    Raises:
        UnreadableError: the file is missing, damaged, too large, or no regular file.
    """
    with naming(path):
        data = read_image(path, max_pixels)
        return _Jpeg(data, max_pixels).pixels() if data.startswith(JPEG_START) else _by_pil(data, max_pixels)


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
    if not data.startswith(JPEG_START):
        return view.of(_by_pil(data, max_pixels))
    jpeg = _Jpeg(data, max_pixels)
    if not view.may_reduce(jpeg.width, jpeg.height):
        return view.of(jpeg.pixels())
    width, height = (jpeg.width, jpeg.height) if jpeg.orientation < 5 else (jpeg.height, jpeg.width)
    cut = view.cut(width, height)
    reduced = cut.reduction()
    pixels = jpeg.pixels(reduced)
    # The last of the reduced pixels lie in part beyond the file's: an image that was turned may begin with them.
    x = reduced * pixels.shape[1] - width if jpeg.orientation in MIRRORED else 0
    y = reduced * pixels.shape[0] - height if jpeg.orientation in UPSIDE_DOWN else 0
    left, top, right, bottom = cut.box
    return replace(cut, box=(left + x, top + y, right + x, bottom + y)).of(pixels, reduced)


class _Jpeg:
    """A JPEG file's content, whose head is read."""

    def __init__(self, data: bytes, max_pixels: int) -> None:
        self.data, self.max_pixels = data, max_pixels
        self.width, self.height, self.channels, may_be_turned = jpeg_head(data)
        require_size(self.width, self.height, max_pixels)
        self.orientation = 1
        if may_be_turned:
            with opened_image(data, max_pixels) as image:
                self.orientation = orientation_of(image)

    def pixels(self, reduced: int = 1) -> NDArray[np.uint8]:
        """All of it, upright, at 1, 1/2, 1/4 or 1/8 of its size."""
        if self.channels > 3:  # PIL has colours of print in its own way
            return _by_pil(self.data, self.max_pixels, reduced)
        least = {"min_width": -(-self.width // reduced), "min_height": -(-self.height // reduced)}
        with suppress(ValueError):  # PIL reads it, or finds the reason
            return _upright(simplejpeg.decode_jpeg(self.data, "RGB", min_factor=reduced, **least), self.orientation)
        return _by_pil(self.data, self.max_pixels, reduced)


def _by_pil(data: bytes, max_pixels: int, reduced: int = 1) -> NDArray[np.uint8]:
    with opened_image(data, max_pixels) as image:
        if reduced > 1:
            image.draft(None, (image.width // reduced, image.height // reduced))
        return to_rgb(image)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) turned by their orientation."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in MIRRORED:
        pixels = pixels[:, ::-1]
    if orientation in UPSIDE_DOWN:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an image of any PIL mode as RGB, (H, W, 3), upright.

    Alpha is dropped. Of whole numbers up to 65,535 the high byte is kept, where PIL would clip them to white; floats
    are taken for shares of white.

    Raises:
        OSError: 32-bit numbers beyond these ranges, since the file does not say what white is.
    """
    image.load()  # PIL itself turns TIFF files then
    # PIL's `exif_transpose` would write the other EXIF data anew, and fail where they are damaged.
    return _upright(np.asarray(_rgb(image)), orientation_of(image))


def _rgb(image: Image.Image) -> Image.Image:
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
