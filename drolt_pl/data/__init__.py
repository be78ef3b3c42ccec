"""Long-tailed data sets, samplers and batch transforms."""

from drolt_pl.data.augment.mixing import CutMix, Mixup
from drolt_pl.data.augment.policies import AutoAugment, ColorJitter, RandAugment
from drolt_pl.data.augment.transforms import BatchTransform, Chain, CropFlip, Cutout
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.epoch_sampler import EpochSampler
from drolt_pl.data.longtail import SplitRules, profile_counts
from drolt_pl.data.plan import Sampling, StageSampling
from drolt_pl.data.samplers import (
    ClassAwareSampler,
    ClassBalancedSampler,
    EffectiveNumberSampler,
    InstanceSampler,
    ProgressiveSampler,
    SquareRootSampler,
    stage_sampler,
)
from drolt_pl.data.sets.cifar import CIFAR10LT, CIFAR100LT
from drolt_pl.data.sets.digits import DigitsLT
from drolt_pl.data.sets.folder import ImageFolderLT
from drolt_pl.data.sets.indexed import ImageNetLT, INaturalist2018, PlacesLT
from drolt_pl.data.sets.manifest import ManifestLT
from drolt_pl.data.sources import Catalogue, Source
from drolt_pl.data.split import Split, make_split

__all__ = [
    "CIFAR10LT",
    "CIFAR100LT",
    "AutoAugment",
    "BatchTransform",
    "Catalogue",
    "Chain",
    "ClassAwareSampler",
    "ClassBalancedSampler",
    "ColorJitter",
    "CropFlip",
    "CutMix",
    "Cutout",
    "DigitsLT",
    "EffectiveNumberSampler",
    "EpochSampler",
    "INaturalist2018",
    "ImageFolderLT",
    "ImageNetLT",
    "InstanceSampler",
    "LongTailDataModule",
    "ManifestLT",
    "Mixup",
    "PlacesLT",
    "ProgressiveSampler",
    "RandAugment",
    "Sampling",
    "Source",
    "Split",
    "SplitRules",
    "SquareRootSampler",
    "StageSampling",
    "make_split",
    "profile_counts",
    "stage_sampler",
]
