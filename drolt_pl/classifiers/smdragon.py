"""smDRAGON re-weights the softmax of a trained classifier by a polynomial in the size of the class."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from drolt_pl import checkpoint_file
from drolt_pl.checked import checked
from drolt_pl.classifiers.base import Classifier, HeldOut, linear_parts
from drolt_pl.classifiers.fitted import FittedClassifier
from drolt_pl.errors import SettingError
from drolt_pl.ranges import Count, PathText

STEPS, RATE = 300, 0.01  # of Adam on all held-out images at once; our choice, the paper gives none
LEARNED = ("coefficients", "offset")


@checked
class SmDragonClassifier(FittedClassifier):
    r"""The vision-only re-weighting of DRAGON (Samuel, Atzmon & Chechik, WACV 2021), fitted on held-out images.

    p(x) is the softmax of the classifier before, and :math:`r_c = n_c / n_{max}`:

    .. math:: p'_c \propto p_c \,\sigma(\sum_{j < k} a_j(x) r_c^j), \quad a(x) = A p(x) + a_0

    A and :math:`a_0` start at zero, where p' = p. They minimise the class-balanced negative log-likelihood of p'.

    Args:
        num_features: D.
        num_classes: C.
        degree: k, the number of coefficients, >= 1; they use 2 to 4.
        weights: ``sigmoid``, as above; or ``softmax``, the softmax over the classes of these sigmoids, as in the last
            layer of DRAGON's code: no class can then weigh more than e times another.
        source: A checkpoint whose smDRAGON is copied; null fits one.

    Logits are log p', (B, C).
    """

    weight: Tensor
    bias: Tensor
    coefficients: Tensor
    offset: Tensor
    powers: Tensor

    def __init__(
        self,
        num_features: Count,
        num_classes: Count,
        degree: Annotated[int, Ge(1), Le(32)] = 3,
        source: PathText | None = None,
        weights: Literal["sigmoid", "softmax"] = "sigmoid",
    ) -> None:
        super().__init__()
        self.source, self.weights = source, weights
        self.register_buffer("weight", torch.zeros(num_classes, num_features))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("coefficients", torch.zeros(degree, num_classes))  # A
        self.register_buffer("offset", torch.zeros(degree))  # a_0
        self.register_buffer("powers", torch.ones(degree, num_classes))  # r_c^j

    @property
    def wanting(self) -> str | None:
        return "source" if self.source is None else None

    @torch.no_grad()
    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Copies ``previous``'s weight and bias; raises TypeError if it has none. ``generator`` is not used."""
        weight, bias = linear_parts(previous)
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def forward(self, features: Tensor) -> Tensor:
        logits = F.linear(features, self.weight, self.bias)
        return self.reweighted(logits, self.coefficients, self.offset)

    def reweighted(self, logits: Tensor, coefficients: Tensor, offset: Tensor) -> Tensor:
        """Logits log p' (B, C) from the classifier's logits (B, C), A (k, C) and a_0 (k,)."""
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
        a = F.linear(log_p.exp(), coefficients.to(log_p.dtype), offset.to(log_p.dtype))  # (B, k)
        scores = a @ self.powers.to(a.dtype)  # (B, C)
        # The softmax's sum over classes cancels when p' is normalised.
        log_weights = F.logsigmoid(scores) if self.weights == "sigmoid" else scores.sigmoid()
        return (log_p + log_weights).log_softmax(1)

    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None:
        share = (counts / counts.max()).float()
        self.powers.copy_(torch.stack([share**power for power in range(len(self.powers))]))
        if self.source is not None:
            self._take_over(self.source)
            return
        if held_out is None:
            raise SettingError("source", "must be given where there are no held-out images to fit smDRAGON on")
        with torch.no_grad():
            logits = F.linear(held_out.features.to(self.weight.dtype), self.weight, self.bias)
        per_class = held_out.targets.bincount(minlength=logits.shape[1]).clamp(min=1)
        weights = 1 / per_class[held_out.targets]
        learned = [torch.zeros_like(kept).requires_grad_() for kept in (self.coefficients, self.offset)]
        optimizer = torch.optim.Adam(learned, lr=RATE)
        with torch.enable_grad():
            for _ in range(STEPS):
                losses = F.nll_loss(self.reweighted(logits, *learned), held_out.targets, reduction="none")
                optimizer.zero_grad()
                torch.autograd.backward((weights * losses).sum() / weights.sum())
                optimizer.step()
        for kept, value in zip((self.coefficients, self.offset), learned, strict=True):
            kept.copy_(value.detach())

    def check_source(self) -> None:
        if self.source is not None:
            self._learned_by(self.source)

    def _take_over(self, source: str) -> None:
        for kept, found in zip((self.coefficients, self.offset), self._learned_by(source), strict=True):
            kept.copy_(found)

    def _learned_by(self, source: str) -> list[Tensor]:
        """The coefficients and the offset of a checkpoint's own smDRAGON."""
        state = checkpoint_file.read(Path(source))["state_dict"]
        learned = [next((state[key] for key in state if key.endswith(f".{name}")), None) for name in LEARNED]
        shapes = [None if found is None else found.shape for found in learned]
        if shapes != [self.coefficients.shape, self.offset.shape]:
            raise SettingError("source", "must hold a smDRAGON of this degree and these classes", source)
        return [found for found in learned if found is not None]
