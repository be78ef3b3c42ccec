"""Where pixels come from: arrays in memory, or files that are decoded when asked for."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drolt_pl.data.augment.transforms import Augment, BatchTransform
from drolt_pl.data.images.decoding import read_rgb, read_view
from drolt_pl.data.images.files import MAX_PIXELS, ImageError, naming, opened_image, read_image, upright_size
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.images.view import TRAIN_CROPS as TRAIN_CROPS
from drolt_pl.data.images.view import View
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.seeding import numpy_generator
from drolt_pl.data.sources import Source, Transform
from drolt_pl.errors import SettingError, require


class ImageSource(Source):
    """Gives uint8 pixels (C, H, W); the network sees them augmented and normalised."""

    shape: tuple[int, int, int]
    dtype = torch.uint8

    def transform(
        self, mean: Sequence[float] | None, std: Sequence[float] | None, augment: Augment | None
    ) -> Transform:
        channels, height, width = self.shape
        if height != width:
            raise SettingError("image_size", f"must be given for images that are not square ({width}x{height})")
        if mean is None or std is None:
            raise SettingError("mean" if mean is None else "std", "must be given for images, a value for each channel")
        for name, values in (("mean", mean), ("std", std)):
            demand = f"must have as many values as the images have channels, {channels}"
            require(name, list(values), len(values) == channels, demand)
        return BatchTransform(mean, std, augment)

    def preprocessing(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> Preprocessing | None:
        channels, size, _ = self.shape
        crop = "random_resized" if self.keyed else "center"
        return Preprocessing(
            image_size=size, channels=channels, mean=tuple(mean or ()), std=tuple(std or ()), crop=crop
        )


class ArraySource(ImageSource):
    """Images that lie in memory already.

    Args:
        images: uint8, (N, H, W, C).
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self.shape = (images.shape[3], images.shape[1], images.shape[2])

    def fetch(self, indices: IntArray, keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        return torch.from_numpy(self.images[indices]).permute(0, 3, 1, 2).contiguous()

    def contents(self, indices: IntArray) -> NDArray[np.uint8]:
        return self.images[indices].reshape(len(indices), int(np.prod(self.shape)))


class FileSource(ImageSource):
    """Image files below a root, decoded to RGB.

    With `center`, training sees the evaluation view: the largest centred square, scaled to `image_size` by area
    averaging (PIL's BOX) when it shrinks and bilinearly when it grows. A size of None takes the files as they are.
    With `random_resized`, training sees a random part (8 to 100 % of the area, aspect 3/4 to 4/3, as torchvision's
    RandomResizedCrop), evaluation the centred square of 224/256 of the shorter side.

    Args:
        root: Folder that `names` are relative to.
        names: Paths, (N,).
        image_size: Pixels per side, or None.
        train_crop: One of `TRAIN_CROPS`.
        max_pixels: That an image may declare; a larger one cannot be read.
    """

    def __init__(
        self,
        root: Path,
        names: NDArray[np.bytes_],
        *,
        image_size: int | None = None,
        train_crop: str = "center",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.root = root
        self.max_pixels = max_pixels
        self.names = names
        self.keyed = train_crop == "random_resized"
        self.image_size = image_size
        if image_size is None:
            first = self._path(0)
            with naming(first), opened_image(read_image(first, max_pixels), max_pixels) as image:
                width, height = upright_size(image)  # of the header: nothing is decoded
            self.shape = (3, height, width)
        else:
            self.shape = (3, image_size, image_size)

    def fetch(self, indices: IntArray, keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        channels, height, width = self.shape
        samples = torch.empty(len(indices), channels, height, width, dtype=torch.uint8)
        pixels = samples.numpy()
        seeds = list(keys) if keys is not None and self.keyed else [None] * len(indices)

        def decode(places: range) -> None:
            for place in places:
                pixels[place] = self._decode(int(indices[place]), seeds[place]).transpose(2, 0, 1)

        if threads == 1:
            decode(range(len(indices)))
        else:
            # PIL releases the interpreter lock while it decodes. Chunks keep the pool's own work small.
            chunks = [range(start, min(start + 64, len(indices))) for start in range(0, len(indices), 64)]
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(decode, chunks))
        return samples

    def paths(self, indices: IntArray) -> list[str]:
        return [self._path(int(index)) for index in indices]

    def _path(self, index: int) -> str:
        return os.path.join(self.root, os.fsdecode(self.names[index]))

    def _decode(self, index: int, key: tuple[int, ...] | None) -> NDArray[np.uint8]:
        path = self._path(index)
        if self.image_size is not None:
            return read_view(path, self._view(key), self.max_pixels)
        pixels = read_rgb(path, self.max_pixels)
        _, height, width = self.shape
        if pixels.shape[:2] != (height, width):
            raise ImageError(
                "image_size",
                f"must be given for images of several sizes: {path!r} has "
                f"{pixels.shape[1]}x{pixels.shape[0]} pixels, the first image {width}x{height}",
            )
        return pixels

    def _view(self, key: tuple[int, ...] | None) -> View:
        assert self.image_size is not None
        generator = None if key is None else numpy_generator("random_resized_crop", *key)
        return View(self.image_size, "random_resized" if self.keyed else "center", generator)
