"""CIFAR-10 and CIFAR-100, cut to a long tail."""

import warnings
from pathlib import Path
from typing import ClassVar, Unpack

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from drolt_pl.checked import checked
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.sources import ArraySource
from drolt_pl.data.settings import DataSettings
from drolt_pl.data.sources import Catalogue
from drolt_pl.errors import SettingError
from drolt_pl.ranges import AnyPath

DEFAULTS: DataSettings = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


@checked
class CIFAR10LT(LongTailDataModule):
    """CIFAR-10 with the class counts of LDAM-DRW's CIFAR-10-LT; the 10,000 official test images test.

    Args:
        root: Folder that holds the unpacked archive (`cifar-10-batches-py`).
        download: Whether to fetch the archive where it is missing; without it the network is never used.
        settings: Those of `LongTailDataModule`; `DEFAULTS` where they are left out.
    """

    archive: ClassVar[type[CIFAR10]] = CIFAR10

    def __init__(self, *, root: AnyPath = "data", download: bool = False, **settings: Unpack[DataSettings]) -> None:
        super().__init__(**(DEFAULTS | settings))
        self.root, self.download = Path(root).expanduser(), download
        if not download and not (self.root / self.archive.base_folder).is_dir():
            remedy = f"unpack {self.archive.filename} there, or set dataset.download=true"
            raise SettingError("root", f"must hold the folder {self.archive.base_folder!r}", str(root), remedy=remedy)

    def prepare_data(self) -> None:
        """Fetch the archive if it is to be fetched; called in one process only."""
        if not self.download:
            return
        try:
            self.archive(self.root, download=True)
        except (OSError, RuntimeError) as error:
            demand = f"must be false where {self.archive.filename} cannot be fetched ({error})"
            raise SettingError("download", demand, remedy=f"unpack it in {str(self.root)!r} by hand") from None

    def catalogue(self) -> Catalogue:
        train, test = self._part(train=True), self._part(train=False)
        sizes = {"train": len(train.data), "test": len(test.data)}
        return Catalogue(
            names=np.array([f"{part}/{i}" for part, size in sizes.items() for i in range(size)], dtype=np.bytes_),
            targets=np.array([*train.targets, *test.targets], np.int64),
            official=np.repeat(list(sizes), list(sizes.values())),
            class_names=list(train.classes),
            source=ArraySource(np.concatenate([train.data, test.data])),
        )

    def _part(self, *, train: bool) -> CIFAR10:
        with warnings.catch_warnings():
            # The archives were pickled by a NumPy whose dtype description NumPy 2.4 finds old-fashioned.
            warnings.filterwarnings("ignore", message=".*align should be passed")
            try:
                return self.archive(self.root, train=train)
            except RuntimeError:
                folder = str(self.root / self.archive.base_folder)
                remedy = f"unpack {self.archive.filename} again, or set dataset.download=true"
                demand = f"must hold the whole archive: {folder!r} is incomplete or damaged"
                raise SettingError("root", demand, remedy=remedy) from None


class CIFAR100LT(CIFAR10LT):
    """CIFAR-100 with the class counts of LDAM-DRW's CIFAR-100-LT; arguments as for `CIFAR10LT`."""

    archive: ClassVar[type[CIFAR10]] = CIFAR100
