"""A finished run, opened again by the commands that look at its backbone."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from drolt_pl.run.build import build


class OpenedRun(NamedTuple):
    """Configuration, data module (set up), and one stage's backbone and classifier in eval mode."""

    config: Any
    datamodule: Any
    backbone: Any
    classifier: Any


def open_run(run_dir: Path, stage: str) -> OpenedRun:
    """Opens a run's folder at the last epoch of a stage.

    Raises:
        ValueError: not a run, or a stage that it has not trained, or images other than it was trained on.
    """
    from drolt_pl.model import load_model

    if not (run_dir / ".hydra" / "config.yaml").exists():
        raise ValueError(f"{run_dir} is not a run's folder: it has no .hydra/config.yaml")
    checkpoint = run_dir / "checkpoints" / f"{stage}.ckpt"
    if not checkpoint.exists():
        trained = sorted(path.stem for path in checkpoint.parent.glob("*.ckpt"))
        raise ValueError(f"--stage must be one that {run_dir} has trained, of {trained}, got {stage!r}")
    config: Any = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
    datamodule = build(config, "dataset")
    datamodule.setup()
    split = run_dir / "split.json"
    if split.exists() and json.loads(split.read_text())["sha256"] != datamodule.split_record()["sha256"]:
        raise ValueError(
            f"{run_dir} was trained on another split of its data set, which has changed since: restore the images"
        )
    model = load_model(checkpoint)
    return OpenedRun(config, datamodule, model.backbone, model.classifier)
