"""The balls around the empirical centroids, as a module of radii. The loss looks for the worst centroid in them."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.classes import class_sizes
from drolt_pl.errors import require
from drolt_pl.losses.radius import (
    EpsMode,
    RadiusDim,
    RadiusOf,
    coverage_radius,
    fixed_radii,
    inverse_softplus,
    log_ball_probability,
    mean_coverage_factor,
)
from drolt_pl.ranges import Count, Inside, NonNegative

AUTO_COVERAGE = 0.5  # mean over classes of p_c at which eps "auto" puts the radii


@checked
class UncertaintyBalls(nn.Module):
    """The radius of each class's ball; arguments as in :class:`~drolt_pl.losses.dro_lt.DROLTLoss`.

    With eps_mode ``learned`` there is one parameter, `rho` (C,): the radii are softplus(rho), never negative. Buffers
    are `class_counts` (C,) and, from :meth:`set_statistics`, `total_variance` (C,) and `effective_dim` (0-d). With eps
    ``auto`` there is `measured_eps` (0-d) too, -1 until it is measured.
    """

    rho: Tensor | None
    class_counts: Tensor
    total_variance: Tensor
    effective_dim: Tensor
    has_statistics: Tensor
    coverage_radii: Tensor
    measured_eps: Tensor

    def __init__(
        self,
        num_classes: Count,
        num_features: Count,
        class_counts: Sequence[int] | Tensor,
        *,
        eps_mode: EpsMode,
        eps: NonNegative | Literal["auto"],
        coverage: Inside,
        radius_dim: RadiusDim,
        radius_of: RadiusOf = "ball",
    ) -> None:
        super().__init__()
        self.is_auto, self.eps = eps == "auto", math.nan if isinstance(eps, str) else eps
        if self.is_auto:
            require("eps", eps, eps_mode in ("shared", "sqrt_n"), f"must be a number where eps_mode is {eps_mode!r}")
        else:
            require("eps", eps, self.eps > 0 or eps_mode != "learned", "must be > 0 where eps_mode is 'learned'")
        self.num_classes, self.num_features = num_classes, num_features
        self.eps_mode, self.coverage, self.radius_dim, self.radius_of = eps_mode, coverage, radius_dim, radius_of
        self._knows_statistics = self._is_measured = False
        self.register_buffer("class_counts", class_sizes(class_counts, num_classes))
        self.register_buffer("total_variance", torch.zeros(num_classes))
        self.register_buffer("effective_dim", torch.tensor(float(num_features)))
        self.register_buffer("has_statistics", torch.tensor(False))
        self.register_buffer("coverage_radii", torch.zeros(num_classes), persistent=False)
        if self.is_auto:  # other losses' checkpoints hold no such buffer
            self.register_buffer("measured_eps", torch.tensor(-1.0))
        start = torch.full((num_classes,), inverse_softplus(self.eps)) if eps_mode == "learned" else None
        self.register_parameter("rho", None if start is None else nn.Parameter(start))
        self.register_load_state_dict_post_hook(_restore_statistics)  # type: ignore[no-untyped-call]

    def forward(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The radii, (C,), >= 0; learned ones carry a gradient.

        Raises:
            RuntimeError: eps_mode is ``coverage`` or eps is ``auto``, and :meth:`set_statistics` was not called yet.
        """
        if self.rho is not None:
            return F.softplus(self.rho.to(dtype))
        if self.is_auto:
            self._measure_once()
            return self.measured_eps.to(dtype) * self._unit_radii(dtype)
        if self.eps_mode != "coverage":
            return fixed_radii(self.eps_mode, self.eps, self.class_counts, dtype)
        self._require_statistics("eps_mode 'coverage'")
        return self.coverage_radii.to(dtype)

    def log_probability(self, radii: Tensor, held_out_counts: Tensor | None = None) -> Tensor:
        """Log-probability that the true centroid lies in a ball of these radii, (C,) float64.

        With `held_out_counts` m_c >= 1, (C,), it is the log-probability that the mean of m_c other samples lies in the
        ball. That mean has an error of its own, so the variance of the distance is 1 + n_c / m_c times as large.

        Raises:
            RuntimeError: :meth:`set_statistics` was not called yet.
        """
        self._require_statistics("eps_prior")
        counts, variance, *rest = self._statistics()
        if held_out_counts is not None:
            variance = variance * (1 + counts / held_out_counts)
        return log_ball_probability(radii, counts, variance, *rest)

    def set_statistics(self, total_variance: Tensor, effective_dim: float | Tensor) -> None:
        """Takes the statistics of the centroid pass, which coverage radii and the prior need.

        Args:
            total_variance: tau_c^2 of each class, (C,), in squared feature units.
            effective_dim: Effective dimension nu within classes, 0-d, > 0.

        Raises:
            ValueError: a wrong shape; on CPU also a negative or non-finite variance, or a dimension not > 0.
        """
        dim = torch.as_tensor(effective_dim)
        if total_variance.shape != (self.num_classes,) or dim.ndim:
            shapes = f"{tuple(total_variance.shape)} and {tuple(dim.shape)}"
            raise ValueError(f"total_variance ({self.num_classes},) and effective_dim () expected, got {shapes}")
        if total_variance.device.type == "cpu" and not bool((total_variance.isfinite() & (total_variance >= 0)).all()):
            raise ValueError("total_variance must be finite and >= 0")
        if dim.device.type == "cpu" and not 0 < float(dim) < math.inf:
            raise ValueError(f"effective_dim must be finite and > 0, got {float(dim)}")
        self.total_variance.copy_(total_variance)
        self.effective_dim.copy_(dim)
        self.has_statistics.fill_(True)
        self._knows_statistics = True
        self._update_coverage_radii()

    def _update_coverage_radii(self) -> None:
        if self.eps_mode == "coverage":
            self.coverage_radii.copy_(coverage_radius(self.coverage, *self._statistics()))

    @torch.no_grad()
    def _measure_once(self) -> None:
        """Settles eps ``auto`` when it is first needed, from the statistics of the last centroid pass."""
        if not self._is_measured:
            self._require_statistics("eps 'auto'")
            factor = mean_coverage_factor(AUTO_COVERAGE, self._unit_radii(torch.float64), *self._statistics())
            self.measured_eps.copy_(factor)
            self._is_measured = True

    def _unit_radii(self, dtype: torch.dtype) -> Tensor:
        return fixed_radii(self.eps_mode, 1.0, self.class_counts, dtype)

    def _statistics(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counts, variances, nu, and the degrees of freedom of the centroid's error that a radius must cover."""
        effective = self.radius_dim == "effective"
        dim = self.effective_dim if effective else torch.full_like(self.effective_dim, self.num_features)
        freedom = dim if self.radius_of == "ball" else torch.ones_like(dim)
        return self.class_counts, self.total_variance, dim, freedom

    def _require_statistics(self, asked: str) -> None:
        if not self._knows_statistics:
            raise RuntimeError(f"{asked} needs the class statistics: call set_statistics first")


def _restore_statistics(balls: UncertaintyBalls, _: object) -> None:
    """Runs after load_state_dict: reads back once whether statistics are there, and updates the radii from them."""
    balls._knows_statistics = bool(balls.has_statistics)
    balls._is_measured = balls.is_auto and bool(balls.measured_eps >= 0)
    if balls._knows_statistics:
        balls._update_coverage_radii()
