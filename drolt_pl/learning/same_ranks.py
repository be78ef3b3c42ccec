"""All processes of a run must have the same configuration and the same data set."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from drolt_pl.errors import SettingError
from drolt_pl.lightning_internals import replaces_samplers


class RanksDifferError(SettingError):
    """The processes of a run were started with different configurations, or found different data."""


class SameOnAllRanks(pl.Callback):
    """Compares hashes of the configuration and of the split over the ranks before anything is trained.

    Args:
        configuration: The resolved configuration as plain containers; its `logger` may differ, since rank 0 alone logs.
        split_sha256: Hash of the split.

    Raises:
        SettingError: the trainer would replace samplers by its own.
        RanksDifferError: the ranks differ; every rank raises it, and it names the first key or the split.
    """

    def __init__(self, configuration: Mapping[str, Any], split_sha256: str) -> None:
        compared = {key: value for key, value in configuration.items() if key != "logger"}
        self.values = {key: json.dumps(value) for key, value in _flat(compared, "")}
        self.split_sha256 = split_sha256

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or trainer.world_size == 1:
            return
        # Lightning would slice a torch DataLoader a second time; our own loaders it leaves alone.
        if replaces_samplers(trainer):
            raise SettingError("use_distributed_sampler", "must be False: the samplers slice for the ranks themselves")
        text = json.dumps(self.values, sort_keys=True)
        mine = (hashlib.sha256(text.encode()).hexdigest(), self.split_sha256)
        configurations, splits = zip(*_from_all_ranks(mine), strict=True)
        if len(set(configurations)) > 1:
            found = _from_all_ranks(self.values)
            other = next(rank for rank, theirs in enumerate(configurations) if theirs != configurations[0])
            keys = sorted({*found[0], *found[other]})
            key = next(key for key in keys if found[0].get(key) != found[other].get(key))
            raise RanksDifferError(
                key,
                f"is {found[0].get(key)} on rank 0 and {found[other].get(key)} on rank {other}: start all processes of "
                "a run with the same command",
            )
        if len(set(splits)) > 1:
            other = next(rank for rank, theirs in enumerate(splits) if theirs != splits[0])
            raise RanksDifferError(
                "dataset",
                f"has other images on rank {other} than on rank 0 (split {splits[other][:8]} and {splits[0][:8]}): "
                "give every machine the same data",
            )


def _from_all_ranks(value: Any) -> list[Any]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings by dotted path."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, part in value.items():
        yield from _flat(part, f"{path}.{key}" if path else str(key))
