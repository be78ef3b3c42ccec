r"""Class frequencies where a model is used: probabilities that fit them, and their estimate without labels.

A softmax learns :math:`p(y \mid x) \propto p(x \mid y) \, p(y)` for the class frequencies :math:`p(y)` that it was
trained for: the *model's prior*. Where images come with other frequencies :math:`q(y)`, and each class looks the same,

.. math:: q(y \mid x) \propto p(y \mid x) \, q(y) / p(y)

Everything is computed in float64; a class with prior 0 keeps probability 0.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from drolt_pl.classes import class_indices

IMPOSSIBLE = -1e12  # a logit


class Calibration(NamedTuple):
    """Bias-corrected temperature scaling: the probabilities are softmax(scale * logits + bias).

    Attributes:
        scale: One over the temperature.
        bias: A number for each class, (C,).
        prior: Class frequencies that these probabilities assume, (C,): those of the labels that it was fitted to.
    """

    scale: float
    bias: Tensor
    prior: Tensor

    def logits(self, logits: Tensor) -> Tensor:
        """Calibrated logits (N, C), in float64."""
        return self.scale * logits.double() + self.bias


class Estimate(NamedTuple):
    """Class frequencies (C,) that were estimated, the steps that it took, and whether they had settled."""

    prior: Tensor
    iterations: int
    converged: bool


def reweight(probabilities: Tensor, model_prior: Tensor, test_prior: Tensor) -> Tensor:
    """The probabilities of a model where classes come with other frequencies.

    Args:
        probabilities: Of the model, (N, C).
        model_prior: Class frequencies that they assume, (C,), > 0 for every class that can be.
        test_prior: Class frequencies where the images come from, (C,).

    Returns:
        (N, C), rows sum to 1.

    Raises:
        ValueError: priors that are no frequencies of C classes.

    Examples:
        >>> reweight(torch.tensor([[0.5, 0.5]]), torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])).round(decimals=3)
        tensor([[0.1000, 0.9000]], dtype=torch.float64)
    """
    joint = probabilities.double() * _ratio(probabilities, model_prior, test_prior)
    total = joint.sum(1, keepdim=True)
    return torch.where(total > 0, joint / total, probabilities.double())  # an image of none of the classes


def estimate(
    probabilities: Tensor, model_prior: Tensor, *, max_iterations: int = 10_000, tolerance: float = 1e-7
) -> Estimate:
    """The class frequencies of unlabelled images: maximum likelihood by EM (Saerens, Latinne & Decaestecker 2002).

    The E step is `reweight` to the frequencies found so far, the M step the mean of its rows. It starts at the model's
    prior. The log-likelihood is concave, so the start decides nothing but the number of steps.

    Args:
        probabilities: Of the model, (N, C), N >= 1.
        model_prior: Class frequencies that they assume, (C,).
        max_iterations: Steps at most.
        tolerance: Total variation of a step at which it stops.

    Raises:
        ValueError: no rows, or a prior that is no frequencies of C classes.
    """
    if not len(probabilities):
        raise ValueError("probabilities must have at least one row, got none")
    prior = frequencies(model_prior)
    for iteration in range(1, max_iterations + 1):
        update = reweight(probabilities, model_prior, prior).mean(0)
        step, prior = total_variation(update, prior), update
        if step <= tolerance:
            return Estimate(prior, iteration, True)
    return Estimate(prior, max_iterations, False)


def calibrated(logits: Tensor, targets: Tensor, *, spread: float = 3.0) -> Calibration:
    """Bias-corrected temperature scaling on labelled images (Alexandari, Kundaje & Shrikumar 2020).

    The maximum of the likelihood with a normal prior on the biases: a class with no images keeps a finite one.
    EM on what it gives finds class frequencies where EM on a network's own probabilities would follow its errors.

    Args:
        logits: Of a model for images that it was not trained on, (N, C), N >= 1.
        targets: Their classes, (N,).
        spread: Standard deviation of the biases' prior.

    Raises:
        ValueError: a shape that does not fit, no rows, logits that are nan or inf, or a target outside [0, C).
    """
    rows, labels = labelled(logits.detach(), targets)
    classes = rows.shape[1]
    with torch.inference_mode(False), torch.enable_grad():
        rows, labels = rows.clone(), labels.clone()
        log_scale = rows.new_zeros((), requires_grad=True)
        bias = rows.new_zeros(classes, requires_grad=True)
        optimizer = torch.optim.LBFGS([log_scale, bias], max_iter=500, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(log_scale.exp() * rows + bias, labels)
            loss = loss + bias.square().sum() / (2 * spread**2 * len(rows))
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    shares = frequencies(torch.bincount(labels, minlength=classes) + 1 / classes)  # none is 0: priors are divided by it
    return Calibration(float(log_scale.detach().exp()), bias.detach(), shares)


def log_likelihood(probabilities: Tensor, model_prior: Tensor, test_prior: Tensor) -> float:
    """How well class frequencies explain unlabelled images, in nats, up to a constant: sum of log q(x) / p(x).

    Args:
        probabilities: Of the model, (N, C).
        model_prior: Class frequencies that they assume, (C,).
        test_prior: Class frequencies to be judged, (C,).
    """
    return float((probabilities.double() @ _ratio(probabilities, model_prior, test_prior)).log().sum())


def plausible(
    probabilities: Tensor,
    model_prior: Tensor,
    known: Mapping[str, Tensor],
    found: Tensor,
    *,
    held_out: int | None = None,
) -> tuple[str, Tensor]:
    """The estimate, or one of some known priors where the images do not speak clearly against it.

    An estimate follows noise and the model's own errors as well. It has C - 1 free numbers, a known prior none, so by
    Schwarz's criterion (1978) it must explain N images better by (C - 1) / 2 log N nats. Where n held-out images have
    calibrated the probabilities, chance in these counts as well: the gain is that of 1 / (1 / N + 1 / n) images, and by
    Akaike's criterion (1974) it must be C - 1 nats.

    Args:
        probabilities: Of the model, (N, C).
        model_prior: Class frequencies that they assume, (C,).
        known: Priors by name, (C,) each, such as the uniform one.
        found: What `estimate` gave, (C,).
        held_out: How many labelled images calibrated the probabilities; None where none did.

    Returns:
        A name of `known`, or `estimate`, and the prior.
    """
    scores = {name: log_likelihood(probabilities, model_prior, prior) for name, prior in known.items()}
    count, free = len(probabilities), len(found) - 1
    penalty = free / 2 * math.log(count) if held_out is None else free * (1 + count / held_out)
    scores["estimate"] = log_likelihood(probabilities, model_prior, found) - penalty
    best = max(scores, key=scores.__getitem__)
    return best, frequencies({**known, "estimate": found}[best])


def total_variation(first: Tensor, second: Tensor) -> float:
    """Half the sum of absolute differences of two priors, (C,) each: in [0, 1].

    Examples:
        >>> total_variation(torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25]))
        0.25
    """
    return float((first.double() - second.double()).abs().sum() / 2)


def frequencies(counts: Tensor) -> Tensor:
    """Counts or frequencies (C,) as float64 that sum to 1.

    Raises:
        ValueError: a negative or infinite one, or nothing above 0.
    """
    values = counts.double()
    if values.ndim != 1 or not bool(values.isfinite().all()) or bool((values < 0).any()) or not bool(values.sum() > 0):
        raise ValueError(f"a prior must be a finite number >= 0 for each class, one of them > 0, got {counts.tolist()}")
    return values / values.sum()


def labelled(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What probabilities are fitted to: logits (N, C) in float64, all of them finite, and class indices (N,).

    A class that cannot be, whose logit is -inf, gets one so low that its probability stays 0: times its logit that is 0
    and not nan. An image of such a class has likelihood 0 whatever is fitted, and is left out.

    Raises:
        ValueError: a shape that does not fit, no rows, logits that are nan or inf, or a target outside [0, C).
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must have shape (N, C), got {tuple(logits.shape)}")
    indices = class_indices(targets, *logits.shape)
    if not bool((logits < math.inf).all()):
        raise ValueError("logits must be finite, or -inf for a class that cannot be, got nan or inf")
    possible = logits.gather(1, indices[:, None])[:, 0] > -math.inf
    if not bool(possible.any()):
        raise ValueError("logits must have at least one row whose class can be, got none")
    return logits[possible].double().clamp(min=IMPOSSIBLE), indices[possible]


def _ratio(probabilities: Tensor, model_prior: Tensor, test_prior: Tensor) -> Tensor:
    """Quotients of the priors, (C,); 0 where the model's is 0."""
    if probabilities.ndim != 2:
        raise ValueError(f"probabilities must have shape (N, C), got {tuple(probabilities.shape)}")
    num_classes = probabilities.shape[1]
    if model_prior.shape != (num_classes,) or test_prior.shape != (num_classes,):
        shapes = f"{tuple(model_prior.shape)} and {tuple(test_prior.shape)}"
        raise ValueError(f"priors must have {num_classes} frequencies, one for each class, got {shapes}")
    model, test = frequencies(model_prior), frequencies(test_prior)
    return torch.where(model > 0, test / model.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
