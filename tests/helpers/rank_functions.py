"""What the tests run on gloo ranks: spawned processes import these by name."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from drolt_pl.centroids import dataset_features, dataset_statistics
from drolt_pl.learning.same_ranks import RanksDifferError, SameOnAllRanks
from drolt_pl.metrics import ShotAccuracy


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


def compared_on_rank(rank: int, world: int, cases: list[Any]) -> list[str | None]:
    """What `SameOnAllRanks` says on a rank, for cases of (configuration, split) by rank."""
    connector = SimpleNamespace(use_distributed_sampler=False)
    trainer: Any = SimpleNamespace(world_size=world, _accelerator_connector=connector)
    said: list[str | None] = []
    for case in cases:
        try:
            SameOnAllRanks(*case[rank]).setup(trainer, None, "fit")  # type: ignore[arg-type]
        except RanksDifferError as error:
            said.append(str(error))
        else:
            said.append(None)
    return said


def shard_features(rank: int, world: int, features: Tensor, targets: Tensor) -> Any:
    """All features as each rank has them, from shards of unequal length."""
    batches = zip(features[rank::world].split(3), targets[rank::world].split(3), strict=True)
    return dataset_features(lambda images: images, batches, device=torch.device("cpu"))


def shard_accuracy(rank: int, world: int, counts: list[int], preds: Tensor, targets: Tensor) -> Any:
    """Shot accuracy of predictions sharded rank::world."""
    metric = ShotAccuracy(counts)
    metric.update(preds[rank::world], targets[rank::world])
    return metric.compute()
