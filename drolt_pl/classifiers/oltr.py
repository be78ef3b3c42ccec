"""The classifier of OLTR: a memory of class centroids enriches the features of rare classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.classifiers.base import Classifier, HeldOut, draw_uniform, unit_rows
from drolt_pl.ranges import Count, Positive

REACH = 10.0  # the authors' code


@checked
class OLTRClassifier(Classifier):
    r"""Dynamic meta-embedding and cosine classifier (Liu et al. 2019).

    The memory M (C, D) holds learned centroids; the logits have no gradient with respect to it.

    .. math::
        m = \mathrm{softmax}(W_h f)\, M, \quad e = \tanh(W_e f), \quad \gamma = 10 / \min_c \|f - M_c\|

        v = \gamma (f + e \odot m), \qquad
        s_c = s \,\frac{\|v\|}{1 + \|v\|} \cos(v, w_c)

    Args:
        num_features: D.
        num_classes: C.
        scale: s, > 0; theirs is 16.

    Shapes:
        Features (B, D); logits (B, C) in (-scale, scale).
    """

    needs_fit = True

    def __init__(self, num_features: Count, num_classes: Count, scale: Positive = 16.0) -> None:
        super().__init__()
        self.scale = scale
        self.memory = nn.Parameter(torch.zeros(num_classes, num_features))
        self.hallucinator = nn.Linear(num_features, num_classes)
        self.selector = nn.Linear(num_features, num_features)
        self.weight = nn.Parameter(torch.zeros(num_classes, num_features))

    def forward(self, features: Tensor) -> Tensor:
        memory = self.memory.detach()  # trained by its own loss alone
        recalled = self.hallucinator(features).softmax(1) @ memory  # (B, D)
        with torch.autocast(features.device.type, enabled=False):
            wide = features.to(torch.promote_types(features.dtype, torch.float32))
            # The way that torch takes by itself from 25 rows on: a program that is exported has one way.
            distances = torch.cdist(wide, memory.to(wide.dtype), compute_mode="use_mm_for_euclid_dist")
            nearest = distances.amin(1, keepdim=True)  # (B, 1)
        embedding = REACH / nearest.clamp(min=1e-3) * (features + self.selector(features).tanh() * recalled)
        norm = embedding.norm(dim=1, keepdim=True)
        squashed = (embedding / (1 + norm)).to(self.weight.dtype)
        return self.scale * F.linear(squashed, unit_rows(self.weight))

    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Draws the weights by the law of `torch.nn.Linear`; a linear ``previous`` becomes W_h, as in their code.

        `fit` sets the memory.
        """
        for parameter in (self.weight, *self.hallucinator.parameters(), *self.selector.parameters()):
            draw_uniform(parameter, generator, bound=self.weight.shape[1] ** -0.5)
        if isinstance(previous, nn.Linear) and previous.weight.shape == self.hallucinator.weight.shape:
            self.hallucinator.load_state_dict(previous.state_dict())

    @torch.no_grad()
    def fit(self, held_out: HeldOut | None, centroids: Tensor, counts: Tensor) -> None:
        """Sets the memory to the class means of the training set, (C, D)."""
        self.memory.copy_(centroids)

    def class_vectors(self) -> Tensor:
        """The memory, (C, D)."""
        return self.memory
