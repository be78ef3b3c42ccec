"""One optimizer with fixed, named groups for all stages; rates are set anew for each epoch, never accumulated."""

from collections.abc import Callable, Iterable, Mapping

from torch import nn, optim

from drolt_pl.backbones import Backbone, Share
from drolt_pl.checked import checked
from drolt_pl.errors import require
from drolt_pl.learning.schedule import Group, Stage
from drolt_pl.ranges import Count, PositiveFraction, Rate

WHOLE = Share(1.0, decays=True)


@checked
class StageOptimizer:
    """Builds the optimizer and sets its rates for an epoch.

    Args:
        algorithm: `params -> optimizer`, for example a partial of `torch.optim.SGD`.
        lr: Learning rate of stages without their own.
        eps_lr: Learning rate of the learned radii, which have a scale of their own.
        backbone_factor: Factor of the backbone's rate to `lr`, in stages that give the backbone none of their own.
        layer_decay: Factor by which the backbone's rate falls from each of its layers to the one before, see
            `Backbone.layer_shares`; null for one rate. With it, biases and norms of the backbone do not decay.
        weight_decay: Weight decay of stages without their own; the radii never decay.
        base_batch: The batch that the learning rates were chosen for. All of them are multiplied by batch_size /
            base_batch (the linear scaling rule of Goyal et al. 2017). Null leaves them as they are.
        batch_size: The global batch; needed with base_batch.

    Attributes:
        lr_scale: The factor on all learning rates.
    """

    def __init__(
        self,
        algorithm: Callable[..., optim.Optimizer],
        *,
        lr: Rate,
        eps_lr: Rate | None = None,
        backbone_factor: Rate = 1.0,
        layer_decay: PositiveFraction | None = None,
        weight_decay: Rate = 0.0,
        base_batch: Count | None = None,
        batch_size: Count | None = None,
    ) -> None:
        require("base_batch", base_batch, base_batch is None or batch_size is not None, "needs a batch_size beside it")
        self.lr_scale = 1.0 if base_batch is None or batch_size is None else batch_size / base_batch
        self.algorithm, self.lr, self.eps_lr, self.weight_decay = algorithm, lr, eps_lr, weight_decay
        self.backbone_factor, self.layer_decay = backbone_factor, layer_decay

    def build(self, groups: Mapping[str, Iterable[nn.Parameter]], backbone: Backbone | None = None) -> optim.Optimizer:
        """Builds the optimizer over the named groups that are not empty; `set_rates` sets rates for each epoch.

        Args:
            groups: Parameters by name of a group.
            backbone: The network whose layers `layer_decay` tells apart: its groups have one name, and a `share` each.
        """
        shares: Mapping[nn.Parameter, Share] = {}
        if backbone is not None and self.layer_decay is not None:
            shares = backbone.layer_shares(self.layer_decay)
        made: dict[tuple[str, Share], list[nn.Parameter]] = {}
        for name, parameters in groups.items():
            for parameter in parameters:
                made.setdefault((name, shares.get(parameter, WHOLE)), []).append(parameter)
        return self.algorithm(
            [{"params": of, "name": name, "share": tuple(share)} for (name, share), of in made.items()], lr=self.lr
        )

    def rates(self, stage: Stage, group: Group, factor: float) -> tuple[float, float]:
        """(learning rate, weight decay) of a group in a stage; (0, 0) if the stage does not train the group."""
        if not stage.trains(group):
            return 0.0, 0.0
        own_lr = stage.lr.get(group) if isinstance(stage.lr, Mapping) else (None if group == "eps" else stage.lr)
        default = self.eps_lr if group == "eps" and self.eps_lr is not None else self.lr
        default *= self.backbone_factor if group == "backbone" else 1.0
        own_decay = stage.weight_decay.get(group) if isinstance(stage.weight_decay, Mapping) else stage.weight_decay
        decay = 0.0 if group == "eps" else (self.weight_decay if own_decay is None else own_decay)
        return factor * self.lr_scale * (default if own_lr is None else own_lr), decay

    def set_rates(self, optimizer: optim.Optimizer, stage: Stage, factor: float) -> dict[str, float]:
        """Sets every group's rate and decay for an epoch, and returns the learning rates by group name.

        Of a backbone whose layers have rates of their own, it returns the rate of the last.
        """
        rates: dict[str, float] = {}
        for group in optimizer.param_groups:
            share = Share(*group["share"])
            rate, decay = self.rates(stage, group["name"], factor)
            group["lr"], group["weight_decay"] = rate * share.factor, decay if share.decays else 0.0
            rates[group["name"]] = rate
        return rates
