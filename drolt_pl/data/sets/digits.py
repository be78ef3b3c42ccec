"""The 8x8 digits that come with scikit-learn, cut to a long tail: small enough to train in a minute."""

from typing import Any

import numpy as np

from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.sources import ArraySource, Catalogue


class DigitsLT(LongTailDataModule):
    """1,797 grey images of 10 digits, 174 to 183 a digit; no download.

    The set has no test part: `test_per_class` images are taken by `split_seed`. With n_max 104, 50 test and 20
    validation images the smallest digit is used up exactly. Without validation (`published`, `test_selected`) n_max
    stays the same, and the images that would have validated are part of what the profile cuts from.

    Args:
        n_max, imbalance_ratio, test_per_class: See `SplitRules`.
        kwargs: Those of `LongTailDataModule`.
    """

    def __init__(
        self, *, n_max: int = 104, imbalance_ratio: float | None = 50.0, test_per_class: int = 50, **kwargs: Any
    ) -> None:
        super().__init__(n_max=n_max, imbalance_ratio=imbalance_ratio, test_per_class=test_per_class, **kwargs)

    def catalogue(self) -> Catalogue:
        from sklearn.datasets import load_digits  # takes a second to import, for this data set only

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
