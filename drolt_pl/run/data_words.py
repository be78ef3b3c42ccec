"""Words of a command line that name a data set: a path, or overrides as of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from drolt_pl.data import LongTailDataModule
from drolt_pl.data.prepare.index import read_meta
from drolt_pl.data.prepare.published import RECIPES
from drolt_pl.data.stored import holds_features
from drolt_pl.errors import SettingError, require_choice
from drolt_pl.run.arguments import PLACES, quoted
from drolt_pl.run.build import under
from drolt_pl.run.explain import explained
from drolt_pl.run.network import build_datamodule
from drolt_pl.run.validate import validate


def overrides_of(words: Sequence[str]) -> list[str]:
    """The overrides that name a data set.

    Args:
        words: A folder of images, a manifest, an index or a file of features; overrides as of training, beside it or
            alone: `dataset=cifar100_lt dataset.root=data`.

    Raises:
        SettingError: they name none, several, or a path that does not exist.
    """
    paths = [word for word in words if "=" not in word or Path(word).exists()]
    overrides = [word for word in words if word not in paths]
    if len(paths) > 1 or "" in paths or (not paths and not any(word.startswith("dataset=") for word in words)):
        demand = "must be one folder of images, manifest, index or file of features, or overrides: dataset=cifar100_lt"
        raise SettingError("DATA", demand, list(words))
    return overrides if not paths else [*_chosen(Path(paths[0])), *overrides]


def configured(
    overrides: Sequence[str], conf: Path, options: Mapping[str, object]
) -> tuple[DictConfig, LongTailDataModule]:
    """The configuration of a data set, and its data module, not set up yet.

    Args:
        overrides: As of training.
        conf: The folder of configurations.
        options: Values of keys of the data set, None for those that were not given.

    Raises:
        SettingError: a value that cannot be used.
    """
    config = explained(conf, overrides)
    for key, value in options.items():
        if value is None:
            continue
        if not {"manifest", "index"} & set(config.dataset):
            raise SettingError(f"--{key.replace('_', '-')}", "must be left out: it is for manifests and indexes alone")
        config.dataset[key] = str(value) if isinstance(value, Path) else value
    validate(config, conf)
    datamodule = build_datamodule(config)
    with under("dataset"):
        datamodule.prepare_data()
    return config, datamodule


def relocate(config: DictConfig, place: Path) -> None:
    """Points a run's configuration to where its data set lies now.

    Args:
        config: The configuration.
        place: A folder becomes the root, a file the list or the file of features.

    Raises:
        SettingError: the data set of the run has no such place.
    """
    keys = ("root",) if place.is_dir() else PLACES[1:]
    key = next((key for key in keys if key in config.dataset), None)
    if key is None or not place.exists():
        demand = "must be where the run's data set lies now: a folder, or the file that names or holds its samples"
        raise SettingError("--data", demand, str(place))
    config.dataset[key] = str(place)


def _chosen(path: Path) -> list[str]:
    if path.is_dir():
        choice, key = "image_folder", "root"
    elif not path.exists():
        raise SettingError("DATA", "must exist: a folder of images, a manifest, an index or stored features", str(path))
    elif holds_features(path):
        choice, key = "features", "file"
    elif path.suffix == ".npz":
        choice, key = str(read_meta(path)["name"]), "index"
        require_choice("name in the index", choice, RECIPES)
    else:
        choice, key = "manifest", "manifest"
    return [f"dataset={choice}", f"dataset.{key}={quoted(path)}"]
