"""What the tests run on gloo ranks: spawned processes import these by name."""

from typing import Any

import torch
from torch import Tensor

from drolt_pl.centroids import dataset_features, dataset_statistics


def shard_statistics(rank: int, world: int, features: Tensor, targets: Tensor, num_classes: int) -> Any:
    """Statistics of features sharded rank::world, in batches of 7, with the identity as embedding."""
    mine, labels = features[rank::world], targets[rank::world]
    batches = zip(mine.split(7), labels.split(7), strict=True)
    return tuple(
        dataset_statistics(
            lambda images: images,
            batches,
            num_classes=num_classes,
            num_features=features.shape[1],
            device=torch.device("cpu"),
        )
    )


def shard_features(rank: int, world: int, features: Tensor, targets: Tensor) -> Any:
    """All features as each rank has them, from shards of unequal length."""
    batches = zip(features[rank::world].split(3), targets[rank::world].split(3), strict=True)
    return dataset_features(lambda images: images, batches, device=torch.device("cpu"))
