"""What makes training fast changes nothing in what is learned."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from helpers.running import HOME, composed
from pytorch_lightning import seed_everything

from drolt_pl.run.assemble import assemble

PLAIN = ("compile=null", "+optimizer.algorithm.fused=false", "dataset.loader=workers")
FAST = ("compile=default", "+optimizer.algorithm.fused=true", "dataset.loader=memory")
STEPS = 20


class Losses(pl.Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.found.append(float(outputs["loss"]))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_fast_path_gives_the_losses_of_the_plain_one(tmp_path: Path) -> None:
    found = []
    for name, overrides in (("plain", PLAIN), ("fast", FAST)):
        epochs = [
            f"schedule.stages.{stage}.epochs={n}" for stage, n in (("ce_warmup", 1), ("joint", 2), ("rebalance", 0))
        ]
        config = composed("trainer=cpu", "trainer.enable_progress_bar=false", *epochs, *overrides)
        seed_everything(0, verbose=False)
        (tmp_path / name).mkdir()
        run = assemble(config, tmp_path / name, HOME / "conf")
        losses = Losses()
        run.trainer.callbacks.append(losses)
        run.trainer.fit(run.module, datamodule=run.datamodule)
        found.append(losses.found[:STEPS])
    plain, fast = found
    assert len(plain) == STEPS
    assert plain[0] != plain[-1]
    assert fast == pytest.approx(plain, rel=1e-5)
