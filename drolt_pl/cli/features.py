"""`drolt features`: what the layers of a run's backbone tell apart, and how its features lie."""

import json
from pathlib import Path
from typing import Any

from drolt_pl.run.opened import open_run


def describe_run(run_dir: Path, *, stage: str, layers: list[str], classes: int) -> tuple[Path, dict[str, Any]]:
    """Measures the nearest class mean at every layer, and writes `features_<stage>.json` and `.png` beside the run.

    Args:
        run_dir: The run's folder.
        stage: The stage whose last epoch is taken.
        layers: Names of the backbone's parts; none: its blocks.
        classes: How many classes the figure shows, from the most frequent to the rarest.

    Returns:
        The JSON file and what it holds.

    Raises:
        ValueError: not a run, a stage that it has not trained, or a layer that its backbone has not.
    """
    import torch

    from drolt_pl.analysis.representation import layer_accuracies, plane, spread_classes
    from drolt_pl.backbones.layers import blocks
    from drolt_pl.centroids import dataset_features
    from drolt_pl.report.feature_plots import write_feature_figure

    config, datamodule, backbone, _ = open_run(run_dir, stage)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = datamodule.image_size
    counts = datamodule.class_counts
    accuracies = layer_accuracies(
        backbone,
        layers or blocks(backbone),
        train=datamodule.centroid_dataloader(),
        test=datamodule.test_dataloader(),
        class_counts=counts,
        image_shape=(datamodule.in_channels, size, size),
        device=device,
        many=config.groups.many,
        few=config.groups.few,
    )
    result = {"stage": stage, "method": config.method_name, "protocol": config.protocol, "layers": accuracies}
    path = run_dir / f"features_{stage}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")

    shown = spread_classes(counts, classes)
    with torch.no_grad():
        features, targets = dataset_features(backbone, datamodule.test_dataloader(), device=device)
    place = torch.full((len(counts),), -1)
    place[shown] = torch.arange(len(shown))
    index = place[targets.cpu()]
    names = [f"{datamodule.class_names[found]} ({counts[found]:,})" for found in shown]
    positions = plane(features[(index >= 0).to(features.device)], seed=config.seed)
    write_feature_figure(path.with_suffix(".png"), accuracies, positions.numpy(), index[index >= 0].numpy(), names)
    return path, result


def show(result: dict[str, Any]) -> None:
    """Prints the accuracies, a line for each layer."""
    from rich.console import Console
    from rich.table import Table

    from drolt_pl.report.tables import COLUMNS, percent

    shown = {label: key for label, key in COLUMNS.items() if key != "acc_ncm"}
    table = Table(title=f"{result['method']} after {result['stage']}: nearest class mean, test accuracy in %")
    table.add_column("Layer")
    for label in shown:
        table.add_column(label, justify="right")
    for layer, measured in result["layers"].items():
        table.add_row(layer, *(percent(measured[key]) for key in shown.values()))
    Console().print(table)
