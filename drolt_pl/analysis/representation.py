"""Measures how well each layer of a network separates classes (Figure 3 of the paper), and maps features to a plane."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from drolt_pl.analysis.accuracies import accuracies
from drolt_pl.backbones.layers import LayerTaps
from drolt_pl.centroids import blockwise_statistics, dataset_features
from drolt_pl.groups import FEW, MANY
from drolt_pl.learning.protocols import Batches
from drolt_pl.metrics import ShotAccuracy, ncm_predict
from drolt_pl.results import Accuracies


def layer_accuracies(
    backbone: nn.Module,
    layers: Sequence[str],
    *,
    train: Batches,
    test: Batches,
    class_counts: Sequence[int],
    image_shape: Sequence[int],
    device: torch.device,
    many: int = MANY,
    few: int = FEW,
) -> dict[str, Accuracies]:
    """Test accuracies of the nearest class mean by layer; arguments as in `nearest_means`."""
    metrics = nearest_means(
        backbone,
        layers,
        train=train,
        test=test,
        class_counts=class_counts,
        image_shape=image_shape,
        device=device,
        many=many,
        few=few,
    )
    return {layer: accuracies(metric) for layer, metric in metrics.items()}


@torch.no_grad()
def nearest_means(
    backbone: nn.Module,
    layers: Sequence[str],
    *,
    train: Batches,
    test: Batches,
    class_counts: Sequence[int],
    image_shape: Sequence[int],
    device: torch.device,
    many: int = MANY,
    few: int = FEW,
) -> dict[str, ShotAccuracy]:
    """What the nearest class mean classifies correctly, by layer; maps are pooled over positions.

    Args:
        backbone: The network; put into eval mode.
        layers: Names of its parts, as in `named_modules()`.
        train: Images and targets of the class means.
        test: Images and targets to classify.
        class_counts: Training images per class, (C,).
        image_shape: (channels, height, width).
        device: Where the backbone runs.
        many: Classes with more training images are "many".
        few: Classes with fewer are "few".

    Raises:
        SettingError: an unknown layer, a repeated layer, or an empty list.
    """
    taps = LayerTaps(backbone.eval(), layers, image_shape)
    backbone.to(device)

    def pooled(images: Tensor) -> Tensor:
        backbone(images)
        return taps.features()

    found = blockwise_statistics(pooled, train, num_classes=len(class_counts), widths=taps.widths, device=device)
    metrics = [ShotAccuracy(class_counts, many=many, few=few).to(device) for _ in layers]
    for images, targets in test:
        blocks = torch.split(pooled(images.to(device)), list(taps.widths), dim=1)
        for features, statistics, metric in zip(blocks, found, metrics, strict=True):
            metric.update(ncm_predict(features, statistics.centroids, statistics.counts), targets.to(device))
    return dict(zip(layers, metrics, strict=True))


@torch.no_grad()
def layer_features(
    backbone: nn.Module, layers: Sequence[str], batches: Batches, *, image_shape: Sequence[int], device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Features (N, D_l) by layer, maps pooled over positions, and targets (N,).

    Args:
        backbone: The network; put into eval mode.
        layers: Names of its parts, as in `named_modules()`.
        batches: Images and targets.
        image_shape: (channels, height, width).
        device: Where the backbone runs; the features are on the CPU.

    Raises:
        SettingError: an unknown layer, a repeated layer, or an empty list.
    """
    taps = LayerTaps(backbone.eval(), layers, image_shape)
    backbone.to(device)

    def concatenated(images: Tensor) -> Tensor:
        backbone(images)
        return taps.features()

    features, targets = dataset_features(concatenated, ((images, labels) for images, labels in batches), device=device)
    blocks = torch.split(features.cpu(), list(taps.widths), dim=1)
    return dict(zip(layers, blocks, strict=True)), targets.cpu()


def spread_classes(class_counts: Sequence[int], number: int) -> list[int]:
    """Indices of `number` classes from the most frequent to the rarest, evenly spaced by rank."""
    by_count = sorted(range(len(class_counts)), key=lambda index: -class_counts[index])
    ranks = np.linspace(0, len(by_count) - 1, min(number, len(by_count))).round().astype(int)
    return [by_count[rank] for rank in ranks]


def plane(features: Tensor, *, seed: int = 0) -> Tensor:
    """Positions in the plane, (N, 2), of features (N, D): scikit-learn's t-SNE, started from principal components.

    Distances between far groups mean nothing in it (van der Maaten & Hinton 2008); neighbourhoods do.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    embedded = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(features.cpu().float().numpy())
    return torch.from_numpy(np.asarray(embedded, dtype=np.float32))
