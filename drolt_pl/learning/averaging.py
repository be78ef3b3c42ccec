"""Exponential moving averages of a stage's weights: what is validated, saved, and taken over by the stage after."""

from collections.abc import Iterator
from itertools import islice
from typing import TypedDict

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn

from drolt_pl.centroids import broadcast_buffers
from drolt_pl.learning.module import DROLTModule, ours
from drolt_pl.learning.protocols import data_of
from drolt_pl.learning.stages import batch_norms
from drolt_pl.objectives import Batch


class Averaged(TypedDict):
    """The state of `AverageWeights` in a checkpoint."""

    aside: dict[str, Tensor]
    holds_averages: bool


class AverageWeights(pl.Callback):
    """Averages what a stage trains over its steps, where the stage has an `ema`.

    After every step the average is ema average + (1 - ema) weights; the stage's first step begins it. From an epoch's
    last step to the start of the next epoch the module holds the averages, so that they are validated and saved, and
    the trained weights lie aside. The next stage goes on from the averages. What a stage does not train has no
    average and stays as it is.

    Statistics of BatchNorm are averaged too. Those of averages are not averages of those, so at the epoch's last step
    they are measured again: the epoch's batches go through the averaged backbone once more, without gradient.

    It must stand between `EnterStage` and `RefreshCentroids`.

    Source: the averages are those of `torch.optim.swa_utils` (`get_ema_multi_avg_fn`, `update_bn`).
    """

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}  # of the module, those that have an average
        self._aside: dict[str, Tensor] = {}  # the averages; while the module holds these, the trained weights
        self._holds_averages = False
        self._buffers: dict[str, Tensor] = {}  # of the module, while it is validated within an epoch
        self._steps = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        if module.schedule.enters(trainer.current_epoch):
            self._aside, self._holds_averages = {}, False
        self._tensors = _averaged(module) if module.stage.ema is not None else {}
        self._steps = trainer.global_step
        if self._holds_averages:
            self._swap(module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        module = ours(pl_module)
        if trainer.global_step > self._steps and module.stage.ema is not None:
            self._update(module.stage.ema)
        self._steps = trainer.global_step
        if trainer.is_last_batch:
            self._finish_epoch(trainer, module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and self._aside and not self._holds_averages:  # within an epoch
            self._buffers = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}
            self._swap(ours(pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._buffers:
            self._swap(ours(pl_module))
            for name, buffer in pl_module.named_buffers():
                buffer.copy_(self._buffers[name])  # class means are then those of the weights that train
            self._buffers = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish_epoch(trainer, ours(pl_module))  # of an epoch that was cut short

    def state_dict(self) -> Averaged:  # type: ignore[override]
        return {"aside": self._aside, "holds_averages": self._holds_averages}

    def load_state_dict(self, state_dict: Averaged) -> None:  # type: ignore[override]
        self._aside, self._holds_averages = dict(state_dict["aside"]), state_dict["holds_averages"]

    @torch.no_grad()
    def _update(self, decay: float) -> None:
        if not self._aside:
            self._aside = {name: tensor.detach().clone() for name, tensor in self._tensors.items()}
            return
        floating = [name for name, tensor in self._tensors.items() if tensor.is_floating_point()]
        averages = [self._aside[name] for name in floating]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move(averages, [self._tensors[name].detach() for name in floating], 0)
        for name in self._tensors.keys() - set(floating):  # counts of batches
            self._aside[name].copy_(self._tensors[name])

    def _finish_epoch(self, trainer: pl.Trainer, module: DROLTModule) -> None:
        if self._aside and not self._holds_averages:
            broadcast_buffers(module)  # until here the ranks' BatchNorm statistics were their own
            self._swap(module)
            _measure_batch_norms(trainer, module)

    @torch.no_grad()
    def _swap(self, module: DROLTModule) -> None:
        for name, tensor in self._tensors.items():
            held = tensor.detach().clone()
            tensor.copy_(self._aside[name])
            self._aside[name] = held
        self._holds_averages = not self._holds_averages
        module.centroids_are_current = False


def _averaged(module: DROLTModule) -> dict[str, Tensor]:
    """The tensors that the stage moves, by name: parameters that it trains, and statistics of BatchNorm."""
    optimizer = module.optimizers(use_pl_optimizer=False)
    assert isinstance(optimizer, torch.optim.Optimizer)
    groups = [group for group in optimizer.param_groups if module.stage.trains(group["name"])]
    trained = {parameter for group in groups for parameter in group["params"]}
    moving = {buffer for layer in batch_norms(module) if layer.training for buffer in layer.buffers()}
    return {
        **{name: parameter for name, parameter in module.named_parameters() if parameter in trained},
        **{name: buffer for name, buffer in module.named_buffers() if buffer in moving},
    }


def _measure_batch_norms(trainer: pl.Trainer, module: DROLTModule) -> None:
    """Measures the statistics of the backbone's BatchNorm layers anew, for the weights that it has.

    Each rank takes its batches of the epoch; the ranks' means are averaged, as `update_bn` averages those of batches.
    """
    layers = [layer for layer in batch_norms(module.backbone) if layer.training]
    if not layers:
        return
    loader = data_of(trainer).train_dataloader()

    def images() -> Iterator[Tensor]:
        for batch in islice(iter(loader), int(trainer.num_training_batches)):
            first = Batch.of(batch, module.stage.views).images.to(module.device, non_blocking=True)
            yield first.contiguous(memory_format=torch.channels_last) if first.ndim == 4 else first

    with isolate_rng(), trainer.precision_plugin.forward_context():
        update_bn(images(), module.backbone)
    module.train()  # `update_bn` puts all parts of the backbone into the same mode
    if trainer.world_size > 1:
        for layer in layers:
            for statistic in (layer.running_mean, layer.running_var):
                if statistic is not None:
                    dist.all_reduce(statistic)
                    statistic /= trainer.world_size
