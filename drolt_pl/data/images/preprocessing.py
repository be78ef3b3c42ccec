"""What happens to an image before a trained network sees it, apart from any data set."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from drolt_pl.data.augment.transforms import BatchTransform
from drolt_pl.data.images.decoding import decode_view, to_rgb
from drolt_pl.data.images.files import UnreadableError, reason_of
from drolt_pl.data.images.view import TRAIN_CROPS, View
from drolt_pl.errors import SettingError, require, require_choice, require_int

ImageLike = str | os.PathLike[str] | Image.Image | Tensor  # a tensor is uint8, (C, H, W)
THREADS = 8  # that decode


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The evaluation view and the normalisation of a data set of images.

    Attributes:
        image_size: Pixels per side.
        channels: 3, or 1 for grey images.
        crop: See `View`.
        mean, std: By channel, of pixel values in [0, 1].
    """

    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: str = "center"

    def __post_init__(self) -> None:
        require_int("image_size", self.image_size, at_least=1)
        require("channels", self.channels, self.channels in (1, 3), "must be 1 or 3")
        require_choice("crop", self.crop, TRAIN_CROPS)
        for name, values in (("mean", self.mean), ("std", self.std)):
            require(name, values, len(values) == self.channels, f"must have {self.channels} values")
        require("std", self.std, min(self.std) > 0, "must be > 0 for every channel")

    def as_plain(self) -> dict[str, object]:
        """Plain values, which `read` takes."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def read(cls, values: Mapping[str, object]) -> Self:
        """The preprocessing that plain values describe.

        Raises:
            SettingError: they do not.
        """
        size, channels, crop = values.get("image_size"), values.get("channels"), values.get("crop")
        if not isinstance(size, int) or not isinstance(channels, int) or not isinstance(crop, str):
            raise SettingError("", "must have an image_size, channels and a crop", dict(values))
        mean, std = numbers("mean", values.get("mean")), numbers("std", values.get("std"))
        return cls(image_size=size, channels=channels, mean=mean, std=std, crop=crop)

    def __call__(self, images: Sequence[ImageLike]) -> Tensor:
        """Normalised float32 (B, C, image_size, image_size) of images of any size.

        Raises:
            SettingError: an image that cannot be read, or none at all.
        """
        require("images", list(images), len(images) > 0, "must be a list of at least one image")
        with ThreadPoolExecutor(min(THREADS, len(images))) as pool:  # PIL releases the interpreter lock
            return self.normalised(torch.stack(list(pool.map(self.pixels, images))))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Float32 with the network's mean and standard deviation, of evaluation views (B, C, H, W) of uint8."""
        return BatchTransform(self.mean, self.std)(pixels, torch.Generator())

    def pixels(self, image: ImageLike) -> Tensor:
        """The evaluation view, uint8 (C, image_size, image_size).

        Raises:
            UnreadableError: a file that cannot be read.
            SettingError: something that is no image.
        """
        if not isinstance(image, str | os.PathLike | Image.Image | Tensor):
            demand = "must be paths, PIL images or uint8 tensors (C, H, W)"
            raise SettingError("images", demand, type(image).__name__)
        if isinstance(image, Tensor):
            require("images", image.dtype, image.dtype == torch.uint8, "must be uint8 where they are tensors")
            fits = image.ndim == 3 and image.shape[0] in (1, 3) and min(image.shape) > 0
            require("images", tuple(image.shape), fits, "must be (C, H, W) with one or three channels, and have pixels")
            if image.shape == (self.channels, self.image_size, self.image_size):
                return image.cpu()
        seen = _seen(image, View(self.image_size, self.crop))
        view = np.asarray(Image.fromarray(seen).convert("L"))[..., None] if self.channels == 1 else seen
        return torch.from_numpy(np.array(view)).permute(2, 0, 1)


def numbers(name: str, values: object) -> tuple[float, ...]:
    """A list of numbers out of plain values.

    Raises:
        SettingError: it is something else.
    """
    if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
        raise SettingError(name, "must be a list of numbers", values)
    return tuple(float(value) for value in values)


def _seen(image: ImageLike, view: View) -> NDArray[np.uint8]:
    if isinstance(image, Tensor):
        pixels: NDArray[np.uint8] = image.permute(1, 2, 0).cpu().numpy()
        return view.of(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    try:
        if isinstance(image, Image.Image):  # whose file PIL may not have decoded yet
            require("its size", image.size, min(image.size) > 0, "must be 1x1 at least")
            return view.of(to_rgb(image))
        return decode_view(os.fspath(image), view)
    except FileNotFoundError:
        raise UnreadableError("images", f"must be files that exist, {str(image)!r} does not") from None
    except Exception as error:  # decoders raise far more than OSError on damaged bytes
        raise UnreadableError("images", f"must be readable, {str(image)!r} is not ({reason_of(error)})") from None
