"""Batch transforms: uint8 images in, augmented and normalised float images out, each sample with its own draw."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from drolt_pl.checked import checked
from drolt_pl.errors import SettingError, require
from drolt_pl.ranges import Padding, PositiveFraction

# Takes (B, C, H, W) uint8 images and a CPU generator, gives (B, C, H, W) uint8 images.
Augment = Callable[[Tensor, torch.Generator], Tensor]
Augments = Augment | Sequence[Augment] | None  # one for all views, one for each view, or none
LARGE = 2**16  # numbers of an image from which on it is normalised by itself


class PerView:
    """Applies to each view an augmentation of its own.

    Batches hold the first view of every image, then the second of every image.

    Args:
        augments: One for each view.
    """

    def __init__(self, augments: Sequence[Augment]) -> None:
        self.augments = list(augments)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        views = images.view(len(self.augments), -1, *images.shape[1:])  # (V, B / V, C, H, W)
        return torch.cat([augment(view, generator) for augment, view in zip(self.augments, views, strict=True)])


def check_augment(augment: Augments) -> None:
    """Refuse a value that is neither null, nor an augmentation, nor a list of augmentations."""
    listed: list[object] = list(augment) if isinstance(augment, Sequence) else [augment]
    holds = augment is None or (bool(listed) and all(map(callable, listed)))
    require("augment", augment, holds, "must take a batch of images and a generator, or be null")


def for_views(augment: Augments, views: int) -> Augment | None:
    """The augmentation of batches with so many views. Of a list, a single view takes the first.

    Raises:
        SettingError: the list's length is not `views`, and `views` is not 1.
    """
    if not isinstance(augment, Sequence):
        return augment
    if views not in (1, len(augment)):
        raise SettingError("views", f"must be {len(augment)}, as many as augment lists, or 1", views)
    return augment[0] if views == 1 else PerView(augment)


def try_augments(augment: Augments, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Tries augmentations on two black images: what does not fit their size is found before training.

    Raises:
        SettingError: an augmentation refuses them.
    """
    listed = augment if isinstance(augment, Sequence) else () if augment is None else (augment,)
    for place, one in enumerate(listed):
        try:
            one(torch.zeros(2, *shape, dtype=dtype), torch.Generator())
        except SettingError as error:
            raise error.under(f"augment.{place}" if isinstance(augment, Sequence) else "augment") from error


class Chain:
    """Applies augmentations one after the other.

    Args:
        steps: See `Augment`.
    """

    def __init__(self, steps: Sequence[Augment]) -> None:
        for step in steps:
            require("steps", step, callable(step), "must take a batch of images and a generator each")
        self.steps = list(steps)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for place, step in enumerate(self.steps):
            try:
                images = step(images, generator)
            except SettingError as error:
                raise error.under(f"steps.{place}") from error
        return images


@checked
class CropFlip:
    """Crops each zero-padded image at random, then mirrors every second one on average.

    Args:
        padding: Pixels added on each side; 0 leaves out the crop.
        flip: Whether images may be mirrored; digits may not.
    """

    def __init__(self, *, padding: Padding = 4, flip: bool = True) -> None:
        self.padding = padding
        self.flip = flip

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        num_images, side = len(images), min(images.shape[2:])
        require("padding", self.padding, self.padding <= side, f"must be at most the images' side of {side} pixels")
        # Drawn on the CPU whatever the device, so that a GPU run sees the images that a CPU run sees.
        shifts = torch.randint(2 * self.padding + 1, (2, num_images), generator=generator)
        mirrored = torch.rand(num_images, generator=generator) < (0.5 if self.flip else 0.0)
        device = images.device
        return crop_and_mirror(images, shifts.to(device), mirrored.to(device), padding=self.padding)


def crop_and_mirror(images: Tensor, shifts: Tensor, mirrored: Tensor, *, padding: int) -> Tensor:
    """Cut a window out of each zero-padded image, and mirror those that are to be mirrored.

    It is one gather over flat pixel indices: several times faster on a CPU than slicing image by image.

    Args:
        images: (B, C, H, W), any dtype.
        shifts: Top and left edge of each window in the padded image, (2, B), in [0, 2 padding].
        mirrored: (B,), bool.
        padding: Pixels of zeros on each side.

    Returns:
        (B, C, H, W), the dtype of `images`.
    """
    if padding == 0:  # nothing to gather
        if images.device.type != "cpu":
            return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        # Image by image, which stay in the cache: a fifth of the time. NumPy wakes no threads for one image.
        turned = images.numpy().copy()
        for place in np.flatnonzero(mirrored.numpy()):
            turned[place] = images[place].numpy()[..., ::-1]
        return torch.from_numpy(turned)
    num_images, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    columns = torch.arange(width, device=images.device)
    rows = shifts[0, :, None] + torch.arange(height, device=images.device)  # (B, H)
    columns = shifts[1, :, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)  # (B, W)
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    flat = pixels.view(num_images, 1, -1).expand(-1, channels, -1)
    return padded.view(num_images, channels, -1).gather(2, flat).view_as(images)


@checked
class Cutout:
    """Blackens a square at a random place of each image (DeVries & Taylor 2017).

    The square's centre is any pixel, so at the border part of it falls outside.

    Args:
        share: Side of the square as a share of the image's shorter side, in (0, 1]; the paper's 16 of CIFAR's 32.
    """

    def __init__(self, *, share: PositiveFraction = 0.5) -> None:
        self.share = share

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        num_images, _, height, width = images.shape
        side = round(self.share * min(height, width))
        covered = []
        for size in (height, width):
            first = torch.randint(size, (num_images, 1), generator=generator) - side // 2
            place = torch.arange(size)
            covered.append((place >= first) & (place < first + side))  # (B, size)
        rows, columns = (axis.to(images.device) for axis in covered)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


class BatchTransform:
    """Augments images, converts them to float and normalises them.

    Args:
        mean, std: Per channel, of pixel values in [0, 1].
        augment: Applied to the uint8 images first; None for evaluation.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], augment: Augment | None = None) -> None:
        # (x / 255 - mean) / std in one multiplication and one addition.
        means, deviations = (torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (mean, std))
        self.scale, self.shift = 1 / (255 * deviations), -means / deviations
        self.augment = augment

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) uint8 -> the same shape, float32."""
        if self.augment is not None:
            images = self.augment(images, generator)
        if self.scale.device != images.device:
            self.scale, self.shift = self.scale.to(images.device), self.shift.to(images.device)
        if images.device.type != "cpu":
            return images.float().mul_(self.scale).add_(self.shift)
        found = np.empty(images.shape, np.float32)  # NumPy asks for large pages, and half the time goes for small ones
        if images[:1].numel() < LARGE:
            return torch.from_numpy(found).copy_(images).mul_(self.scale).add_(self.shift)
        # Image by image, which stay in the cache; and NumPy wakes no threads, where loader workers need the cores.
        scale, shift = self.scale[0].numpy(), self.shift[0].numpy()
        for image, normalised in zip(images.numpy(), found, strict=True):
            np.multiply(image, scale, out=normalised, dtype=np.float32, casting="unsafe")
            np.add(normalised, shift, out=normalised)
        return torch.from_numpy(found)
