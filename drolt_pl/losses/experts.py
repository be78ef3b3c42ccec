"""Losses of several experts' logits: how much they differ, whom to ask, and which class frequencies each is for."""

import torch
import torch.nn.functional as F
from torch import Tensor


def diversity(logits: Tensor, temperature: Tensor) -> Tensor:
    r"""How far each expert is from the mean of all, summed over the experts (RIDE, Wang et al. 2021), 0-d.

    .. math:: \bar T^2 \sum_e \frac{1}{B} \sum_i \mathrm{KL}\big(\bar p_i \,\|\, p_{ie}\big), \quad
        p_{ie} = \mathrm{softmax}(s_{ie} / T), \quad \bar p_i = \mathrm{softmax}(\tfrac{1}{E} \sum_e s_{ie} / T)

    The mean has no gradient, as in their code; logits are divided by the temperature of each class.

    Args:
        logits: Of each expert, (B, E, C), computed in at least float32.
        temperature: T of each class, (C,), > 0; :math:`\bar T` is their mean.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    temperature = temperature.to(logits.dtype)
    log_p = (logits / temperature).log_softmax(2)
    mean = (logits.detach().mean(1, keepdim=True) / temperature).log_softmax(2).expand_as(log_p)
    divergence = F.kl_div(log_p, mean, reduction="none", log_target=True).sum((1, 2))
    return temperature.mean() ** 2 * divergence.mean()


def class_temperatures(class_counts: Tensor, factor: float) -> Tensor:
    r"""Temperatures that rise with the class, (C,), the largest 1: :math:`T_c \propto \alpha C n_c / N + 1 - \alpha`.

    So rare classes are told apart more sharply.

    Args:
        class_counts: Training images per class, (C,).
        factor: :math:`\alpha`, in [0, 1); 0.05 in the code of RIDE.
    """
    counts = class_counts.double()
    raw = factor * len(counts) * counts / counts.sum() + 1 - factor
    return (raw / raw.max()).float()


def routing(wishes: Tensor, running: Tensor, targets: Tensor, *, weight: float = 20.0) -> Tensor:
    """Cross-entropy of asking the next expert (RIDE, Wang et al. 2021), the mean over batch and experts, 0-d.

    The next expert should be asked where the experts so far are wrong and one of the longer rows of experts is right.

    Args:
        wishes: See `Classifier.routes`, (B, E - 1).
        running: The mean logits of the first 1, ..., E experts, (B, E, C).
        targets: (B,).
        weight: Of the samples that should go on; 20 in their code for CIFAR, 100 for large images.
    """
    right = running.argmax(2) == targets[:, None]  # (B, E)
    later = right.flip(1).cummax(1).values.flip(1)[:, 1:]  # whether any longer row is right
    ask = (~right[:, :-1] & later).to(torch.promote_types(wishes.dtype, torch.float32))
    return F.binary_cross_entropy_with_logits(wishes.to(ask.dtype), ask, pos_weight=ask.new_tensor(weight))


def frequency_shifts(class_counts: Tensor, tau: float) -> Tensor:
    r"""What is added to the logits of SADE's three experts in training, (3, C) (Zhang et al. 2022).

    Nothing (the training frequencies p), :math:`\log p_c` (even frequencies), and
    :math:`\log p_c - \tau \log \bar p_c` (reversed ones): :math:`\bar p` has the frequencies of p in reversed order,
    the largest at the smallest class.

    Args:
        class_counts: Training images per class, (C,).
        tau: Theirs is 2.
    """
    counts = class_counts.double()
    prior = counts / counts.sum()
    ranks = prior.argsort(stable=True).argsort(stable=True)
    reverse = prior.sort().values[len(prior) - 1 - ranks]
    return torch.stack([torch.zeros_like(prior), prior.log(), prior.log() - tau * reverse.log()]).float()
