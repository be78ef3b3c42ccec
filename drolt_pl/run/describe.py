"""Describes the backbone of a run: how well each layer separates classes, and its features in the plane."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from drolt_pl.analysis.representation import layer_accuracies, plane, spread_classes
from drolt_pl.backbones.layers import blocks
from drolt_pl.centroids import dataset_features
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.records import write_atomically
from drolt_pl.report.feature_plots import write_feature_figure
from drolt_pl.results import Accuracies
from drolt_pl.run.opened import open_run


@dataclass(frozen=True)
class Description:
    """Accuracies of the nearest class mean by layer, after a stage of a run."""

    stage: str
    method: str
    protocol: str
    layers: Mapping[str, Accuracies]


def describe_run(
    run_dir: Path,
    *,
    stage: str | None,
    layers: Sequence[str],
    classes: int,
    moved_to: Path | None = None,
    trust: bool = False,
) -> tuple[Path, Description]:
    """Measures the nearest class mean at every layer, and writes `features_<stage>.json` and `.png` beside the run.

    Args:
        run_dir: The run's folder.
        stage: The stage whose last epoch is taken; null for the first stage that trains a classifier.
        layers: Names of the backbone's parts; an empty list takes its blocks.
        classes: How many classes the figure shows, from the most frequent to the rarest.
        moved_to: See `open_run`.
        trust: See there.

    Returns:
        The JSON file and its content.

    Raises:
        SettingError: the folder holds no run, the run did not train the stage, or a layer is unknown.
    """
    run = open_run(run_dir, stage, moved_to=moved_to, trust=trust)
    data, device = run.datamodule, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accuracies = layer_accuracies(
        run.backbone,
        layers or blocks(run.backbone),
        train=data.centroid_dataloader(),
        test=data.test_dataloader(),
        class_counts=data.class_counts,
        image_shape=data.sample_shape,
        device=device,
        many=run.groups.many,
        few=run.groups.few,
    )
    found = Description(run.stage, run.method, run.protocol, accuracies)
    path = run_dir / f"features_{run.stage}.json"
    content = {
        "stage": found.stage,
        "method": found.method,
        "protocol": found.protocol,
        "layers": {layer: measured.plain() for layer, measured in accuracies.items()},
    }
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    shown = spread_classes(data.class_counts, classes)
    features, targets = _features_of(shown, run.backbone, data, device)
    names = [f"{data.class_names[index]} ({data.class_counts[index]:,})" for index in shown]
    positions = plane(features, seed=run.seed)
    write_feature_figure(path.with_suffix(".png"), accuracies, positions.numpy(), targets.numpy(), names)
    return path, found


@torch.no_grad()
def _features_of(
    classes: Sequence[int], backbone: nn.Module, data: LongTailDataModule, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Features (N, D) of the test images of some classes, and targets (N,) that are indices into `classes`."""
    features, targets = dataset_features(backbone, data.test_dataloader(), device=device)
    place = torch.full((len(data.class_counts),), -1)
    place[list(classes)] = torch.arange(len(classes))
    index = place[targets.cpu()]
    return features[(index >= 0).to(features.device)], index[index >= 0]
