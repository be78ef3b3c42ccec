"""A data module over arrays whose pixels tell their index, image files, and probes of random state."""

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.sources import ArraySource
from drolt_pl.data.sets.folder import ImageFolderLT
from drolt_pl.data.sources import Catalogue


class NumberedImages(LongTailDataModule):
    """Grey 4x4 images, `class_sizes[c]` of class c; loaders yield the image's index as its pixels, un-normalised."""

    def __init__(self, *, class_sizes: Iterable[int] = (60, 50, 40), **kwargs: Any) -> None:
        super().__init__(**{"mean": [0.0, 0.0], "std": [1 / 255, 1 / 255], "test_per_class": 5, **kwargs})
        self.targets = np.repeat(np.arange(len(list(class_sizes))), list(class_sizes))

    def catalogue(self) -> Catalogue:
        numbers = np.arange(len(self.targets))
        digits = np.stack([numbers % 256, numbers // 256], axis=-1).astype(np.uint8)
        return Catalogue(
            names=np.array([f"number/{number}" for number in numbers], dtype=np.bytes_),
            targets=self.targets.astype(np.int64),
            official=np.full(len(numbers), "train"),
            class_names=[f"class {index}" for index in range(self.targets.max() + 1)],
            source=ArraySource(np.broadcast_to(digits[:, None, None, :], (len(numbers), 4, 4, 2)).copy()),
        )


def numbers_of(images: Tensor) -> list[int]:
    """Indices of the images of a `NumberedImages` batch."""
    digits = images[:, :, 0, 0].round().long()
    return (digits[:, 0] + 256 * digits[:, 1]).tolist()


def at_epoch(module: LongTailDataModule, epoch: int, rank: int = 0, world_size: int = 1) -> LongTailDataModule:
    """The module attached to a stand-in for a trainer that is about to run an epoch."""
    module.setup()
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank,
        world_size=world_size,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        fit_loop=SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=epoch))),
    )
    return module


def skipped_on_rank(rank: int, world: int, root: Path) -> list[str]:
    """The skipped files that a rank of a process group learns of, its own half of the images read."""
    settings = {"imbalance_ratio": None, "protocol": "published", "loader": "workers"}
    module = ImageFolderLT(root=root, image_size=4, on_corrupt="skip", **settings)
    for _ in at_epoch(module, 0, rank, world).centroid_dataloader():
        pass
    assert len(module.store.unreadable) == 1
    return module.skipped_files()


def pixel_hash(loader: Iterable[tuple[Tensor, Tensor]]) -> str:
    digest = hashlib.sha256()
    for images, targets in loader:
        digest.update(images.numpy().tobytes())
        digest.update(targets.numpy().tobytes())
    return digest.hexdigest()


def random_state() -> tuple[str, ...]:
    """The global state of torch, NumPy and Python, to compare."""
    return (
        hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        str(np.random.get_state()),
        str(random.getstate()),
    )


def write_images(folder: Path, count: int, *, size: int = 8, seed: int = 0, suffix: str = ".png") -> None:
    """Images of noise, whose first pixel (PNG) is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(256, size=(size, size, 3), dtype=np.uint8)
        pixels[0, 0] = number
        Image.fromarray(pixels).save(folder / f"{number:03d}{suffix}")
