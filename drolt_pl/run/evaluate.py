"""The weights of a checkpoint, measured on several data sets in one test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from drolt_pl.learning.module import DROLTModule


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        content: What the file holds.
        unfitted: Whether the weights are those of the stage before, so that the stage starts with them.
    """

    content: Mapping[str, Any]
    unfitted: bool = False


@torch.no_grad()
def evaluate_checkpoint(
    trainer: pl.Trainer,
    module: DROLTModule,
    checkpoint: Checkpoint,
    stage: str,
    loaders: Mapping[str, Iterable[Any] | None],
) -> dict[str, dict[str, Any] | None]:
    """Loads a checkpoint's weights and measures them on every loader, in one `trainer.test`.

    Args:
        trainer: The run's trainer, after fit.
        module: The run's module.
        checkpoint: A checkpoint of the run.
        stage: The stage whose classifier is measured.
        loaders: Data sets by name; a null loader gives a null result.

    Returns:
        Plain metrics by data set name.
    """
    module.load_state_dict(checkpoint.content["state_dict"])
    module.stages.use(stage)
    if checkpoint.unfitted:
        module.stages.start(stage)
    present = {name: loader for name, loader in loaders.items() if loader is not None}
    module.evaluation.names = list(present)
    trainer.test(module, dataloaders=list(present.values()), verbose=False)
    return {name: module.evaluation.results.get(name) for name in loaders}
