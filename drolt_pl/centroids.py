"""Class centroids and variance statistics in one pass over the features, on one process or many."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from drolt_pl.classes import class_indices
from drolt_pl.errors import require_int

PIECE = 16_384  # samples that are in float64 at a time
POOLED_SAMPLES = 10  # pseudo-observations of the pooled variance in a class's own


class ClassStatistics(NamedTuple):
    """Statistics of C classes in feature space.

    Attributes:
        centroids: Class means, (C, D), float32; zero for a class without samples.
        counts: Samples per class, (C,), int64.
        total_variance: Shrunk total within-class variance tau_c^2, (C,), in squared feature units.
        effective_dim: nu = (tr S)^2 / tr(S^2) of the pooled within-class covariance S, 0-d.
    """

    centroids: Tensor
    counts: Tensor
    total_variance: Tensor
    effective_dim: Tensor


class StatisticsSums:
    """Float64 sums from which the statistics follow; O(C D + D^2) memory for any number of samples."""

    def __init__(self, num_classes: int, num_features: int, device: torch.device | str | None = None) -> None:
        double = {"dtype": torch.float64, "device": device}
        self.sums = torch.zeros(num_classes, num_features, **double)  # type: ignore[arg-type]
        self.squares = torch.zeros(num_classes, **double)  # type: ignore[arg-type]  # of norms
        self.outer = torch.zeros(num_features, num_features, **double)  # type: ignore[arg-type]
        self.counts = torch.zeros(num_classes, dtype=torch.int64, device=device)

    def update(self, features: Tensor, targets: Tensor) -> None:
        """Adds a batch: features (B, D), targets (B,); long ones piece by piece, for the memory of float64.

        Raises:
            ValueError: a shape that does not fit; on CPU also a target outside [0, C).
        """
        num_features = self.sums.shape[1]
        if features.ndim != 2 or features.shape[1] != num_features:
            raise ValueError(f"features must have shape (N, {num_features}), got {tuple(features.shape)}")
        targets = class_indices(targets, len(features), len(self.sums))
        for piece, labels in zip(torch.split(features.detach(), PIECE), torch.split(targets, PIECE), strict=True):
            self._add(piece.double(), labels)

    def _add(self, features: Tensor, targets: Tensor) -> None:
        self.sums.index_add_(0, targets, features)
        self.squares.index_add_(0, targets, features.square().sum(1))
        self.outer.addmm_(features.T, features)
        self.counts.index_add_(0, targets, torch.ones_like(targets))

    def all_reduce(self) -> None:
        """Adds up the sums of all ranks in place; every rank must call it, even one without samples."""
        if dist.is_available() and dist.is_initialized():
            for total in (self.sums, self.squares, self.outer, self.counts):
                dist.all_reduce(total)

    def compute(self) -> ClassStatistics:
        """The statistics of everything added so far."""
        counts = self.counts.double()
        means = self.sums / counts.clamp(min=1)[:, None]  # (C, D)
        scatter = (self.squares - counts * means.square().sum(1)).clamp(min=0)  # (C,): sum ||z - mu_c||^2
        # Degrees of freedom of the pooled variance: one is spent on every class that has samples.
        pooled = scatter.sum() / (counts.sum() - (counts > 0).sum()).clamp(min=1)
        total_variance = (scatter + POOLED_SAMPLES * pooled) / ((counts - 1).clamp(min=0) + POOLED_SAMPLES)
        within = self.outer - (means * counts[:, None]).T @ means  # (D, D), proportional to S
        trace_of_square = within.square().sum()
        # If no class has two different samples, only the rounding of the sums is left.
        has_spread = within.trace() > 1e-12 * self.outer.trace()
        effective_dim = torch.where(has_spread, within.trace() ** 2 / trace_of_square, 1.0)
        # By definition nu lies between 1 (a line) and D (a sphere); rounding may leave this range.
        effective_dim = effective_dim.clamp(1, means.shape[1])
        return ClassStatistics(means.float(), self.counts.clone(), total_variance.float(), effective_dim.float())


def class_statistics(features: Tensor, targets: Tensor, num_classes: int) -> ClassStatistics:
    r"""Class means, counts, shrunk within-class variances and effective dimension of one set of features.

    With :math:`\tau_c^2 = \sum_i \|z_i - \mu_c\|^2 / (n_c - 1)` and :math:`\tau^2` its pooled value over all classes,
    the variance returned is :math:`((n_c - 1) \tau_c^2 + 10 \tau^2) / (n_c + 9)`.

    Args:
        features: (N, D), any float dtype; summed in float64.
        targets: (N,), integers in [0, C).
        num_classes: C.

    Raises:
        ValueError: a shape that does not fit; on CPU also a target outside [0, C).

    Example:
        >>> import torch
        >>> stats = class_statistics(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([1, 1]), num_classes=2)
        >>> stats.centroids.tolist(), stats.counts.tolist()
        ([[0.0, 0.0], [1.0, 0.0]], [0, 2])
    """
    if features.ndim != 2:
        raise ValueError(f"features must have shape (N, D), got {tuple(features.shape)}")
    require_int("num_classes", num_classes, at_least=1)
    sums = StatisticsSums(num_classes, features.shape[1], features.device)
    sums.update(features, targets)
    return sums.compute()


def dataset_statistics(
    embed: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    num_features: int,
    device: torch.device,
) -> ClassStatistics:
    """Computes the statistics of a whole data set; every rank must call it with its own shard.

    Args:
        embed: images -> features (B, D).
        batches: (images, targets) of this rank's shard.
        num_classes: C.
        num_features: D.
        device: Device of the sums.
    """
    (statistics,) = blockwise_statistics(embed, batches, num_classes=num_classes, widths=[num_features], device=device)
    return statistics


def blockwise_statistics(
    embed: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    widths: Sequence[int],
    device: torch.device,
) -> list[ClassStatistics]:
    """As `dataset_statistics`, for several kinds of features that `embed` concatenates, (B, sum of widths)."""
    blocks = [StatisticsSums(num_classes, width, device) for width in widths]
    for images, targets in batches:
        features = embed(images.to(device, non_blocking=True))
        targets = targets.to(device, non_blocking=True)
        for sums, part in zip(blocks, torch.split(features, list(widths), 1), strict=True):
            sums.update(part, targets)
    for sums in blocks:
        sums.all_reduce()
    return [sums.compute() for sums in blocks]


def dataset_features(
    embed: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]], *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Collects the features (N, D), in at least float32, and targets (N,) of a whole data set from all ranks' shards.

    Args:
        embed: images -> features (B, D).
        batches: (images, targets) of this rank's shard; call it on every rank.
        device: Device of the result.
    """
    pairs = [(embed(images.to(device)).cpu(), targets.cpu()) for images, targets in batches]
    shards: list[list[tuple[Tensor, Tensor]]] = [pairs]
    if dist.is_available() and dist.is_initialized():
        shards = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(shards, pairs)
    features, targets = (torch.cat(parts) for parts in zip(*(pair for shard in shards for pair in shard), strict=True))
    return features.to(device, torch.promote_types(features.dtype, torch.float32)), targets.to(device)


def broadcast_buffers(module: nn.Module) -> None:
    """Gives every rank rank 0's buffers: BatchNorm statistics are rank-local between two DDP forwards."""
    if dist.is_available() and dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Runs the block in eval mode and without gradient, and restores each submodule's mode after it."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def step_centroids(
    source: str, centroids: Tensor, features: Tensor, targets: Tensor, *, decay: float
) -> tuple[Tensor, Tensor]:
    """The centroids that one step measures against, and the centroids to remember, (C, D) each.

    Args:
        source: `epoch` takes the remembered centroids. `batch` takes the means of the batch of all ranks, and the
            remembered centroids for classes that are not in it. `ema` moves the remembered centroids towards these
            means.
        centroids: The remembered centroids, (C, D).
        features: Features of this rank's batch, (B, D).
        targets: Their classes, (B,).
        decay: Weight of the remembered centroids in `ema`.
    """
    if source == "epoch":
        return centroids, centroids
    num_classes, num_features = centroids.shape
    sums = StatisticsSums(num_classes, num_features, centroids.device)
    sums.update(features, targets)
    sums.all_reduce()
    batch = sums.compute()
    present = batch.counts[:, None] > 0
    if source == "batch":
        return torch.where(present, batch.centroids, centroids), centroids
    moved = torch.where(present, decay * centroids + (1 - decay) * batch.centroids, centroids)
    return moved, moved
