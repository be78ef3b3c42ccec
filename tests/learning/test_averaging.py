"""The moving averages of a stage: against Lightning's own, and what they leave alone."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.running import HOME, composed
from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import Tensor

from drolt_pl.errors import SettingError
from drolt_pl.learning.averaging import AverageWeights
from drolt_pl.run.assemble import Run, assemble

DECAY = 0.9
ONE_STAGE = (
    *("trainer=cpu", "trainer.enable_progress_bar=false", "method=ce", "backbone=convnet_small"),
    *("schedule.stages.train.epochs=2", "dataset.batch_size=32"),
)


def trained(
    folder: Path, *overrides: str, callback: pl.Callback | None = None, base: tuple[str, ...] = ONE_STAGE
) -> Run:
    folder.mkdir()
    seed_everything(0, verbose=False)
    run = assemble(composed(*base, *overrides), folder, HOME / "conf")
    run.trainer.callbacks.extend([] if callback is None else [callback])
    run.trainer.fit(run.module, datamodule=run.datamodule)
    return run


def parameters(run: Run) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in run.module.named_parameters()}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's of its own callback
def test_the_averages_are_lightnings_and_training_goes_on_as_without(tmp_path: Path) -> None:
    ours = trained(tmp_path / "ours", f"schedule.stages.train.ema={DECAY}")
    theirs = trained(tmp_path / "theirs", callback=EMAWeightAveraging(decay=DECAY))
    plain = trained(tmp_path / "plain")
    for name, average in parameters(theirs).items():
        torch.testing.assert_close(parameters(ours)[name], average, rtol=0, atol=1e-6)
        assert not torch.equal(average, parameters(plain)[name])
    callback = next(callback for callback in ours.trainer.callbacks if isinstance(callback, AverageWeights))
    aside = callback.state_dict()["aside"]
    assert {name for name in aside if name in parameters(plain)} == parameters(plain).keys()
    for name, value in plain.module.state_dict().items():
        if name in aside:
            assert torch.equal(aside[name], value), name


class Means(pl.Callback):
    """The class means that every step measures against."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.found.append(pl_module.centroids.clone())


def test_a_validation_within_an_epoch_leaves_training_alone(tmp_path: Path) -> None:
    stage = ("method=dro_lt", *(f"~schedule.stages.{name}" for name in ("ce_warmup", "rebalance")))
    words = (*ONE_STAGE[:2], *stage, "schedule.stages.joint.epochs=1", "schedule.stages.joint.ema=0.9")
    ends, within = Means(), Means()
    whole = trained(tmp_path / "ends", *words, callback=ends, base=())
    often = trained(tmp_path / "within", *words, "+trainer.val_check_interval=2", callback=within, base=())
    assert len(ends.found) == len(within.found) > 4
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(within.found, ends.found, strict=True))
    assert all(torch.equal(parameters(whole)[name], value) for name, value in parameters(often).items())


def test_averages_need_their_callback(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^schedule\.stages\.train\.ema needs callbacks\.average"):
        trained(tmp_path / "run", "schedule.stages.train.ema=0.9", "~callbacks.average")


def test_statistics_of_batchnorm_are_those_of_the_averages(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", f"schedule.stages.train.ema={DECAY}", "augment=none", "dataset.flip=false")
    backbone = run.module.backbone
    first = next(layer for layer in backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    found = first.running_mean.clone(), first.running_var.clone()
    inputs: list[Tensor] = []
    handle = first.register_forward_hook(lambda layer, given, out: inputs.append(given[0]))
    loader = run.datamodule.epoch_loader(1, run.module.schedule.stage_at(1))
    with torch.no_grad():
        for images, *_ in loader:
            backbone(images)
    handle.remove()
    means = torch.stack([batch.mean((0, 2, 3)) for batch in inputs]).mean(0)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in inputs]).mean(0)
    torch.testing.assert_close(found[0], means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], variances, rtol=1e-5, atol=1e-6)
