"""Opens a finished run again, to look at its backbone."""

import json
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import nn

from drolt_pl.data.base import LongTailDataModule
from drolt_pl.errors import SettingError
from drolt_pl.folders import CONFIG
from drolt_pl.model import load_model
from drolt_pl.results import Groups
from drolt_pl.run.build import UserError, build, checked


@dataclass(frozen=True)
class OpenedRun:
    """A run after one of its stages.

    Attributes:
        datamodule: The data, set up.
        backbone: The backbone after the stage, in eval mode.
        classifier: The classifier of the stage, in eval mode.
    """

    method: str
    protocol: str
    seed: int
    groups: Groups
    datamodule: LongTailDataModule
    backbone: nn.Module
    classifier: nn.Module


def open_run(run_dir: Path, stage: str) -> OpenedRun:
    """Opens the folder of a run at the last epoch of a stage.

    Raises:
        SettingError: the folder is not a run's, the run did not train the stage, or its images have changed since.
    """
    if not (run_dir / CONFIG).exists():
        raise SettingError(str(run_dir), f"is not a run's folder: it has no {CONFIG}")
    checkpoint = run_dir / "checkpoints" / f"{stage}.ckpt"
    if not checkpoint.exists():
        trained = sorted(path.stem for path in checkpoint.parent.glob("*.ckpt"))
        raise SettingError("--stage", f"must be one that {run_dir} has trained, of {trained}", stage)
    config = OmegaConf.load(run_dir / CONFIG)
    assert isinstance(config, DictConfig)
    try:
        datamodule: LongTailDataModule = build(config, "dataset")
        checked("dataset", datamodule.setup)
    except UserError as error:
        raise SettingError("", str(error)) from error
    split = run_dir / "split.json"
    if split.exists() and json.loads(split.read_text())["sha256"] != datamodule.split_record()["sha256"]:
        raise SettingError(
            str(run_dir), "was trained on another split of its data set, which has changed since: restore the images"
        )
    backbone, classifier = load_model(checkpoint)
    return OpenedRun(
        method=config.method_name,
        protocol=config.protocol,
        seed=config.seed,
        groups=Groups(many=config.groups.many, few=config.groups.few),
        datamodule=datamodule,
        backbone=backbone,
        classifier=classifier,
    )
