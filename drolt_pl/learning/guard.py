"""Steps whose loss or gradients are no numbers: the run stops at them or leaves them out, and saves nothing of them."""

from collections.abc import Iterable, Mapping, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor

from drolt_pl.errors import SettingError, require_choice
from drolt_pl.learning.module import DROLTModule, ours
from drolt_pl.learning.suspects import Suspects

MODES = ("stop", "skip", "off")
LOOKS_EVERY = 50  # steps of an epoch, on an accelerator: reading a value back makes the host wait for it


class NonFiniteError(SettingError):
    """A loss, a gradient, a weight or a centroid became infinite or not a number."""


class Guard(pl.Callback):
    """Looks for what is no number in losses, gradients, weights and centroids.

    On CPUs it looks at every step, on accelerators at every 50th; everywhere at the end of an epoch, before anything
    is saved.

    Args:
        mode: `stop` ends the run in a sentence that says where, and the likely cause. `skip` leaves the step out:
            weights, momentum and statistics of BatchNorm stay as they were; it looks at every step, on accelerators
            too. `off` looks only before something is saved.
        suspects: Numbers of the configuration that are not finite, by key.

    Attributes:
        skipped: Steps that were left out.
    """

    def __init__(self, mode: str = "stop", suspects: Mapping[str, float] | None = None) -> None:
        require_choice("guard", mode, MODES)
        self.mode, self.suspects = mode, Suspects(suspects or {})
        self.skipped, self._warned = 0, -1
        self._batch: Sequence[object] = ()
        self._step = 0
        self._buffers: list[Tensor] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        if self.mode != "off" and module.needs_centroids(trainer.current_epoch):
            wrong = ~module.centroids.isfinite().all(1)
            if bool(wrong.any()):
                where = f"are not finite at the start of {_place(trainer, module)}, for classes {_some(wrong)}"
                raise NonFiniteError("class means of the features", where, remedy=self.suspects.of_features(module))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Sequence[object], batch_idx: int
    ) -> None:
        self._batch, self._step = batch, batch_idx
        if self.mode == "skip" and batch_idx % trainer.accumulate_grad_batches == 0:
            self._buffers = [buffer.clone() for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        module = ours(pl_module)
        terms = module.terms.last
        if self.mode != "stop" or not self._looks(trainer, pl_module) or bool(terms["loss"].isfinite()):
            return
        name, value = next((name, value) for name, value in terms.items() if not bool(value.isfinite()))
        cause, remedy = self.suspects.of_step(trainer, module, self._batch, name, self._step)
        raise NonFiniteError(
            f"train/{name}", f"is {value.item()} in {_place(trainer, module, self._step)}: {cause}", remedy=remedy
        )

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        plugin = trainer.precision_plugin
        scales = isinstance(plugin, MixedPrecision) and plugin.scaler is not None  # it leaves such steps out itself
        if self.mode == "off" or scales or not (self.mode == "skip" or self._looks(trainer, pl_module)):
            return
        module = ours(pl_module)
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        if are_finite(gradients.values()):
            return
        if self.mode == "skip":
            self._leave_out(trainer, module)
            return
        name = next(name for name, gradient in gradients.items() if not bool(gradient.isfinite().all()))
        place, loss = _place(trainer, module, self._step), module.terms.last["loss"].item()
        samples = self.suspects.samples(trainer, self._step)
        where = f"is not finite in {place}, though the loss is {loss:.4g}{samples}"
        raise NonFiniteError(f"the gradient of {name}", where, remedy=self.suspects.of_weights())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self._batch = ()
        if trainer.is_last_batch and self.mode != "off":
            self._require_finite(trainer, ours(pl_module), dict(pl_module.named_parameters()), "after the last step of")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.mode != "off":
            self._require_finite_logits(trainer, ours(pl_module), "validation")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._require_finite_logits(trainer, ours(pl_module), "test")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.mode == "skip":
            pl_module.log("guard/skipped_steps", float(self.skipped))
        state = dict(pl_module.state_dict())
        for optimizer in trainer.optimizers:
            for number, kept in enumerate(optimizer.state.values()):
                state |= {
                    f"optimizer.{number}.{name}": value for name, value in kept.items() if isinstance(value, Tensor)
                }
        self._require_finite(trainer, ours(pl_module), state, "at the end of")

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.skipped = state_dict["skipped"]

    def _looks(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        return pl_module.device.type == "cpu" or self._step % LOOKS_EVERY == 0 or trainer.is_last_batch

    def _leave_out(self, trainer: pl.Trainer, module: DROLTModule) -> None:
        """Takes the step back: without gradients the optimizer moves nothing."""
        for parameter in module.parameters():
            parameter.grad = None
        for buffer, before in zip(module.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        module.terms.forget_last()
        self.skipped += 1
        if trainer.is_global_zero and self._warned != trainer.current_epoch:
            place = _place(trainer, module, self._step)
            print(f"warning: guard=skip left out {place}, and others of this epoch where they are alike", flush=True)
            self._warned = trainer.current_epoch

    def _require_finite_logits(self, trainer: pl.Trainer, module: DROLTModule, images: str) -> None:
        finite = module.evaluation.finite
        if finite is not None and not bool(finite):
            demand = f"are not finite after the last step of {_place(trainer, module)}, though the weights are"
            raise NonFiniteError(f"the logits of {images} images", demand, remedy=self.suspects.of_weights())

    def _require_finite(self, trainer: pl.Trainer, module: DROLTModule, state: Mapping[str, Tensor], when: str) -> None:
        if are_finite(state.values()):
            return
        wrong = [
            name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())
        ]
        shown = f"{', '.join(wrong[:3])}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}"
        demand = f"not finite {when} {_place(trainer, module)}; nothing of it was saved"
        raise NonFiniteError(shown, f"{'is' if len(wrong) == 1 else 'are'} {demand}", remedy=self.suspects.of_weights())


@torch.no_grad()
def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all values of floating-point tensors are numbers; as a rule, one value a device is read back."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.is_floating_point():
            by_device.setdefault(tensor.device, []).append(tensor)
    # A sum takes a tenth of the time of looking at each; only that it may overflow.
    return all(
        bool(torch.cat([tensor.flatten() for tensor in found]).sum().isfinite())
        or all(bool(tensor.isfinite().all()) for tensor in found)
        for found in by_device.values()
    )


def _place(trainer: pl.Trainer, module: DROLTModule, step: int | None = None) -> str:
    """`epoch 3 (stage joint), step 7`: both count from 1, as people do."""
    rank = f" of rank {trainer.global_rank}" if trainer.world_size > 1 else ""
    after = "" if step is None else f", step {step + 1}{rank}"
    return f"epoch {trainer.current_epoch + 1} (stage {module.stage.name}){after}"


def _some(wrong: Tensor) -> str:
    found = wrong.nonzero().flatten().tolist()
    return f"{', '.join(map(str, found[:5]))}{f' and {len(found) - 5} more' if len(found) > 5 else ''}"
