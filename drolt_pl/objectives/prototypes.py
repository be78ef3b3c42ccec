"""Contrast with classes: with their laws on the sphere (ProCo), or with learnable centres beside a queue (PaCo)."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Annotated

import torch
import torch.distributed as dist
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.errors import require
from drolt_pl.losses import Criterion
from drolt_pl.losses.batch import class_histogram, gather_keys
from drolt_pl.losses.parametric import parametric_contrastive
from drolt_pl.losses.vmf import expected_contrast
from drolt_pl.objectives.base import Batch, Learner, Objective
from drolt_pl.objectives.contrastive import projection
from drolt_pl.ranges import BelowOne, Count, Inside, NonNegative, Positive, Width


@checked
class ProbabilisticContrast(Objective):
    """The criterion, and the criterion of `expected_contrast` as logits (ProCo, Du et al. 2024).

    The source has a logit-adjusted criterion. Means of classes run over an epoch and the one before; all ranks count.
    With three views the first is classified and the other two are contrasted, with another number every view is both.

    Args:
        num_features: D.
        num_classes: C.
        weight: Weight of the contrast; 1 in the source.
        temperature: T.
        num_outputs: Width E of the projections, >= 8, where the expansion of Bessel functions holds.
        num_hidden: Width of their inner layer; null for D. Their code for CIFAR has 512.
        criterion, options: See `Objective`.

    Buffers are the running means (2, C, E) and counts (2, C): those in use, which begin with the epoch before, and
    those of this epoch alone.
    """

    means: Tensor
    counts: Tensor

    def __init__(
        self,
        *,
        criterion: Criterion,
        num_features: int,
        num_classes: int,
        weight: NonNegative = 1.0,
        temperature: Positive = 0.1,
        num_outputs: Annotated[int, Ge(8), Le(65_536)] = 128,
        num_hidden: Width | None = None,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.weight, self.temperature = weight, temperature
        self.projection = projection(num_features, num_outputs, hidden=num_hidden, norm=True)
        self.register_buffer("means", torch.zeros(2, num_classes, num_outputs))
        self.register_buffer("counts", torch.zeros(2, num_classes))

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        for kept in (self.means, self.counts):
            kept[0].copy_(kept[1])
            kept[1].zero_()

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        features = learner.training_features(batch.images)
        embeddings = self.projection(features)
        classified = contrasted = slice(None)
        if batch.views == 3:
            first = len(batch.targets) // 3
            classified, contrasted = slice(first), slice(first, None)
        terms = self.classify(learner, batch.part(classified), features[classified])
        seen, targets = embeddings[contrasted], batch.targets[contrasted]
        self._count(seen.detach(), targets)
        logits = expected_contrast(seen, self.means[0], temperature=self.temperature)
        contrast = self.criterion(logits, targets).to(terms["loss_ce"].dtype)
        return {**terms, "loss_contrastive": contrast, "loss": terms["loss_ce"] + self.weight * contrast}

    @torch.no_grad()
    def _count(self, embeddings: Tensor, targets: Tensor) -> None:
        """Takes a batch into both running means."""
        added = class_histogram(targets, self.means.shape[1]).to(self.counts.dtype)
        total = torch.zeros_like(self.means[0])
        total.index_add_(0, targets, F.normalize(embeddings.to(total.dtype), dim=1))
        if dist.is_available() and dist.is_initialized():
            for summed in (added, total):
                dist.all_reduce(summed)
        number = self.counts + added  # (2, C)
        self.means.copy_((self.means * self.counts[..., None] + total) / number.clamp(min=1)[..., None])
        self.counts.copy_(number)


@checked
class ParametricContrast(Objective):
    """`parametric_contrastive` of the first view with the second and a queue (PaCo, Cui et al. 2021; GPaCo 2023).

    The classifier's logits plus log p are those of the centres. PaCo sees the second view, without gradient, through a
    copy of backbone and projection that follows them by a moving average; GPaCo sees both through the network itself,
    and both are queries.

    Args:
        backbone: The network to copy.
        num_features: D.
        class_counts: Training images per class, (C,).
        momentum: Of the copy, 0.999 in PaCo; null for GPaCo, without a copy.
        queue: Number of earlier keys; 1,024 in their code for CIFAR, 8,192 for large sets.
        temperature, alpha, smoothing: See `parametric_contrastive`.
        num_outputs: Width of the projections; 32 in their command for CIFAR, 128 for large sets.
        criterion, options: See `Objective`; the criterion is not used.

    Raises:
        SettingError: the stage has another number of views than two.
    """

    keys: Tensor
    key_targets: Tensor
    place: Tensor

    def __init__(
        self,
        *,
        criterion: Criterion,
        backbone: nn.Module,
        num_features: int,
        class_counts: list[int],
        momentum: Inside | None = 0.999,
        queue: Count = 1024,
        temperature: Positive = 0.05,
        alpha: NonNegative = 0.01,
        smoothing: BelowOne = 0.0,
        num_outputs: Width = 32,
        **options: object,
    ) -> None:
        super().__init__(criterion=criterion)
        self.momentum, self.temperature, self.alpha, self.smoothing = momentum, temperature, alpha, smoothing
        self.projection = projection(num_features, num_outputs, norm=True)
        network = nn.ModuleList([backbone, self.projection])
        self.copied = None if momentum is None else deepcopy(network).requires_grad_(False)
        counts = torch.as_tensor(class_counts).double()
        self.register_buffer("log_prior", (counts / counts.sum()).log().float(), persistent=False)
        self.register_buffer("keys", torch.zeros(queue, num_outputs))
        self.register_buffer("key_targets", torch.full((queue,), -1))
        self.register_buffer("place", torch.tensor(0))
        self._begins = True

    def prior(self, sampled: str) -> str:
        return "uniform"

    def learned(self) -> Iterator[nn.Parameter]:
        return self.projection.parameters()

    def begin_epoch(self, progress: float) -> None:
        super().begin_epoch(progress)
        self._begins = progress == 0

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        require("views", batch.views, batch.views == 2, "must be 2 for this objective")
        half = len(batch.targets) // 2
        if self.copied is None:
            features = learner.training_features(batch.images)
            queries, targets = self.projection(features), batch.targets
            second = queries[half:].detach()
        else:
            features, targets = learner.training_features(batch.images[:half]), batch.targets[:half]
            queries, second = self.projection(features), self._second(learner, batch.images[half:])
        logits = learner.classifier(features)
        held = (self.keys.clone(), self.key_targets.clone())
        seen = [queries] if self.copied is None else [queries, second]
        labels = [targets] * len(seen)
        loss = parametric_contrastive(
            queries,
            targets,
            logits + self.get_buffer("log_prior").to(logits.dtype),
            torch.cat([*(part.to(held[0].dtype) for part in seen), held[0]]),
            torch.cat([*labels, held[1]]),
            temperature=self.temperature,
            alpha=self.alpha,
            smoothing=self.smoothing,
        )
        self._keep(second, batch.targets[:half])
        return {"loss_paco": loss, "acc": (logits.detach().argmax(1) == targets).float().mean(), "loss": loss}

    @torch.no_grad()
    def _second(self, learner: Learner, images: Tensor) -> Tensor:
        """Keys of the second view, through the copy after a step towards the network."""
        assert self.copied is not None
        share = 0.0 if self._begins else self.momentum or 0.0
        self._begins = False
        backbone, projected = self.copied
        for copy, part in ((backbone, learner.backbone), (projected, self.projection)):
            for kept, parameter in zip(copy.parameters(), part.parameters(), strict=True):
                kept.mul_(share).add_(parameter, alpha=1 - share)
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        found: Tensor = projected(backbone(images))
        return found

    @torch.no_grad()
    def _keep(self, keys: Tensor, targets: Tensor) -> None:
        """Puts the keys of all ranks into the queue, in place of the oldest."""
        everyone, classes, _ = gather_keys(F.normalize(keys.to(self.keys.dtype), dim=1), targets)
        size = len(self.keys)
        everyone, classes = everyone[:size], classes[:size]
        places = (self.place + torch.arange(len(classes), device=classes.device)) % size
        self.keys[places], self.key_targets[places] = everyone, classes
        self.place.copy_((self.place + len(classes)) % size)
