"""Weighs the experts of a model by the images that it is used on, without their labels (SADE, Zhang et al. 2022)."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from drolt_pl.classifiers import ExpertsClassifier, RoutedExpertsClassifier
from drolt_pl.classifiers.experts import consistent_shares
from drolt_pl.data.augment.transforms import CropFlip
from drolt_pl.data.images.preprocessing import ImageLike
from drolt_pl.errors import SettingError
from drolt_pl.model.model import Model
from drolt_pl.model.stream import read

EIGHTH = 8  # of a side: the shift of a view, as in training on CIFAR


@torch.no_grad()
def adapt_experts(
    model: Model,
    images: Iterable[ImageLike],
    *,
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 0,
    seed: int = 0,
) -> list[float]:
    """Sets the weights of a model's experts by `consistent_shares` of two views, crops that may be mirrored.

    Args:
        model: Its classifier is `experts`; it is changed in place, and `save` keeps the weights.
        images: Paths, PIL images or uint8 tensors (C, H, W); those that cannot be read are passed over.
        flip: Whether views may be mirrored.
        batch_size: Images that go forward together.
        workers: Processes that decode.
        seed: Draws the views.

    Returns:
        The weights, which sum to 1.

    Raises:
        SettingError: a model without experts, or no image that can be read.
    """
    classifier = model.classifier
    if not isinstance(classifier, ExpertsClassifier) or isinstance(classifier, RoutedExpertsClassifier):
        raise SettingError(
            "classifier", "must be 'experts', whose weights can follow the images", type(classifier).__name__
        )
    view, generator = model.preprocessing, torch.Generator().manual_seed(seed)
    shifted = CropFlip(padding=view.image_size // EIGHTH, flip=flip)
    device = classifier.shares.device
    found: list[list[Tensor]] = [[], []]

    def pixels() -> Iterator[Tensor]:
        for batch in read(images, view, batch_size, workers):
            if len(batch.pixels):
                yield batch.pixels

    for batch in pixels():
        for kept in found:
            shown = view.normalised(shifted(batch, generator).to(device))
            kept.append(classifier.expert_logits(model.backbone(shown)).cpu())
    if not found[0]:
        raise SettingError("images", "must name images that can be read: there is none")
    with torch.enable_grad():
        classifier.shares.copy_(consistent_shares(torch.cat(found[0]), torch.cat(found[1])))
    return [round(share, 6) for share in classifier.shares.tolist()]
