"""The stage in force, its classifier, and the start of a stage."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from drolt_pl import checkpoint_file
from drolt_pl.classifiers import Classifier
from drolt_pl.errors import SettingError
from drolt_pl.learning.schedule import Schedule, Stage


class Stages:
    """Keeps the stage in force and the classifiers that stages own.

    Args:
        schedule: The stages.
        classifiers: Classifiers by the stage that owns them, see `Schedule.classifier_of`.
        seed: Seeds the classifiers that stages start.
        checkpoint_dir: Where `start_from: best` finds the best epoch of the stage before; null for the current folder.

    Attributes:
        stage: The stage in force; at first the stage of epoch 0.
        to_fit: Whether the classifier of the stage in force still has to be fitted; `FitClassifier` fits it.
    """

    def __init__(
        self,
        schedule: Schedule,
        classifiers: Mapping[str, Classifier],
        *,
        seed: int = 0,
        checkpoint_dir: str | Path | None = None,
    ) -> None:
        self.schedule, self.classifiers, self.seed = schedule, dict(classifiers), seed
        self.checkpoint_dir = Path(checkpoint_dir or ".")
        self.stage: Stage = schedule.stage_at(0)
        self.to_fit = False
        for name in self.classifiers:
            self._begin(name)

    @property
    def classifier(self) -> Classifier:
        """The classifier of the stage in force."""
        return self.classifier_of(self.stage)

    def classifier_of(self, stage: Stage) -> Classifier:
        """The classifier that a stage uses."""
        return self.classifiers[self.schedule.classifier_of(stage.name)]

    def use(self, name: str) -> None:
        """Puts a stage in force without starting it, for evaluation."""
        self.stage, self.to_fit = self.schedule.named(name), False

    def start(self, name: str) -> None:
        """Puts a stage in force and starts its own classifier, if it owns one."""
        self.stage = self.schedule.named(name)
        if self.stage.classifier != "keep":
            self._begin(name)
        self.to_fit = self.classifier.needs_fit

    def fits(self, epoch: int) -> bool:
        """Whether an epoch begins with a fit of its stage's classifier."""
        return self.schedule.enters(epoch) and self.classifier_of(self.schedule.stage_at(epoch)).needs_fit

    def start_weights(self, device: torch.device | str = "cpu") -> dict[str, Tensor] | None:
        """Weights of the best epoch before, if the stage in force starts from it; null if it goes on from the last."""
        before = self.schedule.before(self.stage.name)
        if before is None or self.stage.start_from != "best":
            return None
        path = self.checkpoint_dir / f"{before.name}_best.ckpt"
        weights: dict[str, Tensor] = checkpoint_file.read(path)["state_dict"]
        return {name: value.to(device) for name, value in weights.items()}

    def _begin(self, name: str) -> None:
        before = self.schedule.before(name)
        previous = None if before is None else self.classifier_of(before)
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.schedule.place(name))
        try:
            self.classifiers[name].begin(previous, generator=generator)
        except TypeError as error:
            raise SettingError(f"schedule.stages.{name}.classifier", f"does not fit: {error}") from error


class ByName(nn.ModuleDict):
    """Modules by name. The name may be one of `nn.Module`'s methods: a stage may be called `train`."""

    def __setitem__(self, key: str, module: nn.Module) -> None:
        self._modules[key] = module


def freeze(stage: Stage, backbone: nn.Module, classifier: nn.Module) -> None:
    """Puts the parts that a stage freezes into eval mode; with `shift_bn` BatchNorm layers stay in train mode."""
    training = backbone.training
    for name, part in (("backbone", backbone), ("classifier", classifier)):
        if not stage.trains(name):
            part.eval()
    if training and stage.shift_bn:
        for layer in batch_norms(backbone):
            layer.train()


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The BatchNorm layers of a module."""
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
