"""Stored features of any network, in place of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from drolt_pl.checked import checked
from drolt_pl.data.augment.transforms import Augment
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.settings import DataSettings
from drolt_pl.data.sources import Catalogue, Source, Transform
from drolt_pl.data.stored import StoredFeatures, read_features
from drolt_pl.errors import SettingError
from drolt_pl.ranges import AnyPath


class FeatureSource(Source):
    """Gives stored features (D,); the network sees them as float32.

    Args:
        stored: The file's content.
    """

    def __init__(self, stored: StoredFeatures) -> None:
        self.features = stored.features
        self.shape, self.dtype = tuple(stored.features.shape[1:]), stored.features.dtype
        self.views = 1 if stored.views is None else len(stored.views)
        self._stored_views = None if stored.views is None else stored.views.flatten(0, 1)  # (V M, D)
        self._place = np.cumsum(stored.official == "train") - 1  # of a training sample among the training samples
        self._trained = int((stored.official == "train").sum())

    def fetch(self, indices: IntArray, keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        number = len(self.features)
        if self._stored_views is None or not len(indices) or indices.max() < number:
            return self.features.index_select(0, torch.from_numpy(indices))
        return self._stored_views.index_select(0, torch.from_numpy(indices - number))

    def in_view(self, indices: IntArray, view: int) -> IntArray:
        if self._stored_views is None:
            return indices
        return len(self.features) + view * self._trained + self._place[indices]

    def transform(
        self, mean: Sequence[float] | None, std: Sequence[float] | None, augment: Augment | None
    ) -> Transform:
        super().transform(mean, std, augment)  # refuses what images alone have
        return as_float


def as_float(features: Tensor, generator: torch.Generator) -> Tensor:
    """Features in float32."""
    return features.float()


@checked
class FeaturesLT(LongTailDataModule):
    """Features and labels of one file, with or without a split; `read_features` says which arrays it holds.

    Where the file holds V views of its training samples, epoch e trains on view e mod V; a stage of k views takes the
    next k of them. Evaluation and centroids see `features`.

    Args:
        file: .npz or .safetensors, for instance written by `drolt embed`.
        settings: Those of `LongTailDataModule`; augmentations are for images.
    """

    def __init__(self, *, file: AnyPath | None, **settings: Unpack[DataSettings]) -> None:
        super().__init__(**settings)
        if file is None:
            demand = "must be given: features and labels, as in dataset.file=features.safetensors"
            raise SettingError("file", demand, remedy="drolt embed writes one of any data set")
        self.file = Path(file).expanduser()

    def catalogue(self) -> Catalogue:
        stored = read_features(self.file)
        return Catalogue(
            names=stored.names,
            targets=stored.targets,
            official=stored.official,
            class_names=list(stored.class_names),
            source=FeatureSource(stored),
        )
