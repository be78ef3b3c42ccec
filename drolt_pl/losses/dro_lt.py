"""The DRO-LT loss as a module: radii, weights and mixing around the functional core."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from drolt_pl.losses.balls import UncertaintyBalls
from drolt_pl.losses.batch import (
    CLASS_WEIGHTS,
    DENOMINATORS,
    ClassWeight,
    Denominator,
    class_histogram,
    gather_keys,
    sample_weights,
    training_set_log_weights,
)
from drolt_pl.losses.functional import (
    BOUNDS,
    DISTANCES,
    Bound,
    Distance,
    check,
    check_choice,
    check_targets,
    robust_loss,
    second_branch_share,
)
from drolt_pl.losses.measure import Measure
from drolt_pl.losses.radius import EpsMode, RadiusDim

FeatureNorm = Literal["none", "l2"]
FEATURE_NORMS: tuple[str, ...] = get_args(FeatureNorm)


class DROLTLoss(nn.Module):
    r"""Distributional robustness loss for long-tailed recognition (Samuel & Chechik, ICCV 2021, Eqs. 18 and 19).

    ``L_robust = sum_i w_i robust_i``, with robust_i of :func:`~drolt_pl.losses.functional.robust_loss`.

    Args:
        num_classes: C.
        num_features: D.
        class_counts: Training images of each class, (C,), >= 1.
        eps_mode: Radii ``zero``, ``shared`` (eps), ``sqrt_n`` (eps / sqrt(n_c)), ``learned`` (a parameter per class,
            started at eps; it needs an optimizer, without decay) or ``coverage`` (from :meth:`set_statistics`).
        eps: Radius in units of the Euclidean distance of features.
        temperature: Softmax temperature, > 0.
        bound: ``paper`` (Eq. 18), ``negatives``, ``sample`` or ``tight``.
        denominator: ``batch``, or ``weighted`` to estimate the sum over the training set.
        class_weight: ``present``, ``train_set`` or ``uniform`` (:func:`~drolt_pl.losses.batch.sample_weights`).
        distance: ``euclidean``, ``student_t`` or ``cosine``.
        feature_norm: ``l2`` divides features and centroids by their norms; eps and statistics are in those units.
        ce_weight: Weight of cross-entropy in :meth:`mix`, in [0, 1]; the paper's lambda.
        eps_prior: Weight of -log p_c(eps_c) for learned radii: without it the loss can only shrink them.
        coverage: Probability that the ball holds the true centroid, for eps_mode ``coverage``.
        radius_dim: Degrees of freedom of that probability: the ``effective`` ones, or all ``features``.
        gather: Keys are the batches of all ranks; the gradient is right once DDP has averaged it.

    Raises:
        ValueError: a value that is not allowed; the message starts with the argument's name.
    """

    updates: Tensor

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        class_counts: Sequence[int] | Tensor,
        *,
        eps_mode: EpsMode = "sqrt_n",
        eps: float = 1.0,
        temperature: float = 1.0,
        bound: Bound = "paper",
        denominator: Denominator = "batch",
        class_weight: ClassWeight = "present",
        distance: Distance = "euclidean",
        feature_norm: FeatureNorm = "none",
        ce_weight: float = 0.5,
        eps_prior: float = 0.0,
        coverage: float = 0.9,
        radius_dim: RadiusDim = "effective",
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
        )
        check_choice("bound", bound, BOUNDS)
        check_choice("denominator", denominator, DENOMINATORS)
        check_choice("class_weight", class_weight, CLASS_WEIGHTS)
        check_choice("distance", distance, DISTANCES)
        check_choice("feature_norm", feature_norm, FEATURE_NORMS)
        check("temperature", temperature, 0 < temperature < math.inf, "finite and > 0")
        check("ce_weight", ce_weight, 0 <= ce_weight <= 1, "in [0, 1]")
        check("eps_prior", eps_prior, 0 <= eps_prior < math.inf, "finite and >= 0")
        check("eps_prior", eps_prior, eps_prior == 0 or eps_mode == "learned", "0 unless eps_mode is 'learned'")
        if distance != "euclidean":  # these three rest on the geometry of d itself
            only = f"where distance is {distance!r}"
            check("bound", bound, bound != "tight", f"paper, negatives or sample {only}")
            check("eps_mode", eps_mode, eps_mode != "coverage", f"zero, shared, sqrt_n or learned {only}")
            check("eps_prior", eps_prior, eps_prior == 0, f"0 {only}")
        self.num_classes, self.num_features = num_classes, num_features
        self.temperature, self.bound, self.distance = temperature, bound, distance
        self.measure = Measure(distance, feature_norm)
        self.denominator, self.class_weight, self.gather = denominator, class_weight, gather
        self.ce_weight, self.eps_prior = ce_weight, eps_prior
        self._warned = False
        self.register_buffer("updates", torch.zeros(num_classes, dtype=torch.long))

    def forward(self, features: Tensor, targets: Tensor, centroids: Tensor) -> Tensor:
        """L_robust with its prior, 0-d, in nats; arguments as in :meth:`terms`."""
        return self.total(self.terms(features, targets, centroids))

    def terms(
        self, features: Tensor, targets: Tensor, centroids: Tensor, shares: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Parts of the loss.

        In train mode, with gradients, `updates` (C,) counts the steps that saw each class; without ``gather`` those of
        this rank alone.

        Args:
            features: (B, D), any float dtype.
            targets: (B,), integers in [0, C).
            centroids: Class means over the training set, (C, D).
            shares: How far each sample is of its class, (B,), for mixed images: the terms of both assignments, with
                shares that sum to 1, add up to the loss.

        Returns:
            0-d tensors: ``robust``; ``prior`` where eps_prior > 0; for the bound ``tight`` also ``second_branch``, the
            share of pairs whose exponent no longer depends on eps. :meth:`total` adds up what is to be minimised.

        Raises:
            RuntimeError: eps_prior or coverage before :meth:`set_statistics`.
            ValueError: a shape that does not fit; on CPU a target outside [0, C), or ranks with unequal batches.
        """
        check_targets(targets, self.num_classes)
        features, centroids = self.normalise(features), self.normalise(centroids.detach())
        keys, key_targets, self_index = gather_keys(features, targets) if self.gather else (features, targets, None)
        present = class_histogram(key_targets, self.num_classes)  # (C,)
        batch_counts, class_counts = present.to(features.dtype), self.balls.class_counts.to(features.dtype)
        weighted = self.denominator == "weighted"
        log_weights = training_set_log_weights(key_targets, batch_counts, class_counts) if weighted else None
        eps = self.radii(features.dtype)
        robust = robust_loss(
            features,
            targets,
            centroids,
            eps,
            temperature=self.temperature,
            bound=self.bound,
            distance=self.distance,
            keys=keys,
            key_targets=key_targets,
            key_log_weights=log_weights,
            self_index=self_index,
        )  # (B,)
        weights = sample_weights(targets, batch_counts, class_counts, self.class_weight)
        if shares is not None:
            weights = weights * shares
        if len(keys) > len(features):  # the weights are those of the batch of all ranks, by whose number DDP divides
            weights = len(keys) / len(features) * weights
        terms = {"robust": (weights * robust).sum()}
        if self.eps_prior > 0:
            log_p = self.balls.log_probability(eps) * (present > 0)
            terms["prior"] = -self.eps_prior * log_p.sum().to(features.dtype) / (present > 0).sum()
        if self.bound == "tight":
            terms["second_branch"] = second_branch_share(
                features, targets, centroids, eps, keys=keys, key_targets=key_targets, self_index=self_index
            )
            self._warn_of_attraction(terms["second_branch"])
        if shares is not None:  # the rest is not of single samples
            terms = {name: term if name == "robust" else shares.mean() * term for name, term in terms.items()}
        if self.training and torch.is_grad_enabled():
            self.updates += present > 0
        return terms

    @staticmethod
    def total(terms: Mapping[str, Tensor]) -> Tensor:
        """Sum of the parts that :meth:`terms` returned, but for the measurements among them, 0-d."""
        return terms["robust"] + terms["prior"] if "prior" in terms else terms["robust"]

    def mix(self, ce: Tensor, value: Tensor) -> Tensor:
        """``ce_weight * ce + (1 - ce_weight) * value``, Eq. 19."""
        return self.ce_weight * ce + (1 - self.ce_weight) * value

    def radii(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Radius of each class's ball, (C,), >= 0; raises RuntimeError for ``coverage`` without statistics."""
        radii: Tensor = self.balls(dtype)
        return radii

    def set_statistics(self, total_variance: Tensor, effective_dim: float | Tensor) -> None:
        """Takes tau_c^2 (C,) and nu (0-d) of the centroid pass: see :meth:`UncertaintyBalls.set_statistics`."""
        self.balls.set_statistics(total_variance, effective_dim)

    def normalise(self, features: Tensor) -> Tensor:
        """Features (B, D) as the loss measures them, see :meth:`Measure.normalise`."""
        return self.measure.normalise(features)

    def parts(self) -> "list[DROLTLoss]":
        """The loss itself: `LayeredDROLTLoss` has several."""
        return [self]

    def coverages(self) -> Tensor | None:
        """Probability p_c(eps_c) that each ball holds the true centroid, (C,); null but for Euclidean distances."""
        if self.distance != "euclidean":
            return None
        return self.balls.log_probability(self.radii().detach()).exp().float()

    def _warn_of_attraction(self, share: Tensor) -> None:
        # On an accelerator the value stays there: the caller logs it.
        if share.device.type == "cpu" and not self._warned and float(share) > 0.1:
            self._warned = True
            warnings.warn(
                f"bound 'tight': {float(share):.0%} of the pairs are on its second branch, where other classes are "
                "attracted; take a smaller eps, or bound 'negatives' for training",
                stacklevel=4,
            )
