"""The evaluation view of an image: what validation, tests and predictions see of it."""

from typing import Literal, get_args

from PIL import Image, ImageOps

TrainCrop = Literal["center", "random_resized"]
TRAIN_CROPS: tuple[str, ...] = get_args(TrainCrop)


def evaluation_view(image: Image.Image, size: int, crop: str = "center") -> Image.Image:
    """A square part of an RGB image, scaled.

    Args:
        image: RGB.
        size: Pixels per side of the result.
        crop: How training crops, one of `TRAIN_CROPS`. With `center` the view is the largest centred square, scaled by
            area averaging (PIL's BOX) when it shrinks and bilinearly when it grows. With `random_resized` it is the
            centred square of 224/256 of the shorter side, scaled bilinearly.
    """
    if crop == "random_resized":
        side = round(min(image.size) * 224 / 256)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    shrinks = min(image.size) >= size
    return ImageOps.fit(image, (size, size), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
