"""Mixing images in pairs: Mixup and CutMix, each sample with its own partner, and a share of its own or the batch's."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from drolt_pl.data.images.loaders import BatchLoader

SHARES = ("sample", "batch")


class Mixing(ABC):
    """Mixes each image of a batch with another.

    Args:
        alpha: Shares come from Beta(alpha, alpha), > 0.
        share_per: ``sample``, a share drawn for each image; or ``batch``, one for all images of a batch, as in the code
            of Mixup's authors and of MiSLAS.
    """

    def __init__(self, *, alpha: float = 1.0, share_per: str = "sample") -> None:
        if alpha <= 0:
            raise ValueError(f"alpha must be > 0, got {alpha!r}")
        if share_per not in SHARES:
            raise ValueError(f"share_per must be one of {SHARES}, got {share_per!r}")
        self.alpha, self.share_per = alpha, share_per

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mixed images and what is in them.

        Args:
            images: Float, (B, C, H, W), normalised or not.
            targets: int64, (B,).
            generator: On the CPU.

        Returns:
            Images like those given, their own targets, the targets of those mixed in, and the share that each kept of
            itself, (B,) float32: a loss of the batch is ``share * loss(own) + (1 - share) * loss(other)``.
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
        """Mixed images, (B, C, H, W), and the share that each kept of itself, (B,), near the one drawn."""


class Mixup(Mixing):
    """The weighted mean of two images (Zhang et al. 2018); arguments as for `Mixing`."""

    def mix(
        self, images: Tensor, partners: Tensor, shares: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        own = shares.to(images.device)
        weights = own.to(images.dtype)[:, None, None, None]
        return weights * images + (1 - weights) * partners, own


class CutMix(Mixing):
    """A rectangle of one image within the other (Yun et al. 2019); arguments as for `Mixing`.

    It has the image's proportions and 1 - share of its area; its centre is any pixel, so at the border part of it
    falls outside. The share that counts is that of the pixels kept.
    """

    def mix(
        self, images: Tensor, partners: Tensor, shares: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
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
    """A loader whose batches are mixed: (images, targets, targets mixed in, shares) as `Mixing` gives them.

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
