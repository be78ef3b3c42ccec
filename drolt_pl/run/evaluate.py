"""Measures the weights of a checkpoint on several data sets in one test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from drolt_pl.learning.module import DROLTModule
from drolt_pl.results import Accuracies


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        content: The content of the file.
        unfitted: Whether the weights are those of the stage before, so that the stage has to be started first.
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
) -> dict[str, Accuracies | None]:
    """Loads a checkpoint's weights and measures them on every loader, in one `trainer.test`.

    Args:
        trainer: The run's trainer, after fit.
        module: The run's module.
        checkpoint: A checkpoint of the run.
        stage: The stage whose classifier is measured.
        loaders: Data sets by name; a null loader gives a null result.

    Returns:
        Accuracies by data set name.
    """
    module.load_state_dict(checkpoint.content["state_dict"])
    module.stages.use(stage)
    if checkpoint.unfitted:
        module.stages.start(stage)
    present = {name: loader for name, loader in loaders.items() if loader is not None}
    module.evaluation.names = list(present)
    trainer.test(module, dataloaders=list(present.values()), verbose=False)
    measured = {name: Accuracies.of(found) for name, found in module.evaluation.results.items()}
    return {name: measured.get(name) for name in loaders}
