"""Long-tailed data sets, samplers and batch transforms."""

from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.cifar import CIFAR10LT, CIFAR100LT
from drolt_pl.data.digits import DigitsLT
from drolt_pl.data.folder import ImageFolderLT
from drolt_pl.data.imagelist import ImageListLT, INaturalist2018
from drolt_pl.data.longtail import Split, SplitRules, make_split, profile_counts
from drolt_pl.data.samplers import (
    ClassAwareSampler,
    ClassBalancedSampler,
    EpochSampler,
    InstanceSampler,
    Sampling,
    StageSampling,
    stage_sampler,
)
from drolt_pl.data.transforms import BatchTransform, CropFlip

__all__ = [
    "CIFAR10LT",
    "CIFAR100LT",
    "BatchTransform",
    "ClassAwareSampler",
    "ClassBalancedSampler",
    "CropFlip",
    "DigitsLT",
    "EpochSampler",
    "INaturalist2018",
    "ImageFolderLT",
    "ImageListLT",
    "InstanceSampler",
    "LongTailDataModule",
    "Sampling",
    "Split",
    "SplitRules",
    "StageSampling",
    "make_split",
    "profile_counts",
    "stage_sampler",
]
