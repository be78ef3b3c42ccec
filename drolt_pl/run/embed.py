"""The features of a whole data set by a pretrained network, for `dataset=features`."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from drolt_pl.backbones import Backbone
from drolt_pl.data import LongTailDataModule
from drolt_pl.data.augment.transforms import for_views
from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.data.longtail import IntArray
from drolt_pl.data.prepare.index import PART_NAMES
from drolt_pl.data.seeding import torch_generator
from drolt_pl.data.sources import Catalogue, Transform
from drolt_pl.data.stored import StoredFeatures
from drolt_pl.errors import SettingError, require_choice, require_int
from drolt_pl.model import load_model
from drolt_pl.run.arguments import is_of, quoted
from drolt_pl.run.build import under
from drolt_pl.run.data_words import overrides_of
from drolt_pl.run.explain import explained
from drolt_pl.run.network import backbone_spec, build_backbone, build_datamodule
from drolt_pl.run.validate import validate

DTYPES = {"float16": torch.float16, "float32": torch.float32}
PRECISIONS = ("32", "bf16")
LEFT_OUT = "none"  # part of samples that are not embedded
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a data set is embedded.

    Attributes:
        backbone: `timm:NAME`; a run's folder, checkpoint or saved model; None for that of the overrides.
        weights: Of `timm:NAME`: a file, or `true` to fetch timm's own.
        rename: See `backbones.weights.renamed`.
        split: Whether only the samples of the configured split are embedded, its parts being the file's; what a cut
            leaves over is left out.
        views: Augmented views of each training sample that are stored beside the sample itself; 0 for none.
        batch_size: Images that go forward together.
        dtype: Of the stored numbers.
        precision: `32`, or `bf16` to compute in bfloat16.
        threads: That decode images.
        seed: Of the augmentations.
    """

    backbone: str | None
    weights: str | None = None
    rename: str | None = None
    split: bool = False
    views: int = 0
    batch_size: int = 64
    dtype: str = "float16"
    precision: str = "32"
    threads: int = 1
    seed: int = 0


def embed_data(words: Sequence[str], conf: Path, settings: Settings, progress: Progress) -> StoredFeatures:
    """Embeds the samples of a data set.

    Args:
        words: A folder of images or a manifest, or overrides as of training: `dataset=cifar100_lt dataset.root=data`.
        conf: The folder of configurations.
        settings: See there.
        progress: Called with how many more samples are done, and how many there are.

    Raises:
        SettingError: a value that cannot be used, or a network without weights.
    """
    for name, value, least in (("--views", settings.views, 0), ("--batch-size", settings.batch_size, 1)):
        require_int(name, value, at_least=least)
    require_choice("--dtype", settings.dtype, DTYPES)
    require_choice("--precision", settings.precision, PRECISIONS)
    overrides = [*overrides_of(words), *_network(settings)]
    config = explained(conf, overrides)
    validate(config, conf)
    trained = settings.backbone is not None and not settings.backbone.startswith("timm:")
    model = load_model(settings.backbone) if settings.backbone is not None and trained else None
    if model is None and OmegaConf.select(config, "backbone.weights") is None:
        demand = "must be given: features of a network without weights say nothing"
        raise SettingError("--weights", demand, remedy="give a file, or true to fetch the network's own")
    datamodule = build_datamodule(config if model is None else _as_seen_by(config, model.preprocessing, words))
    with under("dataset"):
        datamodule.prepare_data()
        catalogue = _of_the_split(datamodule) if settings.split else datamodule.catalogue()
        source, augment = catalogue.source, for_views(datamodule.augment, 1)
        # Both also refuse what does not fit the images, before the network is built.
        plain = source.transform(datamodule.mean, datamodule.std, None)
        augmented = source.transform(datamodule.mean, datamodule.std, augment)
    if settings.views and augment is None and not source.keyed:
        raise SettingError("--views", "must be 0 without augmentation: all views would be equal", settings.views)
    if model is None:
        network = build_backbone(config, backbone_spec(config, source.shape), Path())
    else:
        network, size = model.backbone, model.preprocessing.image_size
        if source.shape != (model.preprocessing.channels, size, size):
            demand = f"must take images of {source.shape}: it was trained on {model.preprocessing.channels, size, size}"
            raise SettingError("--backbone", demand)
    return _embedded(catalogue, network, (plain, augmented), settings, progress)


def _of_the_split(datamodule: LongTailDataModule) -> Catalogue:
    """The catalogue with the split's parts as official ones; samples of no part keep none."""
    datamodule.setup()
    catalogue, split = datamodule.catalogue(), datamodule.split
    official = np.full(len(catalogue.targets), LEFT_OUT, dtype="U5")
    for part in PART_NAMES:
        official[split.parts[part]] = part
    return replace(catalogue, official=official)


def _as_seen_by(config: DictConfig, seen: Preprocessing, words: Sequence[str]) -> DictConfig:
    """The configuration with images as a model saw them in training; what was typed otherwise is refused."""
    changed = config.copy()
    values = {"image_size": seen.image_size, "mean": list(seen.mean), "std": list(seen.std), "train_crop": seen.crop}
    for key, value in values.items():
        if any(is_of(word, f"dataset.{key}") for word in words) and config.dataset[key] != value:
            demand = f"must be left out, or be {value}, as the images were that trained --backbone"
            raise SettingError(f"dataset.{key}", demand, config.dataset[key])
        if key in changed.dataset:
            changed.dataset[key] = value
    return changed


def _embedded(
    catalogue: Catalogue,
    network: Backbone,
    transforms: tuple[Transform, Transform],
    settings: Settings,
    progress: Progress,
) -> StoredFeatures:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows, trained = np.flatnonzero(catalogue.official != LEFT_OUT), np.flatnonzero(catalogue.official == "train")
    total = len(rows) + settings.views * len(trained)

    @torch.inference_mode()
    def embedded(indices: IntArray, transform: Transform, view: int | None) -> Tensor:
        rows = torch.empty(len(indices), network.num_features * network.num_experts, dtype=DTYPES[settings.dtype])
        generator = torch_generator("embed", settings.seed, 0 if view is None else view + 1)
        for start in range(0, len(indices), settings.batch_size):
            chunk = indices[start : start + settings.batch_size]
            keys = None if view is None else [(settings.seed, view, int(index)) for index in chunk]
            samples = catalogue.source.fetch(chunk, keys, threads=settings.threads)
            images = transform(samples.to(device), generator).contiguous(memory_format=torch.channels_last)
            narrow = settings.precision == "bf16"
            with torch.autocast(device.type, torch.bfloat16) if narrow else nullcontext():
                features = network(images).flatten(1)
            rows[start : start + len(chunk)] = features.to("cpu", rows.dtype)
            progress(len(chunk), total)
        if not bool(rows.isfinite().all()):
            if rows.dtype == torch.float32:
                demand = "must be others: some of the features that they give are nan or infinite"
                raise SettingError("--weights", demand, settings.weights)
            demand = "must be float32 for this network: some of its features are too large for float16"
            raise SettingError("--dtype", demand)
        return rows

    features = embedded(rows, transforms[0], None)
    views = [embedded(trained, transforms[1], view) for view in range(settings.views)]
    said = {"backbone": settings.backbone or "", "precision": settings.precision}
    return StoredFeatures(
        features=features,
        targets=catalogue.targets[rows],
        official=catalogue.official[rows],
        class_names=catalogue.class_names,
        names=catalogue.names[rows],
        views=torch.stack(views) if views else None,
        metadata={**said, "weights": Path(settings.weights or "").name},
    )


def _network(settings: Settings) -> list[str]:
    """The overrides that name a network of timm."""
    kind, _, name = (settings.backbone or "").partition(":")
    words = {"weights": settings.weights, "rename": settings.rename}
    if settings.backbone is not None and kind != "timm":
        for key in (key for key, value in words.items() if value is not None):
            raise SettingError(f"--{key}", "must be left out where --backbone is a trained model, which has its own")
    given = [
        f"backbone.{key}={value if value == 'true' else quoted(value)}"
        for key, value in words.items()
        if value is not None
    ]
    return [*(["backbone=timm", f"backbone.name={name}"] if kind == "timm" else []), *given]
