"""The data module that all data sets share: split, samplers by stage, loaders."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Unpack

import numpy as np
import pytorch_lightning as pl
import torch

from drolt_pl.checked import checked
from drolt_pl.data.augment.mixing import MixedLoader, Mixing
from drolt_pl.data.augment.transforms import Augments, check_augment, for_views, try_augments
from drolt_pl.data.images.loaders import BatchLoader, SampleKeys
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.images.store import SampleStore
from drolt_pl.data.images.streams import Streams
from drolt_pl.data.longtail import RuleSettings, SplitRules
from drolt_pl.data.plan import Plan, StageSampling, in_views, instance_plan, stage_progress
from drolt_pl.data.samplers import samplers_named, stage_sampler
from drolt_pl.data.seeding import torch_generator
from drolt_pl.data.settings import Loader, OnUnreadable
from drolt_pl.data.sources import Catalogue
from drolt_pl.data.split import NO_TEST, DataRecord, Split, make_split
from drolt_pl.errors import SettingError, require_choice
from drolt_pl.lightning_internals import epochs_begun
from drolt_pl.ranges import Count, Deviations, Means, Padding, Seed, Workers


@checked
class LongTailDataModule(pl.LightningDataModule):
    """Long-tailed classification data under one protocol.

    A subclass says which samples there are (`catalogue`); this class decides which of them train, validate and test.
    Loaders yield samples as the network sees them, images as normalised float32 (B, C, H, W), and int64 targets (B,),
    a pure function of the constructor's arguments, the epoch and the rank; no global random state is read or moved.
    The trainer has to reload the training loader every epoch (`reload_dataloaders_every_n_epochs=1`).

    Args:
        mean, std: Per channel, of pixel values in [0, 1]. Images need them; samples that are no images take None.
        batch_size: Training samples drawn a step over *all* processes, by each stream.
        eval_batch_size: Samples a step of each process in evaluation; None: 512, and 128 on a CPU, for its cache.
        loader: `memory` holds the samples on the training device, `workers` reads them for every epoch, `auto` is
            `memory` up to 2 GB of samples.
        num_workers: Processes of the `workers` loader.
        on_corrupt: `error` stops at a file that cannot be read and names it; `skip` goes on, see `SampleStore`.
        allow_duplicates: Whether an image of one part of the split may equal one of another; see `data.overlap`.
        augment: Takes uint8 images (B, C, H, W) and a generator, gives the same shape; None for no augmentation. A
            list has one for each view of a stage, and a stage of one view takes the first.
        crop_padding, flip: Augmentations refer to them, as `${dataset.crop_padding}`.
        seed: Decides sampling and augmentation, not the split.
        test_pool: Whether what the profile cut away is a second test set.
        plan, mixings: Gives the sampling of an epoch, and the mixings that it may name.
        rules: See `SplitRules`.

    Attributes:
        split: The split; it is there after `setup`, as is what follows.
        num_classes, class_counts, class_names: C, and training samples and name of each class id, in label order.
        sample_shape: Of one sample as the network sees it: (C, H, W) of images.
        duplicates: How many images of one part equal one of another, as a sentence; None for none.
        notes: What a user should know of how the samples were found, a sentence each.
    """

    split: Split
    num_classes: int
    class_counts: list[int]
    class_names: list[str]
    sample_shape: tuple[int, ...]
    duplicates: str | None = None
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        mean: Means | None = None,
        std: Deviations | None = None,
        batch_size: Count = 128,
        eval_batch_size: Count | None = None,
        loader: Loader = "auto",
        num_workers: Workers = 0,
        on_corrupt: OnUnreadable = "error",
        allow_duplicates: bool = False,
        augment: Augments = None,
        crop_padding: Padding = 4,
        flip: bool = True,
        seed: Seed = 0,
        test_pool: bool = True,
        plan: Plan = instance_plan,
        mixings: Mapping[str, Mixing] | None = None,
        **rules: Unpack[RuleSettings],
    ) -> None:
        super().__init__()
        self.rules = SplitRules(**rules)
        check_augment(augment)
        self.mean, self.std = (None if values is None else list(values) for values in (mean, std))
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.loader, self.num_workers, self.on_corrupt = loader, num_workers, on_corrupt
        self.augment, self.crop_padding, self.flip = augment, crop_padding, flip
        self.seed, self.test_pool, self.allow_duplicates = seed, test_pool, allow_duplicates
        self.plan, self.mixings = plan, dict(mixings or {})
        self._store: SampleStore | None = None

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """All samples by name and label; reads lists and labels, and no image of the test set."""

    def preprocessing(self) -> Preprocessing | None:
        """What one more image goes through before the network sees it; null for samples that are not images."""
        return self.store.catalogue.source.preprocessing(self.mean, self.std)

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self._image_shape()[0]

    @property
    def image_size(self) -> int:
        """Pixels per side of the images, which are square."""
        return self._image_shape()[1]

    def setup(self, stage: str | None = None) -> None:
        """Split the data set; once, whatever the stage."""
        if self._store is not None:
            return
        found = self.catalogue()
        self.split = make_split(found.targets, found.official, found.names, found.class_names, self.rules)
        found.source.transform(self.mean, self.std, for_views(self.augment, 1))  # refuses what does not fit the samples
        try_augments(self.augment, found.source.shape, found.source.dtype)
        self.sample_shape, self.class_names, self.notes = found.source.shape, list(found.class_names), found.notes
        self.num_classes, self.class_counts = len(found.class_names), self.split.class_counts.tolist()
        store = SampleStore(found, self.split, self.loader, num_workers=self.num_workers, on_corrupt=self.on_corrupt)
        store.require_disjoint(pool=self.test_pool, allow_duplicates=self.allow_duplicates)
        self.duplicates, self._store = store.duplicates, store

    def require_views(self, views: int) -> None:
        """Refuses more views of a sample than there are."""
        for_views(self.augment, views)
        self.store.require_views(views)

    def split_record(self) -> DataRecord:
        """Which samples train, validate and test, as plain JSON values."""
        return {
            "dataset": type(self).__name__,
            "protocol": self.rules.protocol,
            "split_seed": self.rules.split_seed,
            "class_order": self.rules.class_order,
            "subset": self.rules.subset,
            "imbalance_ratio": self.rules.imbalance_ratio,
            "profile": self.rules.profile if self.rules.imbalance_ratio is not None else None,
            "class_names": self.class_names,
            "sha256_content": self.store.sha256,
            **self.split.record(),
        }

    def skipped_files(self) -> list[str]:
        """Files that `on_corrupt=skip` has gone past so far on any rank, sorted; every rank must call it."""
        return sorted(self.store.names(list(self.store.unreadable_anywhere())))

    def names_of_step(self, epoch: int, step: int, /) -> list[str]:
        """Names of this rank's training samples in a step of an epoch; of several streams, those of the first."""
        return self.store.names(self.split.train[self.epoch_loader(epoch, self.plan(epoch)).rows_of(step)])

    def train_dataloader(self) -> BatchLoader | MixedLoader | Streams:
        """The loader of the epoch that the trainer is about to run."""
        epoch = epochs_begun(self.trainer) if self.trainer is not None else 0
        return self.epoch_loader(epoch, self.plan(epoch))

    def epoch_loader(self, epoch: int, stage: StageSampling) -> BatchLoader | MixedLoader | Streams:
        """The loader of an epoch with a stage's sampling; see `Streams` where it names several samplers."""
        streams = [self._stream(number, epoch, stage) for number, _ in enumerate(samplers_named(stage.sampling))]
        return streams[0] if len(streams) == 1 else Streams(streams)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The validation samples of this rank, un-augmented; `[]`, Lightning's "none", where the protocol has none."""
        return self._eval_loader("val") or []

    def test_dataloader(self) -> BatchLoader:
        """The test samples of this rank, un-augmented. The first call reads them, so call it after fit."""
        loader = self._eval_loader("test")
        if loader is None:
            raise SettingError(*NO_TEST)
        return loader

    def pool_dataloader(self) -> BatchLoader | None:
        """The samples of this rank that the profile cut away; None where nothing was cut."""
        return self._eval_loader("pool") if self.test_pool else None

    def centroid_dataloader(self) -> BatchLoader:
        """The training samples of this rank, un-augmented and in order; over all ranks no sample comes twice."""
        loader = self._eval_loader("train")
        assert loader is not None  # make_split leaves no class empty
        return loader

    def _stream(self, number: int, epoch: int, stage: StageSampling) -> BatchLoader | MixedLoader:
        """The loader of one of the epoch's streams."""
        rank, world_size = self._rank()
        sampler = stage_sampler(
            stage,
            self.store.catalogue.targets[self.split.train],
            stream=number,
            progress=stage_progress(self.plan, epoch),
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            batch_size=self.batch_size,
        )
        share, source = self.batch_size // world_size, self.store.source
        further = (number,) if number else ()  # the first stream keeps the seeds of an epoch of one stream
        rows, keys = self.store.rows_in_views(sampler.indices(), share, stage.views, epoch), None
        if source.keyed:
            positions = in_views(sampler.positions, share, stage.views, offset=sampler.length)
            keys = SampleKeys((self.seed, epoch, *further), positions)
        loader = BatchLoader(
            self.store.training_batches(rows, share * stage.views, self._device(), keys),
            source.transform(self.mean, self.std, for_views(self.augment, stage.views)),
            lambda: torch_generator("augment", self.seed, epoch, rank, *further),
        )
        if stage.mixing is None:
            return loader
        require_choice("mixing", stage.mixing, self.mixings)
        mixing = self.mixings[stage.mixing]
        return MixedLoader(loader, mixing, lambda: torch_generator("mix", self.seed, epoch, rank, *further))

    def _eval_loader(self, part: str) -> BatchLoader | None:
        num_samples = len(self.split.parts[part])
        if not num_samples:
            return None
        rank, world_size = self._rank()
        rows, device = np.arange(rank, num_samples, world_size), self._device()
        batch_size = self.eval_batch_size or (128 if device.type == "cpu" else 512)
        batches = self.store.evaluation_batches(part, rows, batch_size, device)
        return BatchLoader(batches, self.store.source.transform(self.mean, self.std, None), torch.Generator)

    def _image_shape(self) -> tuple[int, ...]:
        if len(self.sample_shape) != 3:
            raise RuntimeError(f"samples of shape {self.sample_shape} are no images: read sample_shape")
        return self.sample_shape

    @property
    def store(self) -> SampleStore:  # where samples lie, and how many processes read them
        if self._store is None:
            raise RuntimeError("call setup() before asking for a loader")
        return self._store

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
