"""Stored features of any network, in place of images."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
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

PIECE = 65_536  # samples that are looked at together


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
        self._stored = stored

    def fetch(self, indices: IntArray, keys: Sequence[tuple[int, ...]] | None = None, threads: int = 1) -> Tensor:
        number = len(self.features)
        if self._stored_views is None or not len(indices) or indices.max() < number:
            return self.features.index_select(0, torch.from_numpy(indices))
        return self._stored_views.index_select(0, torch.from_numpy(indices - number))

    def require_finite(self) -> None:
        """Refuses features that are nan or infinite: in the test set they would silently count as wrong.

        Raises:
            SettingError: there is one; it names the first sample.
        """
        names = self._stored.names
        self._require_finite(self.features, names, "")
        if self._stored_views is not None:
            trained = names[self._stored.official == "train"]
            self._require_finite(self._stored_views, np.tile(trained, self.views or 1), "a view of ")

    @staticmethod
    def _require_finite(features: Tensor, names: NDArray[np.bytes_], what: str) -> None:
        for start in range(0, len(features), PIECE):
            wrong = ~features[start : start + PIECE].isfinite().all(1)
            if bool(wrong.any()):
                name = os.fsdecode(names[start + int(wrong.nonzero()[0])])
                raise SettingError(
                    "file",
                    f"must hold finite features: {what}sample {name!r} has nan or infinity",
                    remedy="leave such samples out; drolt data check FILE lists them",
                )

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
        self._is_finite = False

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if not self._is_finite:
            source = self.store.source
            assert isinstance(source, FeatureSource)
            source.require_finite()
            self._is_finite = True

    def catalogue(self) -> Catalogue:
        stored = read_features(self.file)
        return Catalogue(
            names=stored.names,
            targets=stored.targets,
            official=stored.official,
            class_names=list(stored.class_names),
            source=FeatureSource(stored),
        )
