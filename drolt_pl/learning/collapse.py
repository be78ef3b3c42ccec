"""Stages that learn nothing any more: said once, with what shows it."""

import pytorch_lightning as pl
from torch import Tensor

from drolt_pl.learning.module import DROLTModule, ours

EQUAL = 1e-5  # distance of centroids from their mean, over the length of that mean, below which they are one
NOTHING = 1e-3  # probability of holding the true centroid below which a ball covers nothing
PATIENCE = 3  # validations in a row that know one class: a network may begin so


class WarnOfCollapse(pl.Callback):
    """Warns, once a stage and cause, where all validation images are taken for one class, where all class means are
    one, and where the balls around them have no size or cover nothing.
    """

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()
        self._in_a_row = 0  # validations that knew one class

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        if not module.stage.uses_centroids:
            return
        known = module.centroids[module.centroid_counts > 0]
        middle = known.mean(0)
        if len(known) > 1 and bool((known - middle).norm(dim=1).max() <= EQUAL * middle.norm()):
            cause = "the backbone tells no classes apart: lower its learning rate, or raise loss.ce_weight"
            self._say(trainer, module, "the features of all classes have one mean", cause)
        if module.loss is not None:
            self._look_at_radii(trainer, module)

    def _look_at_radii(self, trainer: pl.Trainer, module: DROLTModule) -> None:
        loss = module.loss
        assert loss is not None
        mode = loss.parts()[0].balls.eps_mode
        if mode == "zero":
            return
        shrinks = "; the loss alone can only shrink learned radii: set loss.eps_prior" if mode == "learned" else ""
        radii, coverages = loss.radii().detach(), loss.coverages()
        if not bool((radii > 0).any()):
            self._say(trainer, module, "the radii of all classes are 0", f"raise loss.eps{shrinks}")
        elif coverages is not None and bool((coverages < NOTHING).all()):
            what = f"no ball covers anything: each holds its true class mean with a probability below {NOTHING:g}"
            self._say(trainer, module, what, f"raise loss.eps, or set loss.eps=auto{shrinks}")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = ours(pl_module)
        accuracy = module.evaluation.validation.accuracy
        if trainer.state.fn != "fit" or not accuracy.update_called or module.objective.experts() is not None:
            return  # while experts learn, the network waits
        only = _one_class(accuracy.compute()["per_class"])
        self._in_a_row = 0 if only is None else self._in_a_row + 1
        if only is not None and (self._in_a_row >= PATIENCE or module.schedule.ends(trainer.current_epoch)):
            cause = "its logits ignore the image: lower the stage's lr, or look at its sampling and criterion"
            self._say(trainer, module, f"all validation images are taken for class {only}", cause)

    def _say(self, trainer: pl.Trainer, module: DROLTModule, what: str, cause: str) -> None:
        key = (module.stage.name, what.split(" class ")[0])
        if key not in self._said and trainer.is_global_zero:
            print(f"warning: stage {module.stage.name}, epoch {trainer.current_epoch + 1}: {what}; {cause}", flush=True)
        self._said.add(key)


def _one_class(per_class: Tensor) -> int | None:
    """The only class that is ever recognised, and always is, of accuracies by class (C,), nan where there are none."""
    measured = per_class[~per_class.isnan()]
    right = (per_class == 1).nonzero().flatten().tolist()
    return right[0] if len(measured) > 1 and len(right) == 1 and measured.sum().item() == 1 else None
