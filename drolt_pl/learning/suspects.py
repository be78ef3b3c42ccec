"""Why a step has no finite loss: the images, the configuration or the weights, as far as they can be told apart."""

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
import torch

from drolt_pl.centroids import evaluating
from drolt_pl.learning.module import DROLTModule
from drolt_pl.learning.protocols import NamesSamples, data_of
from drolt_pl.objectives import Batch

SLOWER = "lower optimizer.lr or the stage's lr, or set loss.feature_norm=l2"
SHOWN = 5  # names of samples
HUGE = 1e4  # of features and logits; those of sound networks stay below 100


class Suspects:
    """Tells the likely cause of what is no number.

    Args:
        settings: Numbers of the configuration that are not finite, by key.
    """

    def __init__(self, settings: Mapping[str, float]) -> None:
        self.settings = dict(settings)

    def of_step(
        self, trainer: pl.Trainer, module: DROLTModule, batch: Sequence[object], term: str, step: int
    ) -> tuple[str, str]:
        """The cause of a term of the loss of a batch, and what to do about it."""
        parts = Batch.of(batch, module.stage.views)
        names = _names(trainer, step)
        wrong = ~parts.images.flatten(1).isfinite().all(1)
        if parts.shares is not None and not bool(parts.shares.isfinite().all()):
            return "so are the shares of its mixed images", self._blamed("mixing", "the mixing of this stage")
        if bool(wrong.any()):
            few = [name for name, bad in zip(names, wrong.tolist(), strict=False) if bad]
            of = f" ({_listed(few)})" if few else ""
            what = f"{int(wrong.sum())} of its {len(wrong)} images hold values that are no numbers{of}"
            return what, self._blamed("dataset", "these files, dataset.mean and dataset.std", "augment")
        of = self.samples(trainer, step)
        bad = next((name for name, value in module.named_parameters() if not bool(value.isfinite().all())), None)
        if bad is not None:
            return f"its images are right, and the weights are no numbers any more ({bad}){of}", self.of_weights()
        with torch.no_grad(), evaluating(module):
            features = module.features(parts.images)
            logits = module.classifier(features)
        if not bool(features.isfinite().all()):
            return f"its features are not finite, though images and weights are{of}", self.of_weights()
        if not bool(logits.isfinite().all()):
            return f"its features are right, and the classifier makes no numbers of them{of}", self._blamed(
                "classifier", "the classifier and its arguments", "schedule"
            )
        largest = max(features.abs().max().item(), logits.abs().max().item())
        if largest > HUGE:
            return f"its features and logits reach {largest:.2g}, the weights have grown{of}", self.of_weights()
        section = {"loss_robust": "loss", "loss_prior": "loss", "loss_ce": "criterion"}.get(term, "objectives")
        return f"its features and logits are right{of}", self._blamed(section, f"{section}.*, and {SLOWER}", "groups")

    def samples(self, trainer: pl.Trainer, step: int) -> str:
        """The samples of a step, in brackets."""
        names = _names(trainer, step)
        return f" (samples {_listed(names)})" if names else ""

    def of_weights(self) -> str:
        """What to do about weights or gradients that are no numbers."""
        return self._blamed("optimizer", SLOWER, "schedule")

    def of_features(self, module: DROLTModule) -> str:
        """What to do about features that are no numbers, of weights that are."""
        return self._blamed("dataset", f"look at the values of the images and dataset.std, or {SLOWER}")

    def _blamed(self, section: str, usual: str, *further: str) -> str:
        """A setting of a section that is no number; else what to look at as a rule."""
        own = [key for key in self.settings if key.startswith((f"{section}.", *(f"{name}." for name in further)))]
        key = next(iter([*own, *self.settings]), None)
        if key is not None:
            return f"{key} is {self.settings[key]} in the configuration: set it to a number"
        return usual if usual.startswith(("lower", "look")) else f"look at {usual}"


def _names(trainer: pl.Trainer, step: int) -> list[str]:
    """The samples of this rank in a step, where the data module knows; views of one come one after the other."""
    data: object = data_of(trainer)
    return data.names_of_step(trainer.current_epoch, step) if isinstance(data, NamesSamples) else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
