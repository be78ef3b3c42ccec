"""Distillation from experts of class groups at a student's own pace: whom it still follows, and which images count."""

import torch
import torch.nn.functional as F
from torch import Tensor


def expert_weights(expert: Tensor, student: Tensor, *, alpha: float) -> Tensor:
    r"""How much a student still follows each expert, in [0, 1], elementwise (LFME, Xiang et al. 2020).

    .. math:: w = 1 \text{ while } a_s \le \alpha a_e, \quad
        w = \max\Big(0, \frac{a_e - a_s}{a_e (1 - \alpha)}\Big) \text{ from then on}

    It is 0 for an expert that is never right, and 1 where an accuracy is nan, for want of images.

    Args:
        expert: Accuracy :math:`a_e` of each expert on its own classes.
        student: Accuracy :math:`a_s` of the student on the same classes, of the same shape.
        alpha: In [0, 1).
    """
    falling = (expert - student) / (expert * (1 - alpha))
    return torch.where(student >= expert, 0.0, falling.nan_to_num(1.0).clamp(0, 1))


def image_weights(confidence: Tensor, floor: Tensor, progress: float, *, full: float) -> Tensor:
    r"""Weights of images in cross-entropy, (B,): easy images and rare classes come first (LFME, Xiang et al. 2020).

    .. math:: v = v_0 + (1 - v_0) \min(1, t / t_1), \quad v_0 = f + (1 - f) p

    Args:
        confidence: Probability p of the own class by the expert of its group, (B,).
        floor: The weight f of an image of confidence 0 at the stage's start, (B,), in (0, 1].
        progress: Share t of the stage that has passed.
        full: The share :math:`t_1` from which on all weights are 1, > 0.
    """
    first = floor + (1 - floor) * confidence
    return first + (1 - first) * min(1.0, progress / full)


def distillation(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    r"""KL divergence of a student from its teacher, the mean over the batch, 0-d, computed in at least float32.

    .. math:: \frac{1}{B} \sum_i \mathrm{KL}\big(\mathrm{softmax}(u_i / T) \,\|\, \mathrm{softmax}(s_i / T)\big)

    Args:
        logits: s of the student for the teacher's classes, (B, K).
        teacher: u, (B, K).
        temperature: T, > 0; the loss is not multiplied by its square.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    ours, theirs = (part.to(wide).div(temperature).log_softmax(1) for part in (logits, teacher))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
