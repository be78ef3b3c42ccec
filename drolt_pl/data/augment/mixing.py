"""Mixing samples in pairs: Mixup and CutMix, each sample with a partner, and a share of its own or the batch's."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from drolt_pl.checked import checked
from drolt_pl.data.images.loaders import BatchLoader
from drolt_pl.data.longtail import IntArray
from drolt_pl.errors import SettingError
from drolt_pl.ranges import Positive


@checked
class Mixing(ABC):
    """Mixes each sample of a batch with another.

    Args:
        alpha: Shares come from Beta(alpha, alpha), > 0.
        share_per: ``sample`` draws a share for each image, ``batch`` one for all images of a batch, as the code of
            Mixup's authors and of MiSLAS does.

    Attributes:
        needs_images: Whether it works on pixels, and not on stored features.
    """

    needs_images: ClassVar[bool] = False

    def __init__(self, *, alpha: Positive = 1.0, share_per: Literal["sample", "batch"] = "sample") -> None:
        self.alpha, self.share_per = alpha, share_per

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: Float, (B, C, H, W), normalised or not; for `Mixup` of any shape (B, ...).
            targets: int64, (B,).
            generator: On the CPU.

        Returns:
            Mixed images, their own targets, the targets of the images mixed in, and the share that each image kept
            of itself, (B,) float32: a loss of the batch is ``share * loss(own) + (1 - share) * loss(other)``.
        """
        partners = torch.randperm(len(images), generator=generator).to(images.device)
        # torch draws no Beta from a generator.
        seed = int(torch.randint(2**62, (), generator=generator))
        number = len(images) if self.share_per == "sample" else 1
        drawn = np.random.Generator(np.random.PCG64(seed)).beta(self.alpha, self.alpha, number)
        shares = torch.from_numpy(drawn).float().expand(len(images))
        mixed, own = self.mix(images, images[partners], shares, generator)
        return mixed, targets, targets[partners], own

    @abstractmethod
    def mix(
        self, images: Tensor, partners: Tensor, shares: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mix images with partners of the same shape.

        Args:
            images: See `__call__`.
            partners: Like the images.
            shares: The shares drawn, (B,).
            generator: Draws whatever else is random.

        Returns:
            Mixed images, and the share that each in fact kept of itself, (B,).
        """


class Mixup(Mixing):
    """Takes the weighted mean of two samples (Zhang et al. 2018); arguments as for `Mixing`."""

    def mix(
        self, images: Tensor, partners: Tensor, shares: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        own = shares.to(images.device)
        weights = own.to(images.dtype).view(-1, *[1] * (images.ndim - 1))
        return weights * images + (1 - weights) * partners, own


class CutMix(Mixing):
    """Puts a rectangle of one image into the other (Yun et al. 2019); arguments as for `Mixing`.

    The rectangle has the image's proportions and 1 - share of its area. Its centre is any pixel, so at the border
    part of it falls outside. The share given back is that of the pixels kept.
    """

    needs_images = True

    def mix(
        self, images: Tensor, partners: Tensor, shares: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if images.ndim != 4:
            raise SettingError("mixing", "must not be cutmix for samples that are not images")
        covered = []
        for size in images.shape[2:]:
            half = (size * (1 - shares).sqrt()).long()[:, None] // 2
            centre = torch.randint(size, (len(images), 1), generator=generator)
            place = torch.arange(size)
            covered.append((place >= centre - half) & (place < centre + half))  # (B, size)
        rows, columns = (axis.to(images.device) for axis in covered)
        replaced = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(replaced, partners, images), 1 - replaced.float().mean((1, 2, 3))


class MixedLoader:
    """Mixes a loader's batches: gives (images, targets, targets mixed in, shares) as `Mixing` does.

    Args:
        loader: Gives images and targets.
        mixing: Mixes them.
        make_generator: Makes the generator of one iteration.
    """

    def __init__(self, loader: BatchLoader, mixing: Mixing, make_generator: Callable[[], torch.Generator]) -> None:
        self.loader, self.mixing, self.make_generator = loader, mixing, make_generator

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        generator = self.make_generator()
        for images, targets in self.loader:
            yield self.mixing(images, targets, generator)

    def rows_of(self, number: int) -> IntArray:
        """The rows of one batch."""
        return self.loader.rows_of(number)
