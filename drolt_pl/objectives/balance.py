"""Compares how strongly, and in which direction, two losses pull on the same features."""

import torch
from torch import Tensor

TINY = 1e-30  # in place of the norm of a gradient that is zero


def gradient_balance(ce: Tensor, robust: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Compares the gradients g_CE and g_R of both losses with respect to a batch of features.

    Backward stops at the features and leaves the graph intact. Nothing waits for an accelerator.

    Args:
        ce: Cross-entropy of the batch, 0-d.
        robust: Robust loss of the batch, 0-d.
        features: The features from which both were computed, (B, D), with a graph.

    Returns:
        0-d, in float32: ``grad_ratio``, |g_R| / |g_CE| over the batch, and ``grad_cosine`` of the two.
    """
    of_ce, of_robust = (
        torch.autograd.grad(loss, features, retain_graph=True)[0].flatten().float() for loss in (ce, robust)
    )
    norm_ce, norm_robust = of_ce.norm().clamp(min=TINY), of_robust.norm()
    cosine = (of_ce / norm_ce) @ (of_robust / norm_robust.clamp(min=TINY))
    return {"grad_ratio": norm_robust / norm_ce, "grad_cosine": cosine}
