"""Where pixels come from: arrays in memory, or files that are decoded when asked for."""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from drolt_pl.data.images.view import TRAIN_CROPS as TRAIN_CROPS
from drolt_pl.data.images.view import evaluation_view
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.seeding import numpy_generator

JPEG_START = b"\xff\xd8"


class ImageError(ValueError):
    """An image that cannot be read or does not fit the others."""


class UnreadableError(ImageError):
    """An image file that is missing or damaged."""


class ImageSource(Protocol):
    """Gives the pixels of images by index, all of one shape."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def random_crop(self) -> bool:
        """Whether training images differ from epoch to epoch already when decoded."""

    def fetch(self, indices: IntArray, crop_keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        """Images as uint8, (n, C, H, W).

        Args:
            indices: Images to read, (n,).
            crop_keys: One key a sample that seeds its random crop; None for the evaluation view.
            threads: Threads that decode.
        """


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All images of a data set by name and label; no pixel has been read.

    Attributes:
        names: Identity of each image on any machine, (N,), e.g. its path below the root. A NumPy array of bytes:
            one block of memory, which worker processes share, where a list of str would be copied page by page.
        targets: Class of each image, (N,), int64 in [0, C).
        official: Part that each image comes in, (N,): "train", "val" or "test".
        class_names: C names in label order.
        source: Gives the pixels.
    """

    names: NDArray[np.bytes_]
    targets: IntArray
    official: NDArray[np.str_]
    class_names: list[str]
    source: ImageSource


class ArraySource:
    """Images that lie in memory already.

    Args:
        images: uint8, (N, H, W, C).
    """

    random_crop = False

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self.shape = (images.shape[3], images.shape[1], images.shape[2])

    def fetch(self, indices: IntArray, crop_keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        return torch.from_numpy(self.images[indices]).permute(0, 3, 1, 2).contiguous()


class FileSource:
    """Image files below a root, decoded to RGB.

    `center` gives training the evaluation view: the largest centred square, scaled to `image_size` by area
    averaging (PIL's BOX) when it shrinks and bilinearly when it grows; a size of None takes the files as they are.
    `random_resized` gives training a random part (8 to 100 % of the area, aspect 3/4 to 4/3, as torchvision's
    RandomResizedCrop), evaluation the centred square of 224/256 of the shorter side.

    Args:
        root: Folder that `names` are relative to.
        names: Paths, (N,).
        image_size: Pixels per side, or None.
        train_crop: One of `TRAIN_CROPS`.
    """

    def __init__(
        self, root: Path, names: NDArray[np.bytes_], *, image_size: int | None = None, train_crop: str = "center"
    ) -> None:
        self.root = root
        self.names = names
        self.random_crop = train_crop == "random_resized"
        self.image_size = image_size
        if image_size is None:
            with _naming(self._path(0)), Image.open(self._path(0)) as image:  # its header: nothing is decoded
                width, height = image.size
            self.shape = (3, height, width)
        else:
            self.shape = (3, image_size, image_size)

    def fetch(self, indices: IntArray, crop_keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        channels, height, width = self.shape
        pixels = np.empty((len(indices), height, width, channels), np.uint8)
        keys = list(crop_keys) if crop_keys is not None and self.random_crop else [None] * len(indices)

        def decode(places: range) -> None:
            for place in places:
                pixels[place] = self._decode(int(indices[place]), keys[place])

        if threads == 1:
            decode(range(len(indices)))
        else:
            # PIL releases the interpreter lock while it decodes. Chunks keep the pool's own work small.
            chunks = [range(start, min(start + 64, len(indices))) for start in range(0, len(indices), 64)]
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(decode, chunks))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _path(self, index: int) -> str:
        return os.path.join(self.root, os.fsdecode(self.names[index]))

    def _decode(self, index: int, crop_key: tuple[int, ...] | None) -> NDArray[np.uint8]:
        pixels = read_rgb(self._path(index))
        _, height, width = self.shape
        if self.image_size is not None:
            return np.asarray(self._view(Image.fromarray(pixels), crop_key))
        if pixels.shape[:2] != (height, width):
            raise ImageError(
                f"image_size must be given for images of several sizes: {self._path(index)!r} has "
                f"{pixels.shape[1]}x{pixels.shape[0]} pixels, the first image {width}x{height}"
            )
        return pixels

    def _view(self, image: Image.Image, crop_key: tuple[int, ...] | None) -> Image.Image:
        _, height, width = self.shape
        if crop_key is not None:
            box = random_resized_box(image.width, image.height, numpy_generator("random_resized_crop", *crop_key))
            return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
        return evaluation_view(image, width, "random_resized" if self.random_crop else "center")


def read_rgb(path: str) -> NDArray[np.uint8]:
    """The pixels of an image file as RGB, (H, W, 3).

    JPEG is decoded by torchvision: the same pixels as PIL's, without its reading of the header in Python, which takes
    longer than the decoding of a small image.

    Raises:
        UnreadableError: the file is missing or damaged.
    """
    with _naming(path):
        data = Path(path).read_bytes()
        if data.startswith(JPEG_START):
            with suppress(RuntimeError):  # PIL finds the reason
                encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                pixels: NDArray[np.uint8] = decode_jpeg(encoded, ImageReadMode.RGB).permute(1, 2, 0).numpy()
                return pixels
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(to_rgb(image))


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turns what goes wrong with a file into a sentence that names it."""
    try:
        yield
    except FileNotFoundError:
        raise UnreadableError(f"root: image {path!r} does not exist; correct the root or the list") from None
    except Exception as error:  # decoders raise far more than OSError on damaged bytes
        reason = "it is no image" if isinstance(error, UnidentifiedImageError) else error
        raise UnreadableError(f"root: image {path!r} cannot be read ({reason}); repair or remove it") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL mode to RGB, decoded: 16-bit grey keeps its high byte (PIL would clip it to white), alpha is dropped."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def random_resized_box(width: int, height: int, generator: np.random.Generator) -> tuple[float, float, float, float]:
    """Box (left, top, right, bottom) with a random share of the area and a random aspect ratio.

    As torchvision's RandomResizedCrop: 8 to 100 % of the area, aspect ratio log-uniform in 3/4 to 4/3, ten tries,
    then the largest centred box of an allowed aspect ratio.
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
