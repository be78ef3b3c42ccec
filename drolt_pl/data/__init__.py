"""Long-tailed data sets, samplers and batch transforms."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drolt_pl.data.augment.mixing import CutMix as CutMix
    from drolt_pl.data.augment.mixing import Mixup as Mixup
    from drolt_pl.data.augment.policies import AutoAugment as AutoAugment
    from drolt_pl.data.augment.policies import ColorJitter as ColorJitter
    from drolt_pl.data.augment.policies import RandAugment as RandAugment
    from drolt_pl.data.augment.transforms import BatchTransform as BatchTransform
    from drolt_pl.data.augment.transforms import Chain as Chain
    from drolt_pl.data.augment.transforms import CropFlip as CropFlip
    from drolt_pl.data.augment.transforms import Cutout as Cutout
    from drolt_pl.data.base import LongTailDataModule as LongTailDataModule
    from drolt_pl.data.epoch_sampler import EpochSampler as EpochSampler
    from drolt_pl.data.longtail import SplitRules as SplitRules
    from drolt_pl.data.longtail import profile_counts as profile_counts
    from drolt_pl.data.plan import Sampling as Sampling
    from drolt_pl.data.plan import StageSampling as StageSampling
    from drolt_pl.data.samplers import ClassAwareSampler as ClassAwareSampler
    from drolt_pl.data.samplers import ClassBalancedSampler as ClassBalancedSampler
    from drolt_pl.data.samplers import EffectiveNumberSampler as EffectiveNumberSampler
    from drolt_pl.data.samplers import InstanceSampler as InstanceSampler
    from drolt_pl.data.samplers import ProgressiveSampler as ProgressiveSampler
    from drolt_pl.data.samplers import SquareRootSampler as SquareRootSampler
    from drolt_pl.data.samplers import stage_sampler as stage_sampler
    from drolt_pl.data.sets.cifar import CIFAR10LT as CIFAR10LT
    from drolt_pl.data.sets.cifar import CIFAR100LT as CIFAR100LT
    from drolt_pl.data.sets.digits import DigitsLT as DigitsLT
    from drolt_pl.data.sets.folder import ImageFolderLT as ImageFolderLT
    from drolt_pl.data.sets.indexed import ImageNetLT as ImageNetLT
    from drolt_pl.data.sets.indexed import INaturalist2018 as INaturalist2018
    from drolt_pl.data.sets.indexed import PlacesLT as PlacesLT
    from drolt_pl.data.sets.manifest import ManifestLT as ManifestLT
    from drolt_pl.data.sources import Catalogue as Catalogue
    from drolt_pl.data.sources import Source as Source
    from drolt_pl.data.split import Split as Split
    from drolt_pl.data.split import make_split as make_split

# Names and their homes. They are imported at first use, so that decoding an image needs no Lightning.
_HOMES = {
    "AutoAugment": "augment.policies",
    "BatchTransform": "augment.transforms",
    "CIFAR100LT": "sets.cifar",
    "CIFAR10LT": "sets.cifar",
    "Catalogue": "sources",
    "Chain": "augment.transforms",
    "ClassAwareSampler": "samplers",
    "ClassBalancedSampler": "samplers",
    "ColorJitter": "augment.policies",
    "CropFlip": "augment.transforms",
    "CutMix": "augment.mixing",
    "Cutout": "augment.transforms",
    "DigitsLT": "sets.digits",
    "EffectiveNumberSampler": "samplers",
    "EpochSampler": "epoch_sampler",
    "INaturalist2018": "sets.indexed",
    "ImageFolderLT": "sets.folder",
    "ImageNetLT": "sets.indexed",
    "InstanceSampler": "samplers",
    "LongTailDataModule": "base",
    "ManifestLT": "sets.manifest",
    "Mixup": "augment.mixing",
    "PlacesLT": "sets.indexed",
    "ProgressiveSampler": "samplers",
    "RandAugment": "augment.policies",
    "Sampling": "plan",
    "Source": "sources",
    "Split": "split",
    "SplitRules": "longtail",
    "SquareRootSampler": "samplers",
    "StageSampling": "plan",
    "make_split": "split",
    "profile_counts": "longtail",
    "stage_sampler": "samplers",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'drolt_pl.data' has no attribute {name!r}")
    return vars(import_module(f"drolt_pl.data.{_HOMES[name]}"))[name]
