"""The data module all data sets share: split, samplers by stage, loaders."""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.progress import _ProcessedTracker

from drolt_pl.data.augment.mixing import MixedLoader, Mixing
from drolt_pl.data.augment.transforms import Augment, BatchTransform, check_augment, for_views
from drolt_pl.data.images.loaders import BatchLoader, CropSeeds
from drolt_pl.data.images.sources import Catalogue
from drolt_pl.data.images.store import LOADERS, SKIPS, ImageStore
from drolt_pl.data.longtail import SplitRules, require_int
from drolt_pl.data.plan import StageSampling, in_views, instance_plan, stage_progress
from drolt_pl.data.samplers import stage_sampler
from drolt_pl.data.seeding import torch_generator
from drolt_pl.data.split import Split, make_split


class LongTailDataModule(pl.LightningDataModule):
    """Long-tailed classification data under one protocol.

    A subclass says where the images are (`catalogue`); which of them train, validate and test is decided here.
    Loaders yield normalised float32 images (B, C, H, W) and int64 targets (B,). What they yield is a pure function
    of the constructor's arguments, the epoch and the rank, and no global random state is read or moved. The trainer
    has to reload the training loader every epoch (`reload_dataloaders_every_n_epochs=1`).

    Args:
        mean, std: Per channel, of pixel values in [0, 1].
        protocol, imbalance_ratio, profile, n_max, class_order, subset, val_per_class, test_per_class, split_seed:
            See `SplitRules`.
        batch_size: Training images drawn a step over *all* processes.
        eval_batch_size: Images a step of each process in evaluation and in the centroid pass; None for 128 on a CPU,
            where the maps of more leave its cache, and 512 elsewhere.
        loader: `memory` holds the decoded images on the training device, `workers` decodes them for every epoch,
            `auto` is `memory` up to 2 GB of decoded images.
        num_workers: Processes of the `workers` loader.
        on_corrupt: `error` stops at an image that cannot be read and names it; `skip` goes on, see `ImageStore`.
        augment: Takes uint8 images (B, C, H, W) and a generator, gives the same shape; None for no augmentation; a list
            has one for each view of a stage, and a stage of one view takes the first.
        crop_padding, flip: Facts of the data set for augmentations to refer to (`${dataset.crop_padding}`): how far
            its images may be shifted, and whether a mirrored one is still of its class. Not used here.
        seed: Decides sampling and augmentation, not the split.
        test_pool: Whether what the profile cut away is offered as a second test set.

    Attributes:
        plan: Epoch -> sampling of that epoch.
        mixings: What a stage's `mixing` may name.
        split: The split; from `setup` on, like the attributes below.
        num_classes, class_counts, class_names: C, images and name of each class id, in label order in any case.
        in_channels, image_size: Of the images.
    """

    split: Split
    num_classes: int
    class_counts: list[int]
    class_names: list[str]
    in_channels: int
    image_size: int

    def __init__(
        self,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        protocol: str = "holdout",
        imbalance_ratio: float | None = 100.0,
        profile: str = "exp",
        n_max: int | None = None,
        class_order: str = "label",
        subset: str = "seeded",
        val_per_class: int = 20,
        test_per_class: int = 20,
        split_seed: int = 0,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        loader: str = "auto",
        num_workers: int = 0,
        on_corrupt: str = "error",
        augment: Augment | Sequence[Augment] | None = None,
        crop_padding: int = 4,
        flip: bool = True,
        seed: int = 0,
        test_pool: bool = True,
        plan: Callable[[int], StageSampling] = instance_plan,
        mixings: Mapping[str, Mixing] | None = None,
    ) -> None:
        super().__init__()
        self.rules = SplitRules(
            protocol=protocol,
            imbalance_ratio=imbalance_ratio,
            profile=profile,
            n_max=n_max,
            class_order=class_order,
            subset=subset,
            val_per_class=val_per_class,
            test_per_class=test_per_class,
            split_seed=split_seed,
        )
        require_int("batch_size", batch_size, at_least=1)
        if eval_batch_size is not None:
            require_int("eval_batch_size", eval_batch_size, at_least=1)
        require_int("num_workers", num_workers, at_least=0)
        require_int("seed", seed, at_least=0)
        check_augment(augment)
        if min(std) <= 0:
            raise ValueError(f"std must be > 0 for every channel, got {list(std)}")
        if loader not in LOADERS:
            raise ValueError(f"loader must be one of {LOADERS}, got {loader!r}")
        if on_corrupt not in SKIPS:
            raise ValueError(f"on_corrupt must be one of {SKIPS}, got {on_corrupt!r}")
        self.mean, self.std = list(mean), list(std)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.loader, self.num_workers, self.on_corrupt = loader, num_workers, on_corrupt
        self.augment, self.crop_padding, self.flip = augment, crop_padding, flip
        self.seed, self.test_pool = seed, test_pool
        self.plan, self.mixings = plan, dict(mixings or {})
        self._catalogue: Catalogue | None = None
        self._store: ImageStore | None = None

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """All images by name and label; reads lists and labels, decodes nothing of the test set."""

    def setup(self, stage: str | None = None) -> None:
        """Split the data set; once, whatever the stage."""
        if self._catalogue is not None:
            return
        found = self.catalogue()
        self.split = make_split(found.targets, found.official, found.names, found.class_names, self.rules)
        self.in_channels, self.image_size, width = found.source.shape
        if self.image_size != width:
            raise ValueError(f"image_size must be given for images that are not square ({width}x{self.image_size})")
        if len(self.mean) != self.in_channels or len(self.std) != self.in_channels:
            raise ValueError(f"mean and std need {self.in_channels} values each, got {self.mean} and {self.std}")
        if self.loader == "memory" and found.source.random_crop:
            raise ValueError("loader must be 'workers' for train_crop='random_resized', got 'memory'")
        self.num_classes, self.class_names = len(found.class_names), list(found.class_names)
        self.class_counts = self.split.class_counts.tolist()
        self._catalogue = found
        self._store = ImageStore(
            found, self.split, loader=self.loader, num_workers=self.num_workers, on_corrupt=self.on_corrupt
        )

    def split_record(self) -> dict[str, Any]:
        """Which images train, validate and test, as plain JSON values."""
        return {
            "dataset": type(self).__name__,
            "protocol": self.rules.protocol,
            "split_seed": self.rules.split_seed,
            "class_order": self.rules.class_order,
            "subset": self.rules.subset,
            "imbalance_ratio": self.rules.imbalance_ratio,
            "profile": self.rules.profile if self.rules.imbalance_ratio is not None else None,
            "class_names": self.class_names,
            **self.split.record(),
        }

    def skipped_files(self) -> list[str]:
        """Images met so far, by any rank, that `on_corrupt=skip` went past, sorted; to be asked by all ranks."""
        return sorted(os.fsdecode(self._found.names[index]) for index in self._images.unreadable_anywhere())

    def train_dataloader(self) -> BatchLoader | MixedLoader:
        """The loader of the epoch that the trainer is about to run."""
        epoch = self._epoch()
        return self.epoch_loader(epoch, self.plan(epoch))

    def epoch_loader(self, epoch: int, stage: StageSampling) -> BatchLoader | MixedLoader:
        """The loader of an epoch with a stage's sampling."""
        rank, world_size = self._rank()
        if self.batch_size % world_size:
            raise ValueError(f"batch_size={self.batch_size} must be divisible by the {world_size} processes")
        share = self.batch_size // world_size
        sampler = stage_sampler(
            stage,
            self._found.targets[self.split.train],
            progress=stage_progress(self.plan, epoch),
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            batch_size=self.batch_size,
        )
        rows, crops = in_views(sampler.indices(), share, stage.views), None
        if self._found.source.random_crop:
            positions = in_views(sampler.positions, share, stage.views, offset=sampler.length)
            crops = CropSeeds(key=(self.seed, epoch), positions=positions)
        loader = BatchLoader(
            self._images.training_batches(rows, share * stage.views, self._device(), crops),
            BatchTransform(self.mean, self.std, for_views(self.augment, stage.views)),
            lambda: torch_generator("augment", self.seed, epoch, rank),
        )
        if stage.mixing is None:
            return loader
        return MixedLoader(loader, self.mixings[stage.mixing], lambda: torch_generator("mix", self.seed, epoch, rank))

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """Validation images as they are, this rank's share; `[]`, Lightning's "none", where the protocol has none."""
        return self._eval_loader("val") or []

    def test_dataloader(self) -> BatchLoader:
        """Test images as they are, this rank's share. They are first read here: call it after fit."""
        loader = self._eval_loader("test")
        if loader is None:
            raise ValueError("test_per_class leaves no class a test image; add images, or a folder of test images")
        return loader

    def pool_dataloader(self) -> BatchLoader | None:
        """What the profile cut away, this rank's share; None if that is nothing."""
        return self._eval_loader("pool") if self.test_pool else None

    def centroid_dataloader(self) -> BatchLoader:
        """The whole training set as it is and in order: this rank's share, no image twice over all ranks."""
        return cast(BatchLoader, self._eval_loader("train"))  # make_split leaves no class empty

    def _eval_loader(self, part: str) -> BatchLoader | None:
        num_images = len(getattr(self.split, part))
        if not num_images:
            return None
        rank, world_size = self._rank()
        rows, device = np.arange(rank, num_images, world_size), self._device()
        batch_size = self.eval_batch_size or (128 if device.type == "cpu" else 512)
        batches = self._images.evaluation_batches(part, rows, batch_size, device)
        return BatchLoader(batches, BatchTransform(self.mean, self.std), torch.Generator)

    @property
    def _found(self) -> Catalogue:
        if self._catalogue is None:
            raise RuntimeError("call setup() before asking for a loader")
        return self._catalogue

    @property
    def _images(self) -> ImageStore:
        if self._store is None:
            raise RuntimeError("call setup() before asking for a loader")
        return self._store

    def _epoch(self) -> int:
        # Not trainer.current_epoch: when a resumed run asks for its first loader, that one is still off by one
        # (Lightning 2.6, issue 21938), and the first epoch would be drawn with the sampling of another stage.
        if self.trainer is None:
            return 0
        return cast(_ProcessedTracker, self.trainer.fit_loop.epoch_progress.current).processed

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
