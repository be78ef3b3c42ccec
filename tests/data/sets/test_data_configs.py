"""Every data set's yaml builds its class with plain values."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.data_sets import write_miniature
from helpers.data_tools import write_images
from helpers.running import composed
from hydra.utils import instantiate

from drolt_pl.data import CropFlip, LongTailDataModule, Mixup, Sampling
from drolt_pl.data.prepare.published import build_index


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """One folder that has what every data set looks for at birth."""
    for part in ("train", "test"):
        for class_name in ("ant", "bee"):
            write_images(tmp_path / part / class_name, 2)
    (tmp_path / "labels.csv").write_text("path,label\n")
    for name in ("cifar-10-batches-py", "cifar-100-python"):
        (tmp_path / name).mkdir()
    return tmp_path


SETTINGS = ("protocol=published", "seed=5", "dataset.split_seed=2")


def built(*overrides: str) -> Any:
    return instantiate(composed(*overrides).dataset, _convert_="all")


@pytest.mark.parametrize("dataset", ["cifar10_lt", "cifar100_lt", "image_folder", "manifest"])
def test_data_sets_of_files(roots: Path, dataset: str) -> None:
    manifest = [f"dataset.manifest={roots / 'labels.csv'}"] if dataset == "manifest" else []
    check(built(f"dataset={dataset}", f"dataset.root={roots}", *manifest, *SETTINGS))


@pytest.mark.parametrize("dataset", ["imagenet_lt", "places_lt", "inaturalist2018"])
def test_prepared_data_sets(tmp_path: Path, dataset: str) -> None:
    index = build_index(dataset, *write_miniature(dataset, tmp_path))
    index.save(tmp_path / "index.npz")
    module = built(f"dataset={dataset}", f"dataset.index={tmp_path / 'index.npz'}", *SETTINGS)
    check(module)
    module.setup()
    assert module.class_counts == [8, 5, 2]


def check(module: Any) -> None:
    assert isinstance(module, LongTailDataModule)
    assert (module.rules.protocol, module.seed, module.rules.split_seed) == ("published", 5, 2)
    assert isinstance(module.augment, CropFlip)
    assert (module.augment.padding, module.augment.flip) == (module.crop_padding, module.flip)
    for values in (module.mean, module.std):  # of a folder's images they are the network's: null here
        assert values is None or (type(values) is list and len(values) == 3)


@pytest.mark.parametrize("augment", ["basic", "autoaugment", "randaugment", "color_jitter", "bcl", "supcon"])
def test_augmentations(augment: str) -> None:
    module = built_and_set_up("dataset=digits_lt", f"augment={augment}")
    images, _ = next(iter(module.train_dataloader()))
    assert images.shape[1:] == (1, 8, 8)
    plain, _ = next(iter(built_and_set_up("dataset=digits_lt", "augment=none").train_dataloader()))
    assert not torch.equal(images, plain)


def test_the_views_of_bcl_and_supcon_are_those_of_their_sources(roots: Path) -> None:
    """RandomResizedCrop from .08 (BCL) and .2 (SupCon), flip, jitter with hue in 0.8 of the images, grey in 0.2."""
    classified, *contrasted = built("dataset=cifar10_lt", "augment=bcl", f"dataset.root={roots}").augment
    assert [type(step).__name__ for step in classified.steps] == ["CropFlip", "AutoAugment", "Cutout"]
    assert len(contrasted) == 2
    supcon = built("dataset=cifar10_lt", "augment=supcon", f"dataset.root={roots}").augment
    for chain, least in ((contrasted[0], 0.08), (contrasted[1], 0.08), (supcon, 0.2)):
        crop, flip, jitter, grey = chain.steps
        assert list(crop.scale) == [least, 1.0]
        assert (flip.padding, flip.flip) == (0, True)
        assert jitter.strengths.tolist() == [0.4, 0.4, 0.4, 0.1]
        assert (jitter.chance, grey.chance) == (0.8, 0.2)


def built_and_set_up(*overrides: str) -> Any:
    module = built(*overrides)
    module.setup()
    return module


def test_digits_and_no_augmentation() -> None:
    module = built("dataset=digits_lt", "augment=none")
    assert module.augment is None
    module.setup()
    assert module.class_counts == [104, 67, 43, 28, 18, 11, 7, 4, 3, 2]
    augmented = built("dataset=digits_lt", "dataset.crop_padding=2").augment
    assert (augmented.padding, augmented.flip) == (2, False)


def test_plan_and_mixings_reach_the_module_unharmed() -> None:
    """Hydra hands on a bound method and a mapping of objects as they are, without copies."""

    class Stages:
        def stage_at(self, epoch: int) -> Sampling:
            return Sampling("class_balanced")

    stages, mixup = Stages(), Mixup()
    node = composed("dataset=digits_lt").dataset
    module = instantiate(node, plan=stages.stage_at, mixings={"mixup": mixup}, _convert_="all")
    assert module.plan.__self__ is stages
    assert type(module.mixings) is dict
    assert module.mixings["mixup"] is mixup
