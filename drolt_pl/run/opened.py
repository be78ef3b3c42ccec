"""Opens a finished run again, to measure its backbone."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import nn

from drolt_pl.classifiers import Classifier
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.errors import SettingError
from drolt_pl.folders import CONFIG
from drolt_pl.model import load_model
from drolt_pl.results import Groups
from drolt_pl.run import schema
from drolt_pl.run.build import under
from drolt_pl.run.checkpoints import saved_split
from drolt_pl.run.conf import CONF
from drolt_pl.run.network import build_datamodule
from drolt_pl.run.trust import refuse_foreign

FIRST = ("ce_warmup", "train")  # the first stage that trains a classifier, in methods of several stages and of one


@dataclass(frozen=True)
class OpenedRun:
    """A run after one of its stages.

    Attributes:
        stage: The stage.
        datamodule: The data, set up.
        backbone: The backbone after the stage, in eval mode.
        classifier: The classifier of the stage, in eval mode.
    """

    stage: str
    method: str
    protocol: str
    seed: int
    groups: Groups
    datamodule: LongTailDataModule
    backbone: nn.Module
    classifier: Classifier


def open_run(run_dir: Path, stage: str | None = None, *, trust: bool = False) -> OpenedRun:
    """Opens the folder of a run at the last epoch of a stage.

    Args:
        run_dir: The run's folder.
        stage: The stage; null for the first one that trains a classifier.
        trust: Whether the run's files may name classes that conf/ does not; they are executed then.

    Raises:
        SettingError: the folder is not a run's, the run did not train the stage, its images have changed since, or its
            files name a class that conf/ does not name.
    """
    if not (run_dir / CONFIG).exists():
        raise SettingError(str(run_dir), f"is not a run's folder: it has no {CONFIG}")
    trained = sorted(path.stem for path in (run_dir / "checkpoints").glob("*.ckpt"))
    stage = stage or next((name for name in FIRST if name in trained), FIRST[0])
    if stage not in trained:
        raise SettingError("--stage", f"must be one that {run_dir} has trained, of {trained}", stage)
    if not trust:
        refuse_foreign(run_dir, CONF)
    schema.register()  # the run's configuration may hold a `${sum:...}`
    config = OmegaConf.load(run_dir / CONFIG)
    assert isinstance(config, DictConfig)
    datamodule = build_datamodule(config)
    with under("dataset"):
        datamodule.setup()
    if saved_split(run_dir) not in (None, datamodule.split_record()["sha256"]):
        raise SettingError(
            str(run_dir), "was trained on another split of its data set, which has changed since: restore the images"
        )
    model = load_model(run_dir / "checkpoints" / f"{stage}.ckpt", trust=trust)
    assert isinstance(model.classifier, Classifier)
    return OpenedRun(
        stage=stage,
        method=config.method_name,
        protocol=config.protocol,
        seed=config.seed,
        groups=Groups(many=config.groups.many, few=config.groups.few),
        datamodule=datamodule,
        backbone=model.backbone,
        classifier=model.classifier,
    )
