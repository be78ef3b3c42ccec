"""The DRO-LT loss as a module: radii, weights and mixing around the functional core."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.classes import class_indices
from drolt_pl.errors import require
from drolt_pl.losses.balls import UncertaintyBalls
from drolt_pl.losses.batch import ClassWeight, Denominator, sample_weights
from drolt_pl.losses.distances import Distance
from drolt_pl.losses.functional import Bound
from drolt_pl.losses.likelihoods import LikelihoodName, OwnDistance, Prior, likelihood_of
from drolt_pl.losses.measure import Measure
from drolt_pl.losses.radius import EpsMode, RadiusDim, RadiusOf
from drolt_pl.ranges import Count, Fraction, Inside, NonNegative, Positive

FeatureNorm = Literal["none", "l2"]
Mixing = Literal["convex", "added"]


@checked
class DROLTLoss(nn.Module):
    r"""Distributional robustness loss for long-tailed recognition (Samuel & Chechik, ICCV 2021, Eqs. 18 and 19).

    ``L_robust = sum_i w_i robust_i``. :func:`~drolt_pl.losses.functional.robust_loss` gives robust_i, or with
    likelihood ``class`` :func:`~drolt_pl.losses.classwise.classwise_loss`.

    Args:
        num_classes: C.
        num_features: D.
        class_counts: Training images of each class, (C,), >= 1.
        eps_mode: Radii ``zero``, ``shared`` (eps), ``sqrt_n`` (eps / sqrt(n_c)), ``learned`` (a parameter per class,
            started at eps; it needs an optimizer, without decay) or ``coverage`` (from :meth:`set_statistics`).
        eps: Radius in units of the Euclidean distance of features. ``auto`` (with ``shared`` and ``sqrt_n``) takes the
            radius at which the mean of p_c is one half; the first call of :meth:`radii` with statistics settles it.
        temperature: Softmax temperature, > 0.
        likelihood: ``sample`` (Eq. 18: which sample belongs to the centroid) or ``class`` (which centroid the sample
            belongs to). `bound`, `denominator` and `gather` need ``sample``, `prior` and `own_distance` need ``class``.
        prior: Class probabilities pi: ``none`` makes them equal, ``train`` takes n_c.
        own_distance: ``leave_one_out`` takes the sample out of its own centroid: its distance times n_c / (n_c - 1).
        bound: ``paper`` (Eq. 18), ``negatives``, ``sample`` or ``tight``.
        denominator: ``batch``, or ``weighted`` to estimate the sum over the training set.
        class_weight: ``present``, ``train_set`` or ``uniform`` (:func:`~drolt_pl.losses.batch.sample_weights`).
        distance: ``euclidean``, ``student_t`` or ``cosine``.
        feature_norm: ``l2`` divides features and centroids by their norms; eps and statistics then use those units.
        ce_weight: Weight of cross-entropy in :meth:`mix`, in [0, 1]; the paper's lambda.
        mixing: ``convex`` (Eq. 19), or ``added``: Eq. 19 divided by ce_weight, so that cross-entropy keeps its weight.
        eps_prior: Weight of -log p_c(eps_c) for learned radii: without it the loss can only shrink them.
        coverage: Probability that the ball holds the true centroid, for eps_mode ``coverage``.
        radius_dim: Dimension nu of that probability: ``effective``, or the number of ``features``.
        radius_of: p_c is the probability that the ``ball`` holds the centroid, or its error along a ``direction``.
        gather: Takes the batches of all ranks as keys; the gradient is right after DDP has averaged it.

    Raises:
        SettingError: a value that is not allowed.
    """

    updates: Tensor

    def __init__(
        self,
        num_classes: Count,
        num_features: Count,
        class_counts: Sequence[int] | Tensor,
        *,
        eps_mode: EpsMode = "sqrt_n",
        eps: NonNegative | Literal["auto"] = 1.0,
        temperature: Positive = 1.0,
        likelihood: LikelihoodName = "sample",
        prior: Prior = "none",
        own_distance: OwnDistance = "plain",
        bound: Bound = "paper",
        denominator: Denominator = "batch",
        class_weight: ClassWeight = "present",
        distance: Distance = "euclidean",
        feature_norm: FeatureNorm = "none",
        ce_weight: Fraction = 0.5,
        mixing: Mixing = "convex",
        eps_prior: NonNegative = 0.0,
        coverage: Inside = 0.9,
        radius_dim: RadiusDim = "effective",
        radius_of: RadiusOf = "ball",
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.balls = UncertaintyBalls(
            num_classes,
            num_features,
            class_counts,
            eps_mode=eps_mode,
            eps=eps,
            coverage=coverage,
            radius_dim=radius_dim,
            radius_of=radius_of,
        )
        self.likelihood = likelihood_of(
            likelihood,
            temperature=temperature,
            bound=bound,
            denominator=denominator,
            distance=distance,
            gather=gather,
            prior=prior,
            own_distance=own_distance,
        )
        require("ce_weight", ce_weight, ce_weight > 0 or mixing == "convex", f"must be > 0 where mixing is {mixing!r}")
        learned = eps_mode == "learned"
        require("eps_prior", eps_prior, eps_prior == 0 or learned, "must be 0 unless eps_mode is 'learned'")
        _check_geometry(distance, feature_norm, eps_mode, eps, eps_prior, own_distance)
        self.num_classes, self.num_features = num_classes, num_features
        self.distance, self.class_weight, self.measure = distance, class_weight, Measure(distance, feature_norm)
        self.ce_weight, self.mixing, self.eps_prior = ce_weight, mixing, eps_prior
        self.register_buffer("updates", torch.zeros(num_classes, dtype=torch.long))

    def forward(self, features: Tensor, targets: Tensor, centroids: Tensor) -> Tensor:
        """L_robust with the prior of its radii, 0-d, in nats; arguments as in :meth:`terms`."""
        return self.total(self.terms(features, targets, centroids))

    def terms(
        self, features: Tensor, targets: Tensor, centroids: Tensor, shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Computes the parts of the loss.

        In train mode, with gradients, `updates` (C,) counts the steps that saw each class; without ``gather`` it counts
        this rank's batches alone.

        Args:
            features: (B, D), any float dtype.
            targets: (B,), integers in [0, C).
            centroids: Class means over the training set, (C, D).
            shares: Weight of each sample's assignment to its class, (B,), for mixed images. Call once per assignment,
                with shares that sum to 1: the terms of both calls add up to the loss.

        Returns:
            0-d tensors: ``robust``; ``prior`` if eps_prior > 0; with the bound ``tight`` also ``second_branch``, the
            share of pairs whose exponent no longer depends on eps. :meth:`total` adds up the parts to minimise.

        Raises:
            RuntimeError: eps_prior, coverage or eps ``auto`` is used before :meth:`set_statistics`.
            ValueError: a shape that does not fit; on CPU a target outside [0, C), or ranks with unequal batches.
        """
        features, targets, centroids, eps, class_counts = self._measured(features, targets, centroids)
        rows = self.likelihood.rows(features, targets, centroids, eps, class_counts)
        present = rows.present
        weights = sample_weights(targets, present.to(features.dtype), class_counts, self.class_weight)
        if shares is not None:
            weights = weights * shares
        if rows.num_samples > len(features):  # weights of all ranks' batch; DDP divides by the number of ranks
            weights = rows.num_samples / len(features) * weights
        terms = {"robust": (weights * rows.loss).sum()}
        if self.eps_prior > 0:
            log_p = self.balls.log_probability(eps) * (present > 0)
            terms["prior"] = -self.eps_prior * log_p.sum().to(features.dtype) / (present > 0).sum().clamp(min=1)
        terms |= rows.measures
        if shares is not None:  # the other terms are not sums over samples
            terms = {name: term if name == "robust" else shares.mean() * term for name, term in terms.items()}
        if self.training and torch.is_grad_enabled():
            self.updates += present > 0
        return terms

    @torch.no_grad()
    def own_mass(self, features: Tensor, targets: Tensor, centroids: Tensor) -> Tensor:
        """Mean over samples of the own class's share in the softmax of the loss, 0-d; arguments as in :meth:`terms`."""
        features, targets, centroids, eps, class_counts = self._measured(features, targets, centroids)
        return self.likelihood.own_mass(features, targets, centroids, eps, class_counts).mean()

    @torch.no_grad()
    def held_out_coverage(self, distances: Tensor, held_out_counts: Tensor) -> dict[str, Tensor]:
        """Tells whether means of held-out samples lie in the balls; empty unless the loss measures Euclidean distance.

        Args:
            distances: Distance from each class's centroid to the mean of its held-out samples, (C,).
            held_out_counts: Held-out samples of each class, (C,).

        Returns:
            By class, (C,): ``coverage_held_out``, 1 in the ball and 0 outside, and ``coverage_held_out_expected``, the
            probability of 1 if training samples were samples like any other.
        """
        if self.distance != "euclidean":
            return {}
        eps = self.radii()
        expected = self.balls.log_probability(eps, held_out_counts.clamp(min=1)).exp()
        return {"coverage_held_out": (distances <= eps).float(), "coverage_held_out_expected": expected.float()}

    @staticmethod
    def total(terms: Mapping[str, Tensor]) -> Tensor:
        """Sum of the parts that :meth:`terms` returned, without the measurements among them, 0-d."""
        return terms["robust"] + terms["prior"] if "prior" in terms else terms["robust"]

    def mix(self, ce: Tensor, value: Tensor) -> Tensor:
        """``ce_weight * ce + (1 - ce_weight) * value``, Eq. 19; with mixing ``added`` this over ce_weight."""
        if self.mixing == "added":
            return ce + (1 - self.ce_weight) / self.ce_weight * value
        return self.ce_weight * ce + (1 - self.ce_weight) * value

    def radii(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Radius of each class's ball, (C,), >= 0; ``coverage`` and ``auto`` raise RuntimeError without statistics."""
        radii: Tensor = self.balls(dtype)
        return radii

    def set_statistics(self, total_variance: Tensor, effective_dim: float | Tensor) -> None:
        """Takes tau_c^2 (C,) and nu (0-d) from the centroid pass; see :meth:`UncertaintyBalls.set_statistics`."""
        self.balls.set_statistics(total_variance, effective_dim)

    def normalise(self, features: Tensor) -> Tensor:
        """Features (B, D) as the loss measures them; see :meth:`Measure.normalise`."""
        return self.measure.normalise(features)

    def parts(self) -> "list[DROLTLoss]":
        """A list of the loss itself; `LayeredDROLTLoss` lists one loss a layer."""
        return [self]

    def coverages(self) -> Tensor | None:
        """Probability p_c(eps_c) that each ball holds the true centroid, (C,); null unless distances are Euclidean."""
        if self.distance != "euclidean":
            return None
        return self.balls.log_probability(self.radii().detach()).exp().float()

    def _measured(self, features: Tensor, targets: Tensor, centroids: Tensor) -> tuple[Tensor, ...]:
        """Features, targets and centroids as the loss measures them, radii, and class sizes; numbers in one dtype."""
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ValueError(f"features must have shape (B, {self.num_features}), got {tuple(features.shape)}")
        shape = self.num_classes, self.num_features
        if centroids.shape != shape:
            raise ValueError(f"centroids must have shape {shape}, got {tuple(centroids.shape)}")
        targets = class_indices(targets, len(features), self.num_classes)
        features, centroids = self.normalise(features), self.normalise(centroids.detach())
        return features, targets, centroids, self.radii(features.dtype), self.balls.class_counts.to(features.dtype)


def _check_geometry(
    distance: Distance,
    feature_norm: FeatureNorm,
    eps_mode: EpsMode,
    eps: float | str,
    eps_prior: float,
    own_distance: OwnDistance,
) -> None:
    """Refuses options that need Euclidean distances of plain features, when the loss measures something else."""
    fits = own_distance == "plain" or feature_norm == "none"  # a normalised mean is not the mean of normalised features
    require("own_distance", own_distance, fits, f"must be plain where feature_norm is {feature_norm!r}")
    if distance != "euclidean":
        only = f"where distance is {distance!r}"
        require("eps_mode", eps_mode, eps_mode != "coverage", f"must be zero, shared, sqrt_n or learned {only}")
        require("eps", eps, eps != "auto", f"must be a number {only}")
        require("eps_prior", eps_prior, eps_prior == 0, f"must be 0 {only}")
