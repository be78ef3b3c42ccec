"""A W&B workspace with a panel for everything that a run logs."""

from collections.abc import Sequence
from typing import Any

GROUPS = ("many", "medium", "few")

# Sections and their line plots: title and the logged keys.
LINES: dict[str, dict[str, Sequence[str]]] = {
    "Accuracy": {
        "Validation, classifier": ("val/acc", *(f"val/{group}" for group in GROUPS)),
        "Validation, nearest centroid": ("val/acc_ncm", *(f"val/{group}_ncm" for group in GROUPS)),
        "Training batches": ("train/acc",),
        "Calibration error": ("val/ece",),
    },
    "Loss": {
        "Loss": ("train/loss",),
        "Cross-entropy": ("train/loss_ce",),
        "Robust": ("train/loss_robust", "train/loss_prior"),
        "Own class's softmax mass": ("train/own_mass",),
        "Gradients, robust over cross-entropy": ("train/grad_ratio",),
        "Cosine of both gradients": ("train/grad_cosine",),
    },
    "Centroids and radii": {
        "Radius eps": tuple(f"eps/{group}" for group in GROUPS),
        "Centroid drift an epoch": tuple(f"drift/{group}" for group in GROUPS),
        "Drift over eps": tuple(f"drift_over_eps/{group}" for group in GROUPS),
        "Coverage p(eps)": tuple(f"coverage/{group}" for group in GROUPS),
        "Held-out means in the ball": tuple(f"coverage_held_out/{group}" for group in GROUPS),
        "Held-out means in the ball, expected": tuple(f"coverage_held_out_expected/{group}" for group in GROUPS),
        "Centroid error, held-out over training": tuple(f"inflation/{group}" for group in GROUPS),
        "Radii by class": ("eps_by_class",),
    },
    "Schedule and speed": {
        "Stage": ("stage",),
        "Learning rates": ("lr/backbone", "lr/classifier", "lr/eps"),
        "Batch": ("batch/global", "batch/per_rank"),
        "Images a second": ("time/images_per_s",),
        "Seconds an epoch, and in centroid passes": ("time/epoch_s", "time/centroid_s"),
    },
}
SWEPT = ("loss.eps", "loss.ce_weight", "optimizer.lr")


def build_workspace(entity: str, project: str, *, name: str = "DRO-LT", x: str = "epoch") -> Any:
    """The workspace, not yet saved.

    Args:
        entity: W&B user or team.
        project: W&B project.
        name: Name of the view.
        x: Axis of the line plots, `epoch` or `images_seen`.

    Raises:
        ValueError: another axis, or wandb-workspaces is not installed.
    """
    if x not in ("epoch", "images_seen"):
        raise ValueError(f"x must be epoch or images_seen, got {x!r}")
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ValueError("wandb-workspaces is not installed: pip install 'drolt-pl[wandb]'") from error
    sections = [
        ws.Section(
            name=title,
            panels=[wr.LinePlot(title=panel, x=x, y=list(keys)) for panel, keys in panels.items()],
            is_open=True,
        )
        for title, panels in LINES.items()
    ]
    final = [f"final/test/{key}" for key in ("acc", *GROUPS, "acc_ncm")]
    results = [
        wr.BarPlot(title="Test accuracy, reported model", metrics=final, orientation="v"),
        *(wr.WeavePanelSummaryTable(table_name=table) for table in ("results", "per_class", "confusion_table")),
        wr.MediaBrowser(title="Plots", media_keys=["plots"]),
    ]
    score = wr.SummaryMetric("final/val/acc")
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in SWEPT]
    sweep = [
        wr.ParallelCoordinatesPlot(columns=[*columns, wr.ParallelCoordinatesPlotColumn(score)], title="Validation"),
        wr.ParameterImportancePlot(with_respect_to="final/val/acc"),
        *(wr.ScatterPlot(title=f"Validation against {key}", x=wr.Config(key), y=score) for key in SWEPT),
    ]
    sections += [
        ws.Section(name="Results", panels=results, is_open=True),
        ws.Section(name="Sweep", panels=sweep, is_open=True),
    ]
    return ws.Workspace(
        entity=entity, project=project, name=name, sections=sections, settings=ws.WorkspaceSettings(x_axis=x)
    )
