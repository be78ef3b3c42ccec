"""Callbacks that take part in training: class centroids at every epoch's start, seeds, and equal ranks."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from drolt_pl.centroids import blockwise_statistics, broadcast_buffers, evaluating


class RefreshCentroids(pl.Callback):
    """Recomputes the class centroids over the whole training set, for every epoch that needs them.

    The set runs un-augmented and un-resampled through the model in eval mode, without gradient, each rank taking its
    share; sums are reduced in float64. Random states and train/eval flags are left as they were found. The weights at
    an epoch's start are those of the validation before it, so one pass serves both.

    It works with any LightningModule that has `embed(images) -> (B, D)` and buffers `centroids` (C, D) and
    `centroid_counts` (C,); optional are buffers `total_variance` (C,) and `effective_dim` (0-d),
    `set_statistics(ClassStatistics)` in place of the writes to buffers, `needs_centroids(epoch) -> bool` (default:
    every epoch), and `prepare_epoch(epoch)`, called before the pass, since a callback's hooks run before the module's.
    Where `embed` gives several kinds of features side by side, `feature_widths` lists their widths, the first that of
    `centroids`, and `set_statistics` takes the statistics of each.

    Args:
        dataloader: Batches (images, targets) of this rank's share of the training set; by default
            `trainer.datamodule.centroid_dataloader()`.
        always: Also runs the pass in epochs that do not need it.

    Attributes:
        seconds: Time spent in passes, all in all; logged as `time/centroid_s`.

    Source: Samuel & Chechik 2021, Sec. 6, "Estimating centroids".
    """

    def __init__(self, dataloader: Iterable[Any] | None = None, *, always: bool = False) -> None:
        self.dataloader, self.always = dataloader, always
        self.seconds = 0.0
        self._fresh = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        entered = getattr(pl_module, "_entered", None)
        if hasattr(pl_module, "prepare_epoch"):
            pl_module.prepare_epoch(trainer.current_epoch)
            # Entering a stage may load other weights.
            self._fresh &= getattr(pl_module, "_entered", None) == entered
        if self._needed(trainer, pl_module) and not self._fresh:
            self.refresh(trainer, pl_module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._fresh = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit" and self._needed(trainer, pl_module):
            self.refresh(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The weights tested may be of any epoch: their centroids are computed, not remembered.
        self.refresh(trainer, pl_module)

    def _needed(self, trainer: pl.Trainer, pl_module: Any) -> bool:
        return (
            self.always or not hasattr(pl_module, "needs_centroids") or pl_module.needs_centroids(trainer.current_epoch)
        )

    def refresh(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Runs the pass and writes the statistics to the module; every rank must call it."""
        started = time.perf_counter()
        broadcast_buffers(pl_module)
        num_classes, num_features = pl_module.centroids.shape
        widths = getattr(pl_module, "feature_widths", [num_features])

        def embed(images: Tensor) -> Tensor:
            with trainer.precision_plugin.forward_context():
                features: Tensor = pl_module.embed(images)
            return features

        with isolate_rng(), evaluating(pl_module):
            loader = self.dataloader if self.dataloader is not None else trainer.datamodule.centroid_dataloader()  # type: ignore[attr-defined]
            statistics, *others = blockwise_statistics(
                embed,
                _tracked(trainer, loader),
                num_classes=num_classes,
                widths=widths,
                device=pl_module.device,
            )
            if hasattr(pl_module, "set_statistics"):
                pl_module.set_statistics(statistics, *others)
            else:
                pl_module.centroids.copy_(statistics.centroids)
                pl_module.centroid_counts.copy_(statistics.counts)
                for name in ("total_variance", "effective_dim"):
                    if hasattr(pl_module, name):
                        getattr(pl_module, name).copy_(getattr(statistics, name))
        self._fresh = True
        self.seconds += time.perf_counter() - started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("time/centroid_s", self.seconds)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]


def _tracked(trainer: pl.Trainer, loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's batches, as a line of the progress bar where it offers one."""
    track = getattr(trainer.progress_bar_callback, "track", None)
    yield from loader if track is None else track(loader, "centroids")


class RanksDifferError(RuntimeError):
    """The processes of a run were started with different configurations, or found different data."""


class SameOnAllRanks(pl.Callback):
    """Compares hashes of the configuration and of the split over the ranks before anything is trained.

    Args:
        configuration: The resolved configuration, plain containers; its `logger` is rank 0's business.
        split_sha256: Hash of the split.

    Raises:
        ValueError: the trainer would replace samplers by its own.
        RanksDifferError: on every rank, in one sentence that names the first key or the split.
    """

    def __init__(self, configuration: Mapping[str, Any], split_sha256: str) -> None:
        compared = {key: value for key, value in configuration.items() if key != "logger"}
        self.values = {key: json.dumps(value) for key, value in _flat(compared, "")}
        self.split_sha256 = split_sha256

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or trainer.world_size == 1:
            return
        # Lightning leaves our loaders alone even so; a torch DataLoader it would slice a second time.
        if trainer._accelerator_connector.use_distributed_sampler:
            raise ValueError("use_distributed_sampler must be False: the samplers slice for the ranks themselves")
        text = json.dumps(self.values, sort_keys=True)
        mine = (hashlib.sha256(text.encode()).hexdigest(), self.split_sha256)
        configurations, splits = zip(*_from_all_ranks(mine), strict=True)
        if len(set(configurations)) > 1:
            found = _from_all_ranks(self.values)
            other = next(rank for rank, theirs in enumerate(configurations) if theirs != configurations[0])
            keys = sorted({*found[0], *found[other]})
            key = next(key for key in keys if found[0].get(key) != found[other].get(key))
            raise RanksDifferError(
                f"{key} is {found[0].get(key)} on rank 0 and {found[other].get(key)} on rank {other}: start all "
                "processes of a run with the same command"
            )
        if len(set(splits)) > 1:
            other = next(rank for rank, theirs in enumerate(splits) if theirs != splits[0])
            raise RanksDifferError(
                f"dataset: rank {other} found other images than rank 0 (split {splits[other][:8]} and "
                f"{splits[0][:8]}): give every machine the same data"
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


class SeedEpoch(pl.Callback):
    """Seeds torch's global generators from (seed, epoch, rank), since checkpoints hold no random state.

    What draws from them (dropout, stochastic depth) then does the same in a resumed run. The data has generators of
    its own.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        sequence = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))
