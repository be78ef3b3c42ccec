"""Self-supervision by rotation: the network tells which quarter turn an image was given."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.losses import Criterion
from drolt_pl.objectives.base import Batch, Learner, Objective


class Rotation(Objective):
    """Tells quarter turns apart (Gidaris et al. 2018): pre-training for long tails (SSP, Yang & Xu 2020).

    Each image is turned once an epoch. Its place in the batch, drawn anew every epoch, decides the turn, so an epoch
    costs as much as one of classification. No classifier learns, and no label is read.

    Args:
        num_features: D.
        criterion, options: See `Objective`.
    """

    needs_images = True

    def __init__(self, *, criterion: Criterion, num_features: int, **options: object) -> None:
        super().__init__(criterion=criterion)
        self.head = nn.Linear(num_features, 4)

    def forward(self, learner: Learner, batch: Batch) -> dict[str, Tensor]:
        turns = torch.arange(len(batch.images), device=batch.images.device) % 4
        turned = batch.images.clone()
        for turn in range(1, 4):
            turned[turn::4] = batch.images[turn::4].rot90(turn, (2, 3))
        logits = self.head(learner.training_features(turned))
        loss = F.cross_entropy(logits.float(), turns)
        return {"loss_rotation": loss, "acc": (logits.detach().argmax(1) == turns).float().mean(), "loss": loss}
