"""Compares the classifiers of conf/comparison.yaml on the backbone of a run."""

import csv
import io
from dataclasses import asdict
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from drolt_pl import escape
from drolt_pl.analysis.classifiers import CachedFeatures, Candidate, Recipe, cache_features, compare
from drolt_pl.comparison import Comparison
from drolt_pl.data.base import LongTailDataModule
from drolt_pl.data.images.loaders import BatchLoader
from drolt_pl.data.plan import Sampling
from drolt_pl.records import write_atomically
from drolt_pl.run.opened import OpenedRun, open_run

METRICS = ("acc", "many", "medium", "few")


def compare_run(
    run_dir: Path,
    conf: Path,
    *,
    stage: str | None,
    views: int,
    epochs: int,
    lr: float,
    weight_decay: float,
    moved_to: Path | None = None,
    trust: bool = False,
) -> tuple[Path, Comparison]:
    """Compares classifiers on one stage's backbone, and writes `classifiers_<stage>.json` and `.csv` beside the run.

    Args:
        run_dir: The run's folder.
        conf: The folder of configurations.
        stage: The stage whose last epoch is taken; null for the first stage that trains a classifier.
        views: Number of augmented views of the training set whose features are held in memory; of stored features no
            more than there are.
        epochs: Epochs of the classifiers that are trained.
        lr: Their learning rate at the start.
        weight_decay: Their weight decay.
        moved_to: See `open_run`.
        trust: See there.

    Returns:
        The JSON file and its content.

    Raises:
        SettingError: the folder holds no run, or the run did not train the stage.
    """
    run = open_run(run_dir, stage, moved_to=moved_to, trust=trust)
    data, device = run.datamodule, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    views = min(views, data.store.source.views or views)  # stored features have no more
    cached = _cached(run, views, device)
    recipe = Recipe(
        epochs=epochs,
        lr=lr,
        weight_decay=weight_decay,
        batch_size=data.batch_size,
        seed=run.seed,
        precision="bf16-mixed" if run.precision in ("bf16", "bf16-mixed") else "32-true",
    )
    previous, listed = run.classifier.to(device), candidates(conf)
    found = Comparison(
        run=str(run_dir),
        stage=run.stage,
        representation=run.method,
        protocol=run.protocol,
        views=views,
        **asdict(recipe),
        classifiers=compare(listed, cached, previous, data.class_counts, recipe=recipe, groups=run.groups),
    )
    path = run_dir / f"classifiers_{run.stage}.json"
    found.write(path)
    _write_csv(path.with_suffix(".csv"), found)
    return path, found


def _cached(run: OpenedRun, views: int, device: torch.device) -> CachedFeatures:
    data, val = run.datamodule, run.datamodule.val_dataloader()
    return cache_features(
        run.backbone,
        views=(_view(data, epoch) for epoch in range(views)),
        train=data.centroid_dataloader(),
        val=None if isinstance(val, list) else val,
        test=data.test_dataloader(),
        device=device,
    )


def _view(data: LongTailDataModule, epoch: int) -> BatchLoader:
    """The training images with the augmentation of an epoch."""
    loader = data.epoch_loader(epoch, Sampling())
    assert isinstance(loader, BatchLoader), "this sampling mixes no images"
    return loader


def candidates(conf: Path) -> dict[str, Candidate]:
    """The candidates that conf/comparison.yaml lists, by label."""
    listed = OmegaConf.load(conf / "comparison.yaml")
    found = {}
    for label, entry in listed.items():
        classifier = OmegaConf.load(conf / "classifier" / f"{entry.classifier}.yaml")
        classifier = OmegaConf.merge(classifier, entry.get("arguments", {}))
        criterion = OmegaConf.load(conf / "criterion" / f"{entry.get('criterion', 'ce')}.yaml")
        found[str(label)] = Candidate(
            build=instantiate(classifier, _partial_=True),
            sampling=entry.get("sampling", "instance"),
            criterion=instantiate(criterion, _partial_=True),
        )
    return found


def _write_csv(path: Path, found: Comparison) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["classifier", *(f"{part}_{key}" for part in ("val", "test") for key in METRICS)])
    for name, compared in found.classifiers.items():
        measured = [{} if part is None else part.numbers() for part in (compared.val, compared.test)]
        writer.writerow([escape.cell(name), *(numbers.get(key) for numbers in measured for key in METRICS)])
    write_atomically(path, file.getvalue())
