"""Weights of a batch's samples, weights of the keys in the denominator, and the batch of all ranks."""

from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

ClassWeight = Literal["present", "train_set", "uniform"]
Denominator = Literal["batch", "weighted"]
CLASS_WEIGHTS: tuple[str, ...] = get_args(ClassWeight)
DENOMINATORS: tuple[str, ...] = get_args(Denominator)


def class_histogram(targets: Tensor, num_classes: int) -> Tensor:
    """Samples of each class, (C,) int64; unlike bincount it does not wait for the device."""
    counts = torch.zeros(num_classes, dtype=torch.long, device=targets.device)
    return counts.index_add_(0, targets, torch.ones_like(targets, dtype=torch.long))


def sample_weights(targets: Tensor, batch_counts: Tensor, class_counts: Tensor, class_weight: ClassWeight) -> Tensor:
    """Weight w_i of each sample in the loss of the batch, (B,). With each choice the loss is 1 / C of Eq. 18 in scale.

    - ``present``: mean over the samples of a class in the batch, then over the P classes present: 1 / (P b_c).
    - ``train_set``: N / (B C n_c), Eq. 18 / C without bias under instance sampling.
    - ``uniform``: 1 / B.

    Args:
        targets: Class indices, (B,).
        batch_counts: b_c, samples of each class in the (global) batch, (C,); the weights take its dtype.
        class_counts: n_c, training images of each class, (C,), of the same dtype.
        class_weight: One of the three above.
    """
    if class_weight == "present":
        return 1.0 / ((batch_counts > 0).sum() * batch_counts[targets])
    if class_weight == "train_set":
        return class_counts.sum() / (batch_counts.sum() * len(class_counts) * class_counts[targets])
    return (1.0 / batch_counts.sum()).expand(len(targets))


def training_set_log_weights(key_targets: Tensor, batch_counts: Tensor, class_counts: Tensor) -> Tensor:
    """log(n_c / b_c) of each key's class, (K,): so weighted, the keys represent the training set under any sampler.

    Counts are as in :func:`sample_weights`; the batch counts must be those of the keys. With these weights
    ``sum_j w_j exp(-d_j / T)`` over class-wise random keys is an unbiased estimate of the denominator of Eq. 18.
    """
    return (class_counts[key_targets] / batch_counts[key_targets]).log()


class _AllGather(torch.autograd.Function):
    """Concatenates the tensors of all ranks; backward sums the ranks' gradients of each part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather_keys(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The batch of all ranks, with gradient; every rank must hold the same number of samples.

    Args:
        features: This rank's embeddings, (B, D).
        targets: Their classes, (B,).

    Returns:
        Features (K, D) in at least float32 and classes (K,) in the order of the ranks, and the positions of this
        rank's samples among them, (B,). Without a process group, the batch itself.

    Raises:
        ValueError: the batches differ in size; checked on CPU alone.
    """
    own = torch.arange(len(features), device=features.device)
    if not (dist.is_available() and dist.is_initialized()):
        return features, targets, own
    if features.device.type == "cpu":
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, torch.tensor([len(features)]))
        if len({int(size) for size in sizes}) > 1:
            raise ValueError(f"gather needs batches of one size, got {[int(size) for size in sizes]} over the ranks")
    wide = features.to(torch.promote_types(features.dtype, torch.float32)).contiguous()
    keys: Tensor = _AllGather.apply(wide)
    key_targets = [torch.empty_like(targets) for _ in range(dist.get_world_size())]
    dist.all_gather(key_targets, targets.contiguous())
    return keys, torch.cat(key_targets), own + dist.get_rank() * len(features)
