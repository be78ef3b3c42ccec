"""Builds data module and network, each with what the other one decides: size and normalisation, or input width."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from drolt_pl.backbones import WEIGHTS, Backbone
from drolt_pl.data import LongTailDataModule
from drolt_pl.errors import SettingError
from drolt_pl.run.build import build, plain, under


def build_datamodule(config: DictConfig, **known: object) -> LongTailDataModule:
    """Builds the data module. Where the data set leaves size, mean or std null, it takes those of the network."""
    left = [key for key in ("image_size", "mean", "std") if _is_null(config.dataset, key)]
    if left:
        kind, arguments = _network(config)
        with under("backbone"):
            found = kind.made_for(arguments)
        images = {"image_size": found.image_size, "mean": list(found.mean), "std": list(found.std)}
        known |= {key: images[key] for key in left}
    datamodule: LongTailDataModule = build(config, "dataset", **known)
    return datamodule


def backbone_spec(config: DictConfig, sample_shape: Sequence[int]) -> dict[str, Any]:
    """`_target_` and arguments of the network for samples of a shape, as plain values."""
    kind, arguments = _network(config)
    with under("backbone"):
        decided = kind.sized_for(tuple(sample_shape), arguments)
    return {**plain(config.backbone), **decided}


def build_backbone(config: DictConfig, spec: dict[str, Any], checkpoints: Path) -> Backbone:
    """Builds the network; with `compile` it is compiled.

    Args:
        config: The run's configuration.
        spec: See `backbone_spec`.
        checkpoints: The run's folder of checkpoints. Where one of them, or one of another run, brings the weights, the
            network is built without those that the configuration names.
    """
    if config.init_from is not None or (config.resume is not None and any(checkpoints.glob("*.ckpt"))):
        spec = {key: value for key, value in spec.items() if key not in WEIGHTS}
    backbone: Backbone = build(OmegaConf.create({"backbone": spec}), "backbone")
    if config.compile is None:
        return backbone
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        remedy = "install it, name another in the variable CXX, or set compile=null"
        raise SettingError(
            f"compile={config.compile}", f"needs a C++ compiler, and {compiler} was not found", remedy=remedy
        )
    backbone.compile(mode=config.compile)
    return backbone


def _network(config: DictConfig) -> tuple[type[Backbone], dict[str, object]]:
    """Class and arguments of the network; the base class for a network that is none of its subclasses."""
    arguments: dict[str, object] = plain(config.backbone)
    try:
        kind = get_object(str(arguments.pop("_target_")))
    except ImportError:  # building the network will say so
        kind = None
    return kind if isinstance(kind, type) and issubclass(kind, Backbone) else Backbone, arguments


def _is_null(dataset: DictConfig, key: str) -> bool:
    return key in dataset and dataset[key] is None
