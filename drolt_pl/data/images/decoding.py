"""Decoding image files to RGB, and the boxes that random crops cut."""

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
        return decode_rgb(path, max_pixels)


def decode_rgb(path: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """As `read_rgb`, but with the exceptions of the decoders; `reason_of` puts them into words."""
    data = read_image(path, max_pixels)
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


def random_resized_box(width: int, height: int, generator: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a box (left, top, right, bottom) with a random share of the area and a random aspect ratio.

    The law is that of torchvision's RandomResizedCrop: 8 to 100 % of the area, aspect ratio log-uniform in 3/4 to
    4/3, ten tries, then the largest centred box of an allowed aspect ratio.
    """
    for _ in range(10):
        area = width * height * generator.uniform(0.08, 1.0)
        aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        box_width, box_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = generator.integers(width - box_width + 1), generator.integers(height - box_height + 1)
            return float(left), float(top), float(left + box_width), float(top + box_height)
    aspect = min(max(width / height, 3 / 4), 4 / 3)
    box_width, box_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height
