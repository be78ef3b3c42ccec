"""The objectives of a run by name, and the robust losses among them."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from drolt_pl.centroids import ClassStatistics
from drolt_pl.learning.schedule import Schedule, Stage
from drolt_pl.learning.stages import ByName, Stages
from drolt_pl.losses import DROLTLoss, LayeredDROLTLoss
from drolt_pl.objectives import Objective

EVEN = ("class_balanced", "class_aware", "progressive")  # samplers that draw classes equally often, at the end at least


class Objectives(ByName):
    """The objectives by name, typed. Questions about the robust loss are answered for all objectives together.

    Attributes:
        robust: The objectives that own a robust loss, by name.
    """

    def __init__(self, objectives: Mapping[str, Objective]) -> None:
        super().__init__(objectives)
        self._named = dict(objectives)
        found = {name: part.robust() for name, part in objectives.items()}
        self.robust = {name: part for name, part in found.items() if part is not None}

    def named(self, name: str) -> Objective:
        """The objective of a name."""
        return self._named[name]

    @property
    def loss(self) -> DROLTLoss | LayeredDROLTLoss | None:
        """The robust loss, the first of several; null for a method without one."""
        return next((part.loss for part in self.robust.values()), None)

    @property
    def layer_widths(self) -> list[int]:
        """Widths of all tapped layers."""
        return [width for part in self.robust.values() for width in part.layer_widths]

    def tapped(self) -> list[Tensor]:
        """Features of the tapped layers in the last forward pass, (B, width) each."""
        return [part.tapped() for part in self.robust.values() if part.layer_widths]

    def set_statistics(self, of_features: ClassStatistics, of_layers: Sequence[ClassStatistics]) -> None:
        """Gives every robust loss its statistics: those of its layers, or those of the classifier's features."""
        rest = list(of_layers)
        for part in self.robust.values():
            number = len(part.layer_widths)
            part.set_statistics(rest[:number] if number else [of_features])
            rest = rest[number:]

    def parameter_groups(self, backbone: nn.Module, stages: Stages) -> dict[str, list[nn.Parameter]]:
        """Parameters by optimizer group; an objective may move some of its classifier's to the backbone's group."""
        beside: dict[nn.Parameter, None] = {}
        for stage in stages.schedule.trained:
            beside |= dict.fromkeys(self.named(stage.objective).with_backbone(stages.classifier_of(stage)))
        heads = [parameter for classifier in stages.classifiers.values() for parameter in classifier.parameters()]
        heads += [parameter for part in self._named.values() for parameter in part.learned()]
        return {
            "backbone": [*backbone.parameters(), *beside],
            "classifier": [parameter for parameter in heads if parameter not in beside],
            "eps": [parameter for part in self.robust.values() for parameter in part.loss.parameters()],
        }

    def prior(self, stage: Stage) -> str:
        """Class frequencies that the probabilities of a stage's classifier assume: `train` or `uniform`.

        Classifiers that are only fitted even out the classes, all of them.
        """
        sampled = "uniform" if stage.sampling in EVEN else "train"
        return "uniform" if stage.fits else self.named(stage.objective).prior(sampled)

    def known_radii(self, schedule: Schedule, stage: str) -> list[float] | None:
        """The radii of the balls around class means; null until a stage measures against them."""
        measured = [found.name for found in schedule.trained if found.uses_centroids]
        if self.loss is None or not measured or schedule.place(stage) < schedule.place(measured[0]):
            return None
        radii = self.loss.radii().detach()
        return radii.tolist() if radii.ndim == 1 else None
