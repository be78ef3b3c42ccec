"""The 8x8 digits that come with scikit-learn, cut to a long tail: small enough to train in a minute."""

from typing import Unpack

import numpy as np

from drolt_pl.checked import checked
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.sources import ArraySource
from drolt_pl.data.settings import DataSettings
from drolt_pl.data.sources import Catalogue

# With 50 test and 20 validation images a digit, the smallest one has 104 left.
DEFAULTS: DataSettings = {"n_max": 104, "imbalance_ratio": 50.0, "test_per_class": 50}


@checked
class DigitsLT(LongTailDataModule):
    """1,797 grey images of 10 digits, 174 to 183 a digit; no download.

    The set has no test part: `split_seed` chooses `test_per_class` images. With `DEFAULTS` and 20 validation images
    the smallest digit is used up exactly. Without validation (`published`, `test_selected`) n_max stays the same, and
    the images that would have validated join those that the profile cuts from.

    Args:
        settings: Those of `LongTailDataModule`; `DEFAULTS` where they are left out.
    """

    def __init__(self, **settings: Unpack[DataSettings]) -> None:
        super().__init__(**(DEFAULTS | settings))

    def catalogue(self) -> Catalogue:
        from sklearn.datasets import load_digits  # takes a second to import, and only this data set needs it

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # values are 0..16
        num_images = len(images)
        return Catalogue(
            names=np.array([f"digits/{index}" for index in range(num_images)], dtype=np.bytes_),
            targets=digits.target.astype(np.int64),
            official=np.full(num_images, "train"),
            class_names=[str(digit) for digit in range(10)],
            source=ArraySource(images),
        )
