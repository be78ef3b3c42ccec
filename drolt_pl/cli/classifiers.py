"""`drolt classifiers`: compares classifiers on the backbone of a run."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drolt_pl.run.opened import open_run

SHOWN = {"All": "acc", "Many": "many", "Medium": "medium", "Few": "few"}


def compare_run(run_dir: Path, *, stage: str, views: int, **recipe: Any) -> tuple[Path, dict[str, Any]]:
    """Trains every classifier on one stage's backbone, and writes `classifiers_<stage>.json` and `.csv` beside the run.

    Args:
        run_dir: The run's folder.
        stage: The stage whose last epoch is taken.
        views: Augmented views of the training set that are cached: so often its features lie in memory.
        recipe: Fields of `drolt_pl.analysis.classifiers.Recipe`.

    Returns:
        The JSON file and what it holds.

    Raises:
        ValueError: not a run, or a stage that it has not trained.
    """
    import torch

    from drolt_pl.analysis.classifiers import Recipe, cache_features, compare
    from drolt_pl.data.plan import Sampling

    config, datamodule, backbone, previous = open_run(run_dir, stage)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cached = cache_features(
        backbone,
        views=(datamodule.epoch_loader(view, Sampling()) for view in range(views)),
        train=datamodule.centroid_dataloader(),
        val=datamodule.val_dataloader() or None,
        test=datamodule.test_dataloader(),
        device=device,
    )
    settings = Recipe(**recipe, batch_size=datamodule.batch_size, seed=config.seed)
    groups = {"many": config.groups.many, "few": config.groups.few}
    found = compare(cached, previous.to(device), datamodule.class_counts, recipe=settings, **groups)
    result = {
        "run": str(run_dir),
        "stage": stage,
        "representation": config.method_name,
        "protocol": config.protocol,
        "views": views,
        **asdict(settings),
        "classifiers": found,
    }
    path = run_dir / f"classifiers_{stage}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["classifier", *(f"{part}_{key}" for part in ("val", "test") for key in SHOWN.values())])
        for name, row in found.items():
            cells = [(row[part] or {}).get(key) for part in ("val", "test") for key in SHOWN.values()]
            writer.writerow([name, *cells])
    return path, result


def show(result: dict[str, Any]) -> None:
    """Prints the row of Table 4, a line for each classifier."""
    from rich.console import Console
    from rich.table import Table

    from drolt_pl.report.tables import percent

    found = result["classifiers"]
    table = Table(title=f"{result['representation']} after {result['stage']}: test accuracy in %")
    table.add_column("Classifier")
    for label in SHOWN:
        table.add_column(label, justify="right")
    for name, row in found.items():
        table.add_row(name, *(percent((row["test"] or {}).get(key)) for key in SHOWN.values()))
    console = Console()
    console.print(table)
    for name, row in found.items():
        if row["why"]:
            console.print(f"{name}: {row['why']}", markup=False, highlight=False, soft_wrap=True)
