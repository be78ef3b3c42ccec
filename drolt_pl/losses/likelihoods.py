"""The two likelihoods of the robust loss: of the sample given the centroid, or of the class given the sample."""

import warnings
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from drolt_pl.errors import require
from drolt_pl.losses.batch import (
    Denominator,
    class_histogram,
    gather_keys,
    training_set_log_weights,
)
from drolt_pl.losses.classwise import classwise_loss, leave_one_out_factor
from drolt_pl.losses.distances import Distance
from drolt_pl.losses.functional import Bound, exponents, robust_loss, second_branch_share

LikelihoodName = Literal["sample", "class"]
Prior = Literal["none", "train"]
OwnDistance = Literal["plain", "leave_one_out"]


class Rows(NamedTuple):
    """The loss of each sample of a batch, and the counts for its mean.

    Attributes:
        loss: robust_i, (B,).
        present: Samples of each class in the batch, (C,) int64; with ``gather`` in the batch of all ranks.
        num_samples: Samples in that batch.
        measures: 0-d tensors to log.
    """

    loss: Tensor
    present: Tensor
    num_samples: int
    measures: dict[str, Tensor]


class Likelihood(Protocol):
    """The interface of both. Features (B, D) and centroids (C, D) are normalised by `DROLTLoss.normalise`."""

    def rows(self, features: Tensor, targets: Tensor, centroids: Tensor, eps: Tensor, class_counts: Tensor) -> Rows:
        """The loss of each sample."""

    def own_mass(
        self, features: Tensor, targets: Tensor, centroids: Tensor, eps: Tensor, class_counts: Tensor
    ) -> Tensor:
        """Share of the own class in the softmax whose logarithm is the loss, (B,)."""


class _Keys(NamedTuple):
    """The samples in the denominator (K, D), their classes (K,), and the place of each query among them."""

    features: Tensor
    targets: Tensor
    self_index: Tensor | None
    present: Tensor
    log_weights: Tensor | None


class SampleLikelihood:
    """The probability that the sample, among all, belongs to the centroid (Eqs. 6-18): the sum runs over samples.

    Arguments as in :class:`~drolt_pl.losses.dro_lt.DROLTLoss`.
    """

    def __init__(
        self, *, temperature: float, bound: Bound, denominator: Denominator, distance: Distance, gather: bool
    ) -> None:
        if distance != "euclidean":
            demand = f"must be paper, negatives or sample where distance is {distance!r}"
            require("bound", bound, bound != "tight", demand)
        self.temperature, self.bound, self.distance = temperature, bound, distance
        self.denominator, self.gather = denominator, gather
        self._warned = False

    def rows(self, features: Tensor, targets: Tensor, centroids: Tensor, eps: Tensor, class_counts: Tensor) -> Rows:
        keys = self._keys(features, targets, class_counts)
        robust = robust_loss(
            features,
            targets,
            centroids,
            eps,
            temperature=self.temperature,
            bound=self.bound,
            distance=self.distance,
            keys=keys.features,
            key_targets=keys.targets,
            key_log_weights=keys.log_weights,
            self_index=keys.self_index,
        )
        measures = {}
        if self.bound == "tight":
            measures["second_branch"] = second_branch_share(
                features,
                targets,
                centroids,
                eps,
                keys=keys.features,
                key_targets=keys.targets,
                self_index=keys.self_index,
            )
            self._warn_of_attraction(measures["second_branch"])
        return Rows(robust, keys.present, len(keys.features), measures)

    @torch.no_grad()
    def own_mass(
        self, features: Tensor, targets: Tensor, centroids: Tensor, eps: Tensor, class_counts: Tensor
    ) -> Tensor:
        keys = self._keys(features, targets, class_counts)
        rest = (eps, self.bound, self.distance, keys.features, keys.targets, keys.self_index)
        logits = exponents(features, targets, centroids, *rest) / self.temperature  # (B, K)
        if keys.log_weights is not None:
            logits = logits + keys.log_weights
        is_own = targets[:, None] == keys.targets
        return (logits.softmax(1) * is_own).sum(1).to(features.dtype)

    def _keys(self, features: Tensor, targets: Tensor, class_counts: Tensor) -> _Keys:
        keys, key_targets, self_index = gather_keys(features, targets) if self.gather else (features, targets, None)
        present = class_histogram(key_targets, len(class_counts))
        weighted = self.denominator == "weighted"
        batch_counts = present.to(class_counts.dtype)
        log_weights = training_set_log_weights(key_targets, batch_counts, class_counts) if weighted else None
        return _Keys(keys, key_targets, self_index, present, log_weights)

    def _warn_of_attraction(self, share: Tensor) -> None:
        # Reading the value would wait for an accelerator; the caller logs it.
        if share.device.type == "cpu" and not self._warned and float(share) > 0.1:
            self._warned = True
            warnings.warn(
                f"bound 'tight': {float(share):.0%} of the pairs are on its second branch, where other classes are "
                "attracted; take a smaller eps, or bound 'negatives' for training",
                stacklevel=5,
            )


class ClassLikelihood:
    """The probability of the sample's class: :func:`~drolt_pl.losses.classwise.classwise_loss`.

    Arguments as in :class:`~drolt_pl.losses.dro_lt.DROLTLoss`.
    """

    def __init__(self, *, temperature: float, distance: Distance, prior: Prior, own_distance: OwnDistance) -> None:
        if distance == "cosine":  # a unit centroid is not the mean of unit vectors
            plain = own_distance == "plain"
            require("own_distance", own_distance, plain, "must be plain where distance is 'cosine'")
        self.temperature, self.distance, self.prior, self.own_distance = temperature, distance, prior, own_distance

    def rows(self, features: Tensor, targets: Tensor, centroids: Tensor, eps: Tensor, class_counts: Tensor) -> Rows:
        robust = classwise_loss(
            features,
            targets,
            centroids,
            eps,
            temperature=self.temperature,
            distance=self.distance,
            log_prior=class_counts.log() if self.prior == "train" else None,
            own_factor=leave_one_out_factor(class_counts) if self.own_distance == "leave_one_out" else None,
        )
        return Rows(robust, class_histogram(targets, len(class_counts)), len(features), {})

    @torch.no_grad()
    def own_mass(
        self, features: Tensor, targets: Tensor, centroids: Tensor, eps: Tensor, class_counts: Tensor
    ) -> Tensor:
        return (-self.rows(features, targets, centroids, eps, class_counts).loss).exp()


def likelihood_of(
    likelihood: LikelihoodName,
    *,
    temperature: float,
    bound: Bound,
    denominator: Denominator,
    distance: Distance,
    gather: bool,
    prior: Prior,
    own_distance: OwnDistance,
) -> Likelihood:
    """Builds the likelihood of that name; refuses values of options that it does not use."""
    where = f"where likelihood is {likelihood!r}"
    if likelihood == "class":
        require("bound", bound, bound == "paper", f"must be 'paper' {where}, which has one form")
        over_classes = f"{where}, whose sum runs over classes"
        require("denominator", denominator, denominator == "batch", f"must be 'batch' {over_classes}")
        require("gather", gather, not gather, f"must be false {over_classes}")
        return ClassLikelihood(temperature=temperature, distance=distance, prior=prior, own_distance=own_distance)
    require("prior", prior, prior == "none", f"must be 'none' {where}")
    require("own_distance", own_distance, own_distance == "plain", f"must be 'plain' {where}")
    return SampleLikelihood(
        temperature=temperature, bound=bound, denominator=denominator, distance=distance, gather=gather
    )
