"""Von Mises-Fisher laws on the sphere: their normalising constant, and the expected contrast to a class (ProCo)."""

import math

import torch
from torch import Tensor

from drolt_pl.losses.checks import check_temperature, check_vectors

MOST = 1e5  # of a concentration, as in ProCo's code


def log_bessel(order: float, kappa: Tensor) -> Tensor:
    r"""Log I_v(kappa) - v log kappa of the modified Bessel function of the first kind, elementwise, in float64.

    Debye's uniform expansion to v^-4 (NIST Handbook, 10.41.3): smooth at kappa = 0, where the function is finite, and
    differentiable. Its error is below 1e-4 from order 3 on, and below 1e-9 from order 31 on.

    Args:
        order: v, > 0.
        kappa: >= 0.
    """
    root = (1 + (kappa.double() / order) ** 2).sqrt()
    t = 1 / root
    terms = (
        t * (3 - 5 * t**2) / 24,
        t**2 * (81 - 462 * t**2 + 385 * t**4) / 1152,
        t**3 * (30375 - 369603 * t**2 + 765765 * t**4 - 425425 * t**6) / 414720,
        t**4 * (4465125 - 94121676 * t**2 + 349922430 * t**4 - 446185740 * t**6 + 185910725 * t**8) / 39813120,
    )
    series = 1 + torch.stack([term / order**power for power, term in enumerate(terms, 1)]).sum(0)
    leading = order * (root - (1 + root).log() - math.log(order))
    return leading - 0.5 * (math.log(2 * math.pi * order) + root.log()) + series.log()


def concentrations(means: Tensor) -> Tensor:
    r"""The concentration of each class, (C,), from the mean of its unit vectors, (C, E).

    .. math:: \kappa = E R / (1 - R^2), \qquad R = \|\mathrm{mean}\|
    """
    length = means.norm(dim=1).clamp(max=1.0)
    kappa: Tensor = means.shape[1] * length / (1 - length**2).clamp(min=1e-12)
    return kappa.clamp(max=MOST)


def expected_contrast(embeddings: Tensor, means: Tensor, *, temperature: float = 0.1) -> Tensor:
    r"""Log of the expected similarity of embeddings to each class (ProCo, Du et al. 2024), (B, C).

    .. math:: \log E_{x \sim vMF(\mu_c, \kappa_c)} e^{z x / T} = F(\|\kappa_c \mu_c + z / T\|) - F(\kappa_c),
        \quad F(\kappa) = \log I_v(\kappa) - v \log \kappa, \quad v = E / 2 - 1

    It is the limit of a contrastive loss with infinitely many samples of every class. Computed in float64.

    Args:
        embeddings: (B, E); normalised here.
        means: Of each class's unit vectors, (C, E), without gradient; a class of mean 0 is uniform on the sphere.
        temperature: T, > 0.

    Raises:
        SettingError: a temperature out of range.
        ValueError: a shape that does not fit, or E below 3, where the expansion of Bessel functions begins.
    """
    check_temperature(temperature)
    check_vectors(embeddings, means, least=3)
    order = embeddings.shape[1] / 2 - 1
    means = means.detach().double()
    kappa = concentrations(means)
    directions = torch.nn.functional.normalize(means, dim=1)
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    # ||kappa mu + z / T||^2, without a (B, C, E) tensor
    cosines = unit @ directions.T
    length = directions.norm(dim=1)  # 1, or 0 of a class without a mean
    squared = (kappa * length) ** 2 + 2 * kappa / temperature * cosines + 1 / temperature**2
    shifted = squared.clamp(min=1e-12).sqrt()
    return log_bessel(order, shifted) - log_bessel(order, kappa)
