"""Opens a finished run again, to measure its backbone."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from drolt_pl.classifiers import Classifier
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.errors import SettingError
from drolt_pl.losses import Measure
from drolt_pl.model import load_model
from drolt_pl.results import Groups
from drolt_pl.run.build import under
from drolt_pl.run.checkpoints import require_same_data
from drolt_pl.run.conf import CONF
from drolt_pl.run.data_words import relocate
from drolt_pl.run.network import build_datamodule
from drolt_pl.run.trust import configuration

FIRST = ("ce_warmup", "train")  # the first stage that trains a classifier, in methods of several stages and of one


@dataclass(frozen=True)
class OpenedRun:
    """A run after one of its stages.

    Attributes:
        stage: The stage.
        datamodule: The data, set up.
        backbone: The backbone after the stage, in eval mode.
        classifier: The classifier of the stage, in eval mode.
        radii: Radii of the classes' balls, (C,); None for a method without, or a loss of several layers.
        measure: How the run's loss compares features and centroids.
        temperature: Of the run's loss.
        precision: The precision that it was trained in, as Lightning names it.
    """

    stage: str
    method: str
    protocol: str
    seed: int
    groups: Groups
    datamodule: LongTailDataModule
    backbone: nn.Module
    classifier: Classifier
    radii: Tensor | None
    measure: Measure
    temperature: float
    precision: str


def open_run(
    run_dir: Path, stage: str | None = None, *, moved_to: Path | None = None, trust: bool = False
) -> OpenedRun:
    """Opens the folder of a run at the last epoch of a stage.

    Args:
        run_dir: The run's folder.
        stage: The stage; null for the first one that trains a classifier.
        moved_to: Where its data set lies now; null for where it was.
        trust: Whether the run's files may name classes that conf/ does not; they are executed then.

    Raises:
        SettingError: the folder is not a run's, the run did not train the stage, its images have changed since, or its
            files name a class that conf/ does not name.
    """
    config = configuration(run_dir, CONF, trust=trust)
    trained = sorted(path.stem for path in (run_dir / "checkpoints").glob("*.ckpt"))
    stage = stage or next((name for name in FIRST if name in trained), FIRST[0])
    if stage not in trained:
        raise SettingError("--stage", f"must be one that {run_dir} has trained, of {trained}", stage)
    if moved_to is not None:
        relocate(config, moved_to)
    datamodule = build_datamodule(config)
    with under("dataset"):
        datamodule.setup()
    require_same_data(str(run_dir), run_dir, datamodule.split_record())
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
        radii=model.radii if model.radii is not None and model.radii.ndim == 1 else None,
        measure=Measure(config.loss.distance, config.loss.feature_norm),
        temperature=config.loss.temperature,
        precision=str(config.trainer.precision),
    )
