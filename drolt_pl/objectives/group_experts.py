"""Objectives of LFME (Xiang et al. 2020): networks that are experts of a shot group each, and a student of theirs."""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.centroids import evaluating
from drolt_pl.checked import checked
from drolt_pl.errors import SettingError
from drolt_pl.groups import GROUPS, group_masks
from drolt_pl.losses import Criterion
from drolt_pl.losses.pacing import distillation, expert_weights, image_weights
from drolt_pl.metrics import ShotAccuracy
from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.ranges import BelowOne, Positive, PositiveFraction


class Expert(nn.Module):
    """A network for some of the classes: a copy of a backbone, and a linear layer.

    Args:
        backbone: The network to copy.
        num_features: D.
        classes: Its classes, (K,), rising; its logits are (B, K).
    """

    classes: Tensor

    def __init__(self, backbone: nn.Module, num_features: int, classes: Tensor) -> None:
        super().__init__()
        self.backbone, self.head = deepcopy(backbone), nn.Linear(num_features, len(classes))
        self.register_buffer("classes", classes, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits


@checked
class GroupExperts(Objective):
    r"""Trains an expert of each shot group on the group's images alone; the run's own network does not learn.

    .. math:: \frac{1}{B} \sum_i \frac{C n_{y_i}}{N_{g(y_i)}} \ell_i

    l is the cross-entropy over the classes of the image's group. The factor has the images n of the class and N of the
    group: under class-balanced sampling, each expert has the risk of its group's images as they come. At a stage's
    first step they take over the network's weights. At each validation they are measured, each on the images of its
    group among its classes.

    Args:
        backbone: The network to copy.
        num_features: D.
        class_counts: Training images per class, (C,).
        many, few: Limits of the shot groups, see `groups.group_masks`.
        criterion, options: See `Objective`; the criterion is not used.

    Attributes:
        named: The experts by group; a group without classes has none.

    The buffer `accuracies` (3,) is that of the last validation, by group; nan where none is known.
    """

    needs_validation = True
    accuracies: Tensor
    owners: Tensor
    places: Tensor
    factors: Tensor

    def __init__(
        self,
        *,
        criterion: Criterion,
        backbone: nn.Module,
        num_features: int,
        class_counts: list[int],
        many: int,
        few: int,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        counts = torch.as_tensor(class_counts)
        masks = {name: mask for name, mask in group_masks(counts, many, few).items() if mask.any()}
        self.named = {name: Expert(backbone, num_features, mask.nonzero()[:, 0]) for name, mask in masks.items()}
        self.parts = nn.ModuleList(self.named.values())
        owners, places, factors = torch.zeros_like(counts), torch.zeros_like(counts), torch.zeros(len(counts))
        for owner, mask in enumerate(masks.values()):
            owners[mask], places[mask] = owner, torch.arange(int(mask.sum()))
            factors[mask] = (len(counts) * counts[mask].double() / counts[mask].sum()).float()
        for name, values in (("owners", owners), ("places", places), ("factors", factors)):
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("accuracies", torch.full((len(GROUPS),), torch.nan))
        self._measured = ShotAccuracy(counts, many=many, few=few)
        self._begins = True

    def experts(self) -> "GroupExperts":
        return self

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        self._begins = progress == 0

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        if batch.partners is not None:
            raise SettingError("mixing", "must be null for this objective")
        if self._begins:  # not when it was built: a stage before may have trained the network
            for expert in self.named.values():
                expert.backbone.load_state_dict(learner.backbone.state_dict())
            self._begins = False
        total, right = torch.zeros((), device=batch.targets.device), torch.zeros((), device=batch.targets.device)
        for owner, expert in enumerate(self.named.values()):
            rows = (self.owners[batch.targets] == owner).nonzero()[:, 0]
            if not len(rows):
                continue
            expert.train(self.training and len(rows) > 1)  # BatchNorm has no statistics of one image
            logits, classes = expert(batch.images[rows]), batch.targets[rows]
            losses = F.cross_entropy(_wide(logits), self.places[classes], reduction="none")
            total = total + (self.factors.to(losses.dtype)[classes] * losses).sum()
            right = right + (expert.classes[logits.detach().argmax(1)] == classes).sum()
        loss = total / len(batch.targets)
        return {"loss_experts": loss, "acc": right / len(batch.targets), "loss": loss}

    def validate(self, images: Tensor, targets: Tensor) -> None:
        """Measures the experts on a batch."""
        predicted = torch.zeros_like(targets)
        for owner, expert in enumerate(self.named.values()):
            rows = (self.owners[targets] == owner).nonzero()[:, 0]
            if len(rows):
                predicted[rows] = expert.classes[expert(images[rows]).argmax(1)]
        self._measured.update(predicted, targets)

    def validated(self, accuracies: Mapping[str, Tensor]) -> None:
        """Takes the experts' accuracies over all batches and ranks, and not the network's."""
        self.accuracies.copy_(_by_group(self._measured.compute()))
        self._measured.reset()


@checked
class SelfPaced(Objective):
    r"""The criterion on images weighed by `image_weights`, plus distillation from the experts of groups (LFME).

    .. math:: \frac{1}{\sum_i w_i} \sum_i v_i \ell_i + \sum_g w_g L_g

    L is `distillation` over the group's classes, of all images of the batch, and w are `expert_weights` of the
    accuracies at the last validation; before the first the student's are 0. The experts are those of a stage before;
    they do not learn. The floor of an image's weight is the mean class size of the smallest group over that of the
    image's own.

    Args:
        class_counts: Training images per class, (C,).
        earlier: The objectives of the stages before, one of which is `GroupExperts`.
        alpha: See `expert_weights`; 0.3 in the authors' code.
        temperature: See `distillation`; theirs is 2.
        full: See `image_weights`; 0.5 in their code.
        criterion, options: See `Objective`.

    The buffer `accuracies` (3,) is the student's at the last validation, by group.

    Raises:
        SettingError: no stage before has experts.
    """

    needs_validation = True
    accuracies: Tensor
    floors: Tensor

    def __init__(
        self,
        *,
        criterion: Criterion,
        class_counts: list[int],
        earlier: Sequence[Objective],
        alpha: BelowOne = 0.3,
        temperature: Positive = 2.0,
        full: PositiveFraction = 0.5,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        found = tuple(part for part in (objective.experts() for objective in earlier) if part is not None)
        if len(found) != 1:
            remedy = "let one of the stages before have objective=group_experts"
            raise SettingError("earlier", "must hold one objective with experts", len(found), remedy=remedy)
        self._found = found  # not a part of this module: the experts' parameters belong to their own objective
        self.alpha, self.temperature, self.full, self.progress = alpha, temperature, full, 0.0
        counts = torch.as_tensor(class_counts).double()
        means = torch.stack([counts[expert.classes].mean() for expert in found[0].named.values()])
        floors = (means.min() / means)[found[0].owners].float()
        self.register_buffer("floors", floors, persistent=False)
        self.register_buffer("accuracies", torch.zeros(len(GROUPS)))

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        self.progress = progress
        if progress == 0:
            self.accuracies.zero_()

    def validated(self, accuracies: Mapping[str, Tensor]) -> None:
        self.accuracies.copy_(_by_group(accuracies))

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        if batch.partners is not None:  # an expert's confidence is in one class
            raise SettingError("mixing", "must be null for this objective")
        (experts,) = self._found
        with evaluating(experts):
            taught = {name: _wide(expert(batch.images)) for name, expert in experts.named.items()}
        logits = learner.classifier(learner.training_features(batch.images))
        chances = torch.zeros_like(logits, dtype=torch.float32)  # (B, C), of each class by the expert of its group
        for name, expert in experts.named.items():
            chances[:, expert.classes] = taught[name].softmax(1).to(chances.dtype)
        confidence = chances.gather(1, batch.targets[:, None])[:, 0]
        paces = image_weights(confidence, self.floors[batch.targets], self.progress, full=self.full)
        losses, weights = self.criterion.parts(logits, batch.targets, batch.partners, batch.shares)
        ce = self.criterion.mean(paces * losses, weights)
        followed = dict(zip(GROUPS, expert_weights(experts.accuracies, self.accuracies, alpha=self.alpha), strict=True))
        total = ce
        terms = {"loss_ce": ce, "image_weight": paces.mean()}
        for name, expert in experts.named.items():
            distance = distillation(logits[:, expert.classes], taught[name], temperature=self.temperature)
            terms |= {f"loss_{name}": distance, f"weight_{name}": followed[name]}
            total = total + followed[name] * distance
        acc = (logits.detach().argmax(1) == batch.targets).float().mean()
        return {**terms, "acc": acc, "loss": total}


def _by_group(accuracies: Mapping[str, Tensor]) -> Tensor:
    """The accuracies of the groups, (3,); nan for a group that has none."""
    missing = torch.full_like(accuracies["acc"], torch.nan)
    return torch.stack([accuracies.get(name, missing).float() for name in GROUPS])


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
