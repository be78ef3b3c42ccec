"""Weights of classes by the effective number of their images."""

import math

import torch
from torch import Tensor


def effective_number_weights(class_counts: Tensor, beta: float) -> Tensor:
    r"""Class-balanced weights :math:`w_c \propto (1 - \beta) / (1 - \beta^{n_c})` that sum to C (Cui et al. 2019).

    Args:
        class_counts: Training images per class, (C,), >= 1.
        beta: In [0, 1): 0 weighs every class the same, and towards 1 the weights become inverse frequencies.

    Example:
        >>> effective_number_weights(torch.tensor([1, 1]), 0.9).tolist()
        [1.0, 1.0]
    """
    counts = class_counts.double()
    # 1 - beta^n by expm1: at beta = 0.9999 and n = 1 the difference of the powers would lose four digits.
    weights = torch.ones_like(counts) if beta == 0 else -1 / torch.expm1(counts * math.log(beta))
    return (weights * len(counts) / weights.sum()).float()
