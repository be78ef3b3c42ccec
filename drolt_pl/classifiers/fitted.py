"""Classifiers without gradient steps: `fit` sets them when their stage starts, or their one number is given."""

from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from drolt_pl.checked import checked
from drolt_pl.classifiers.base import Classifier, HeldOut, linear_parts
from drolt_pl.errors import SettingError
from drolt_pl.ranges import Count, NonNegative

GRID = tuple(step / 10 for step in range(21))  # 0 to 2: the grid of Kang et al.'s code, and Menon et al.'s range


class FittedClassifier(Classifier):
    """Base of the classifiers that a stage fits instead of training: they have buffers and no parameters."""

    fitted = True
    needs_fit = True

    @abstractmethod
    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None: ...


@checked
class _OneNumber(FittedClassifier):
    """Takes W and b of the classifier before and changes them by one number, ``tau``.

    Args:
        num_features: D.
        num_classes: C.
        tau: The number, >= 0; null chooses the best of 0, 0.1, ..., 2 by accuracy on held-out images, the smallest of
            equals.
    """

    weight: Tensor
    bias: Tensor
    tau: Tensor

    def __init__(self, num_features: Count, num_classes: Count, tau: NonNegative | None = None) -> None:
        super().__init__()
        self.given = tau
        self.register_buffer("weight", torch.zeros(num_classes, num_features))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("tau", torch.tensor(0.0 if tau is None else float(tau)))

    @property
    def wanting(self) -> str | None:
        return "tau" if self.given is None else None

    @property
    def chosen(self) -> dict[str, float]:
        return {"tau": round(float(self.tau), 6)}

    @torch.no_grad()
    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Copies ``previous``'s weight and bias; ``generator`` is not used.

        Raises:
            TypeError: ``previous`` is not a classifier with a weight and a bias.
        """
        weight, bias = linear_parts(previous)
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def linear_parts(self) -> tuple[Tensor, Tensor]:
        return self.weight, self.bias

    @torch.no_grad()
    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None:
        if self.given is not None:
            return
        if held_out is None:
            raise SettingError("tau", "must be given where there are no held-out images to choose it on")
        accuracies = []
        for tau in GRID:
            self.tau.fill_(tau)
            accuracies.append(macro_accuracy(self(held_out.features), held_out.targets))
        self.tau.fill_(GRID[accuracies.index(max(accuracies))])


class TauNormClassifier(_OneNumber):
    r"""Tau-normalisation (Kang et al. 2020, Sec. 4.1): :math:`s_c = w_c f / \|w_c\|^\tau`, the bias dropped.

    Arguments as for `_OneNumber`.
    """

    def forward(self, features: Tensor) -> Tensor:
        norms = self.weight.norm(dim=1, keepdim=True)  # (C, 1)
        return F.linear(features, self.weight / torch.where(norms > 0, norms, 1.0) ** self.tau)


@checked
class LogitAdjustedClassifier(_OneNumber):
    r"""Post-hoc logit adjustment (Menon et al. 2021): :math:`s_c - \tau \log p_c`, p the training frequencies.

    Arguments as for `_OneNumber`.
    """

    log_prior: Tensor

    def __init__(self, num_features: Count, num_classes: Count, tau: NonNegative | None = None) -> None:
        super().__init__(num_features, num_classes, tau)
        self.register_buffer("log_prior", torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias) - self.tau * self.log_prior

    @torch.no_grad()
    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None:
        self.log_prior.copy_((counts.clamp(min=1).double() / counts.sum()).log())
        super().fit(held_out, centroids, counts)


@checked
class NearestMeanClassifier(FittedClassifier):
    r"""Nearest class mean: :math:`s_c = -\|f - \mu_c\|` (Kang et al. 2020, "NCM").

    Args:
        num_features: D.
        num_classes: C.
        distance: ``euclidean``, or ``cosine``: the mean of all classes is taken off features and means, and both are
            put on the unit sphere.
        feature_norm: ``l2`` if the means are those of unit vectors (`DROLTLoss`'s ``feature_norm``).
        form: One of the three forms of Kang et al.'s code in place of ``distance``, all Euclidean: ``un`` takes
            features as they are; ``l2n`` takes unit features and their means; ``cl2n`` first takes the mean of all
            images off.
    """

    means: Tensor
    origin: Tensor
    present: Tensor

    def __init__(
        self,
        num_features: Count,
        num_classes: Count,
        distance: Literal["euclidean", "cosine"] = "cosine",
        feature_norm: Literal["none", "l2"] = "none",
        form: Literal["un", "l2n", "cl2n"] | None = None,
    ) -> None:
        super().__init__()
        self.distance, self.feature_norm, self.form = distance, feature_norm, form
        self.register_buffer("means", torch.zeros(num_classes, num_features))
        self.register_buffer("origin", torch.zeros(num_features))
        self.register_buffer("present", torch.ones(num_classes, dtype=torch.bool))

    @property
    def measures(self) -> bool:
        return self.form in ("l2n", "cl2n")

    def measured(self, features: Tensor) -> Tensor:
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        if self.feature_norm == "l2":
            features = F.normalize(features, dim=1)
        if self.form == "cl2n" or (self.form is None and self.distance == "cosine"):
            features = features - self.origin
        return F.normalize(features, dim=1) if self.measures else features

    def set_means(self, means: Tensor) -> None:
        self.means.copy_(means)

    def forward(self, features: Tensor) -> Tensor:
        features, means = self.measured(features), self.means
        if self.form is None and self.distance == "cosine":
            features, means = F.normalize(features, dim=1), F.normalize(means - self.origin, dim=1)
        # The exact way has no name in ONNX; an exported file is compared with the model.
        mode = "use_mm_for_euclid_dist" if torch.compiler.is_exporting() else "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(features, means.to(features.dtype), compute_mode=mode)
        return -distances.masked_fill(~self.present, torch.inf)

    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Does nothing: all it needs comes from `fit`."""

    @torch.no_grad()
    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None:
        self.means.copy_(centroids)
        self.present.copy_(counts > 0)
        weights = (counts if self.form == "cl2n" else counts > 0).to(centroids.dtype)
        self.origin.copy_(weights @ centroids / weights.sum())


def macro_accuracy(logits: Tensor, targets: Tensor) -> float:
    """The share of right predictions by logits (M, C), averaged over the classes in `targets` (M,)."""
    right = (logits.argmax(1) == targets).double()
    total = torch.zeros(logits.shape[1], dtype=torch.float64, device=targets.device)
    counts = total.index_add(0, targets, torch.ones_like(right))
    return float((total.index_add(0, targets, right) / counts)[counts > 0].mean())
