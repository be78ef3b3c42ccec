"""The part of an image that a network sees: evaluation's, or a random one of training."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

TrainCrop = Literal["center", "random_resized"]
TRAIN_CROPS: tuple[str, ...] = get_args(TrainCrop)
Box = tuple[float, float, float, float]  # left, top, right, bottom

AREA, BILINEAR = Image.Resampling.BOX, Image.Resampling.BILINEAR
# A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size, which averages its pixels. Its part must then still have
# so many times the pixels of the view: PIL's BOX takes whole pixels, and needs more of them.
SPARE = {AREA: 4.0, BILINEAR: 1.25}


@dataclass(frozen=True)
class Cut:
    """A box of an image that becomes a square.

    Attributes:
        box: In pixels of the whole image.
        size: Pixels per side of the square.
        filter: How it is scaled, `AREA` or `BILINEAR`.
        whole: Whether the box is cut before it is scaled. Else pixels beside it are blended into the square's edge.
    """

    box: Box
    size: int
    filter: Image.Resampling
    whole: bool

    def reduction(self) -> int:
        """By how much the image may be reduced before: 1, 2, 4 or 8."""
        left, top, right, bottom = self.box
        spare = min(right - left, bottom - top) / (self.size * SPARE[self.filter])
        return max(scale for scale in (1, 2, 4, 8) if scale <= max(1.0, spare))

    def of(self, pixels: NDArray[np.uint8], reduced: int = 1) -> NDArray[np.uint8]:
        """The square, (size, size, 3).

        Args:
            pixels: Of the image, (H, W, 3).
            reduced: By how much they are fewer than the box's on a side.
        """
        height, width = pixels.shape[:2]
        left, top, right, bottom = (
            min(value / reduced, limit) for value, limit in zip(self.box, (width, height) * 2, strict=True)
        )
        if not self.whole or reduced > 1:  # between pixels
            image = Image.fromarray(pixels).resize((self.size, self.size), self.filter, box=(left, top, right, bottom))
            return np.asarray(image)
        part = pixels[int(top) : math.ceil(bottom), int(left) : math.ceil(right)]
        # torch has the arithmetic of PIL's `resize`, up to one level of 255, with vector instructions.
        channels_last = torch.from_numpy(np.array(part)).permute(2, 0, 1)[None]
        scaled = interpolate(channels_last, (self.size, self.size), mode="bilinear", antialias=True)
        square: NDArray[np.uint8] = scaled[0].permute(1, 2, 0).numpy()
        return square


@dataclass(frozen=True)
class View:
    """Chooses the part of an image by its size.

    Attributes:
        size: Pixels per side of the result.
        crop: How training crops, one of `TRAIN_CROPS`. With `center` the view is the largest centred square, scaled by
            area averaging (PIL's BOX) when it shrinks and bilinearly when it grows. With `random_resized` it is the
            centred square of 224/256 of the shorter side, scaled bilinearly.
        generator: Draws the box instead; see `random_resized_box`.
    """

    size: int
    crop: str = "center"
    generator: np.random.Generator | None = None

    def cut(self, width: int, height: int) -> Cut:
        """The part of an image of this size. With a generator, every call draws another one."""
        if self.generator is not None:
            return Cut(random_resized_box(width, height, self.generator), self.size, BILINEAR, whole=True)
        shorter = min(width, height)
        if self.crop == "random_resized":
            side = max(1, round(shorter * 224 / 256))
            left, top = (width - side) // 2, (height - side) // 2
            return Cut((left, top, left + side, top + side), self.size, BILINEAR, whole=True)
        box = ((width - shorter) / 2, (height - shorter) / 2, (width + shorter) / 2, (height + shorter) / 2)
        return Cut(box, self.size, AREA if shorter >= self.size else BILINEAR, whole=False)

    def may_reduce(self, width: int, height: int) -> bool:
        """Whether any part of an image of this size might be decoded at half the size."""
        scaling = AREA if self.generator is None and self.crop == "center" else BILINEAR
        return min(width, height) >= 2 * self.size * SPARE[scaling]

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view of a whole image, (size, size, 3) of (H, W, 3)."""
        height, width = pixels.shape[:2]
        return self.cut(width, height).of(pixels)


def random_resized_box(width: int, height: int, generator: np.random.Generator) -> Box:
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
