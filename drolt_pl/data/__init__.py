"""Long-tailed data sets, samplers and batch transforms."""

from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.cifar import CIFAR10LT, CIFAR100LT
from drolt_pl.data.digits import DigitsLT
from drolt_pl.data.folder import ImageFolderLT
from drolt_pl.data.indexed import ImageNetLT, INaturalist2018, PlacesLT
from drolt_pl.data.longtail import SplitRules, profile_counts
from drolt_pl.data.manifest import ManifestLT
from drolt_pl.data.mixing import CutMix, Mixup
from drolt_pl.data.plan import Sampling, StageSampling
from drolt_pl.data.policies import AutoAugment, ColorJitter, RandAugment
from drolt_pl.data.samplers import (
    ClassAwareSampler,
    ClassBalancedSampler,
    EffectiveNumberSampler,
    EpochSampler,
    InstanceSampler,
    ProgressiveSampler,
    SquareRootSampler,
    stage_sampler,
)
from drolt_pl.data.split import Split, make_split
from drolt_pl.data.transforms import BatchTransform, Chain, CropFlip, Cutout

__all__ = [
    "CIFAR10LT",
    "CIFAR100LT",
    "AutoAugment",
    "BatchTransform",
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
    "Split",
    "SplitRules",
    "SquareRootSampler",
    "StageSampling",
    "make_split",
    "profile_counts",
    "stage_sampler",
]
