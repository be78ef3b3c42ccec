"""Labelled images for commands on models: test images of a data set, and those that validated in a model's run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from drolt_pl.data.base import LongTailDataModule
from drolt_pl.errors import SettingError
from drolt_pl.model import Model
from drolt_pl.run.build import build, under
from drolt_pl.run.checkpoints import require_same_data
from drolt_pl.run.conf import CONF
from drolt_pl.run.explain import explained
from drolt_pl.run.network import build_datamodule
from drolt_pl.run.trust import configuration


def labelled_images(model: Model, overrides: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised test images (B, C, H, W) of a data set, and their classes as the model counts them, (B,).

    Args:
        model: The model, whose classes and preprocessing the data set must have.
        overrides: What `drolt train` would get: `["dataset=digits_lt"]`. Where they leave open how images are shown,
            the model sees them as in training.

    Raises:
        SettingError: an override that is refused, or a data set that does not fit the model.
    """
    config = explained(CONF, overrides)
    datamodule: LongTailDataModule = build(config, "dataset", **_seen(model, config.dataset, overrides))
    with under("dataset"):
        datamodule.prepare_data()
        datamodule.setup("test")
    if datamodule.preprocessing() != model.preprocessing:
        demand = f"must show images as the model's training did, {model.preprocessing}; it has"
        raise SettingError("dataset", demand, datamodule.preprocessing())
    index = {name: place for place, name in enumerate(model.class_names)}
    strange = [name for name in datamodule.class_names if name not in index]
    if strange:
        raise SettingError("dataset", f"must have the model's classes alone: it also has {strange[:5]}")
    places = torch.tensor([index[name] for name in datamodule.class_names])
    loader = datamodule.test_dataloader()
    return ((images, places[targets.cpu()]) for images, targets in loader)


def validation_images(run_dir: Path, *, trust: bool = False) -> Iterator[tuple[Tensor, Tensor]] | None:
    """Normalised validation images (B, C, H, W) of a run and their classes, (B,); None where its protocol has none.

    Args:
        run_dir: The run's folder.
        trust: Whether its files may name classes that conf/ does not; they are executed then.

    Raises:
        SettingError: no run's folder, or its images are not where they were, or have changed.
    """
    config = configuration(run_dir, CONF, trust=trust)
    datamodule = build_datamodule(config)
    with under("dataset"):
        datamodule.prepare_data()
        datamodule.setup()
    require_same_data(str(run_dir), run_dir, datamodule.split_record())
    loaders = datamodule.val_dataloader()
    return None if isinstance(loaders, list) else ((images, targets.cpu()) for images, targets in loaders)


def _seen(model: Model, dataset: DictConfig, overrides: Sequence[str]) -> dict[str, object]:
    """What the data set leaves to the network, and the crop unless it is typed, as the model knows them."""
    seen = model.preprocessing
    known: dict[str, object] = {"image_size": seen.image_size, "mean": list(seen.mean), "std": list(seen.std)}
    left = {key: value for key, value in known.items() if key in dataset and dataset[key] is None}
    crop = "train_crop" in dataset and not any(word.startswith("dataset.train_crop=") for word in overrides)
    return left | ({"train_crop": seen.crop} if crop else {})
