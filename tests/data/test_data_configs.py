"""Every data set's yaml builds its class with plain values."""

from pathlib import Path
from typing import Any

import pytest
from data_tools import write_images
from hydra.utils import instantiate
from running import composed

from drolt_pl.data import CropFlip, LongTailDataModule


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """One folder that has what every data set looks for at birth."""
    for part in ("train", "test"):
        for class_name in ("ant", "bee"):
            write_images(tmp_path / part / class_name, 2)
    lists = [f"{name}_LT_{part}.txt" for name in ("ImageNet", "Places") for part in ("train", "val", "test")]
    for name in [*lists, "train2018.json", "val2018.json"]:
        (tmp_path / name).write_text("")
    for name in ("cifar-10-batches-py", "cifar-100-python"):
        (tmp_path / name).mkdir()
    return tmp_path


def built(*overrides: str) -> Any:
    return instantiate(composed(*overrides).dataset, _convert_="all")


@pytest.mark.parametrize(
    "dataset", ["cifar10_lt", "cifar100_lt", "image_folder", "imagenet_lt", "places_lt", "inaturalist2018"]
)
def test_data_sets_of_files(roots: Path, dataset: str) -> None:
    module = built(
        f"dataset={dataset}", f"dataset.root={roots}", "protocol=published", "seed=5", "dataset.split_seed=2"
    )
    assert isinstance(module, LongTailDataModule)
    assert (module.rules.protocol, module.seed, module.rules.split_seed) == ("published", 5, 2)
    assert isinstance(module.augment, CropFlip)
    assert (module.augment.padding, module.augment.flip) == (module.crop_padding, module.flip)
    assert type(module.mean) is list
    assert len(module.mean) == len(module.std) == 3


def test_digits_and_no_augmentation() -> None:
    module = built("dataset=digits_lt", "augment=none")
    assert module.augment is None
    module.setup()
    assert module.class_counts == [104, 67, 43, 28, 18, 11, 7, 4, 3, 2]
    augmented = built("dataset=digits_lt", "dataset.crop_padding=2").augment
    assert (augmented.padding, augmented.flip) == (2, False)
