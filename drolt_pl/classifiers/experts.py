"""Classifiers of several experts: logits of all or of those that are asked are averaged, or features are joined."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.checked import checked
from drolt_pl.classifiers.base import Classifier, draw_normal, draw_uniform, unit_rows
from drolt_pl.classifiers.linear import CosineClassifier, LinearClassifier
from drolt_pl.errors import require
from drolt_pl.ranges import Count, Few, Positive, Width

ADAPT_STEPS, ADAPT_RATE = 200, 0.05  # of Adam on all images at once; theirs has 5 epochs of SGD
LEAST_SHARE = 0.05  # the code of SADE


@checked
class ExpertsClassifier(Classifier):
    """A head for each expert; the logits are the weighted mean of theirs, at first the plain mean.

    Args:
        num_features: Length D of one expert's features.
        num_classes: Number of classes C.
        experts: Number E of experts, as many as the backbone has.
        scale: Scale of cosine heads, 30 in the code of RIDE; null for linear heads.

    Attributes:
        shares: Buffer (E,) of weights that sum to 1.

    Shapes:
        Features (B, E, D); logits (B, C).
    """

    shares: Tensor

    def __init__(
        self, num_features: Count, num_classes: Count, experts: Few = 3, scale: Positive | None = 30.0
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(num_features, num_classes, scale) for _ in range(experts))
        self.register_buffer("shares", torch.full((experts,), 1 / experts))

    def expert_logits(self, features: Tensor) -> Tensor:
        sets = features.unbind(1) if features.ndim == 3 else (features,)
        fits = len(sets) == len(self.heads)
        require("classifier.experts", len(self.heads), fits, f"must be {len(sets)}, as many as the backbone has")
        return torch.stack([head(own) for head, own in zip(self.heads, sets, strict=True)], 1)

    def forward(self, features: Tensor) -> Tensor:
        logits = self.expert_logits(features)  # (B, E, C)
        return (self.shares.to(logits.dtype)[:, None] * logits).sum(1)

    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Draws every head anew; ``previous`` is not used."""
        for head in self.heads:
            assert isinstance(head, Classifier)
            head.begin(None, generator=generator)


def consistent_shares(first: Tensor, second: Tensor) -> Tensor:
    r"""Weights of the experts, (E,), by which two views of the same images agree most (SADE, Zhang et al. 2022).

    They minimise :math:`-\frac{1}{N} \sum_i \cos(p_i, q_i)`, p and q the softmax of the weighted logits of the views:
    the experts that fit the images' classes are the stable ones. No label is read. As in their code, the weights are a
    softmax that starts even, and no weight falls below 0.05.

    Args:
        first: Logits of each expert for the first views, (N, E, C).
        second: The same for the second views.
    """
    first, second = first.double(), second.double()
    scores = torch.zeros(first.shape[1], dtype=first.dtype, device=first.device, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=ADAPT_RATE)
    shares = scores.detach().softmax(0)
    for _ in range(ADAPT_STEPS):
        weights = scores.softmax(0)
        if float(weights.detach().min()) < LEAST_SHARE:
            break
        shares = weights.detach()
        one, two = ((weights[:, None] * logits).sum(1).softmax(1) for logits in (first, second))
        optimizer.zero_grad()
        torch.autograd.backward(-F.cosine_similarity(one, two, dim=1).mean())
        optimizer.step()
    return shares


@checked
class RoutedExpertsClassifier(ExpertsClassifier):
    r"""Asks one expert after the other, until one says that the next is not needed (RIDE, Wang et al. 2021).

    After expert e a small network sees its features, on the unit sphere, and the largest logits of the mean of the
    experts so far; above 0 it wants the next one. The logits are the mean of the experts that were asked. The heads are
    those of the stage before and do not learn.

    Args:
        num_features, num_classes, experts, scale: See `ExpertsClassifier`; as in the stage before.
        num_hidden: Width of the networks' inner layer.
        top: How many of the largest logits they see.

    Shapes:
        Features (B, E, D); logits (B, C).
    """

    def __init__(
        self,
        num_features: Count,
        num_classes: Count,
        experts: Few = 3,
        scale: Positive | None = 30.0,
        num_hidden: Width = 16,
        top: Few = 5,
    ) -> None:
        super().__init__(num_features, num_classes, experts, scale)
        require("experts", experts, experts > 1, "must be at least 2: one expert has no next one")
        self.heads.requires_grad_(False)
        self.top = min(top, num_classes)
        self.hidden = nn.ModuleList(nn.Linear(num_features, num_hidden) for _ in range(experts - 1))
        self.wish = nn.Linear(num_hidden + self.top, 1)

    def routes(self, features: Tensor) -> Tensor:
        return self._wishes(features, running_means(self.expert_logits(features)))

    def forward(self, features: Tensor) -> Tensor:
        means = running_means(self.expert_logits(features))  # (B, E, C)
        wanted = (self._wishes(features, means) > 0).unbind(1)
        logits = means[:, -1]
        for place in range(len(wanted) - 1, -1, -1):  # from the last back: the first that wants no next one decides
            logits = torch.where(wanted[place][:, None], logits, means[:, place])
        return logits

    def begin(self, previous: Classifier | None, *, generator: torch.Generator) -> None:
        """Takes over the heads of ``previous`` and draws the networks by Kaiming's normal law.

        Raises:
            TypeError: ``previous`` has no heads for as many experts of this kind.
        """
        state = {} if previous is None else previous.state_dict()
        own = self.heads.state_dict(prefix="heads.")
        heads = {key: value for key, value in state.items() if key.startswith("heads.")}
        if {key: value.shape for key, value in heads.items()} != {key: value.shape for key, value in own.items()}:
            kind = type(previous).__name__
            raise TypeError(f"previous must be a classifier of {len(self.heads)} such experts, got {kind}")
        self.heads.load_state_dict({key.removeprefix("heads."): value for key, value in heads.items()})
        for layer in (*self.hidden, self.wish):
            assert isinstance(layer, nn.Linear)
            draw_normal(layer.weight, generator, std=(2 / layer.in_features) ** 0.5)
            draw_uniform(layer.bias, generator, bound=layer.in_features**-0.5)

    def _wishes(self, features: Tensor, means: Tensor) -> Tensor:
        wishes = []
        for place, (layer, own) in enumerate(zip(self.hidden, features.unbind(1)[:-1], strict=True)):
            seen = F.relu(layer(unit_rows(own)))
            best = means[:, place].topk(self.top, dim=1).values
            wishes.append(self.wish(torch.cat([best.to(seen.dtype), seen], 1)))
        return torch.cat(wishes, 1)


@checked
class JoinedClassifier(LinearClassifier):
    """One linear layer on the features of all experts side by side (BBN, Zhou et al. 2020).

    Args:
        num_features: Length D of one expert's features.
        num_classes: Number of classes C.
        experts: Number E of experts, as many as the backbone has.

    Shapes:
        Features (B, E, D); logits (B, C).
    """

    def __init__(self, num_features: Count, num_classes: Count, experts: Few = 2) -> None:
        super().__init__(experts * num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.flatten(1))


def running_means(logits: Tensor) -> Tensor:
    """The mean of the first 1, 2, ..., E experts' logits, of logits (B, E, C); the same shape."""
    number = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype)
    return logits.cumsum(1) / number[:, None]


def _head(num_features: int, num_classes: int, scale: float | None) -> Classifier:
    if scale is None:
        return LinearClassifier(num_features, num_classes)
    return CosineClassifier(num_features, num_classes, scale)
