"""The rows of each figure, measured on runs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from drolt_pl.analysis.accuracies import by_group
from drolt_pl.analysis.balls import balls
from drolt_pl.analysis.bounds import bound_rows, spread_samples
from drolt_pl.analysis.errors import class_errors, sensitivity
from drolt_pl.analysis.radii import learned_radii, nominal_and_found, radius_and_error
from drolt_pl.analysis.representation import nearest_means, plane, spread_classes
from drolt_pl.errors import SettingError
from drolt_pl.folders import is_finite, table
from drolt_pl.groups import group_of
from drolt_pl.rows import Row, labelled
from drolt_pl.run.figures.sources import CPU, Opened, Source, longest_tail, opened, recorded

CLASSES = 10  # of the plane
KEYS, QUERIES = 400, 100  # of the bounds
NO_RADII = "must have a radius for each class: a run of method=dro_lt"
JOBS = "jobs.csv"  # of a sweep
VARIED = ("loss.eps", "loss.ce_weight", "optimizer.lr")  # paper Sec. 7.4


def in_two_dimensions(sources: Sequence[Source]) -> list[Row]:
    """Figure 1."""
    found = sources[0].open("joint")
    statistics = [found.statistics(features) for features in (found.train, found.held_out)]
    names = found.run.datamodule.class_names
    measured = balls(found.train, found.held_out, statistics, _radii(found), names, found.groups)
    return [{"seed": found.run.seed, **row} for row in measured]


def radii(sources: Sequence[Source]) -> list[Row]:
    """Figure 2."""
    rows: list[Row] = []
    for source, results in recorded(sources):
        eps = [value for value in results.eps or () if isinstance(value, float)]
        if len(eps) != len(results.class_counts):
            raise SettingError("RUN", NO_RADII, str(source.path))
        updates = results.eps_updates or None
        measured = learned_radii(eps, updates, results.class_counts, results.groups)
        rows += labelled(source.label_of(results), [{"seed": results.seed, **row} for row in measured])
    return rows


def layers(sources: Sequence[Source]) -> list[Row]:
    """Figure 3 and Appendix H: the groups are those of the run with the longest tail, for all runs alike."""
    runs = opened(sources)
    counts = longest_tail(runs)
    rows: list[Row] = []
    for found in runs:
        data = found.run.datamodule
        metrics = nearest_means(
            found.run.backbone,
            found.layers,
            train=data.centroid_dataloader(),
            test=data.test_dataloader(),
            class_counts=data.class_counts,
            image_shape=data.sample_shape,
            device=CPU,
        )
        for layer, metric in metrics.items():
            per_class: Tensor = metric.compute()["per_class"]
            measured = by_group(per_class, counts, found.groups)
            rows += found.rows({"layer": layer, **row} for row in measured)
    return rows


def errors(sources: Sequence[Source]) -> list[Row]:
    """Figure 4."""
    rows: list[Row] = []
    for source, results in recorded(sources):
        stage = source.stage or next(reversed(list(results.stages)), "")
        measured = results.stages.get(stage)
        train = None if measured is None or measured.train is None else measured.train.per_class
        test = None if measured is None or measured.test is None else measured.test.per_class
        if train is None or test is None:
            demand = f"must record train and test accuracy by class after stage {stage!r}: earlier versions did not"
            raise SettingError("RUN", demand, str(source.path))
        name = source.name or f"{results.label}, {stage}"
        measured_errors = class_errors(train, test, results.class_counts, results.groups)
        rows += labelled(name, [{"seed": results.seed, **row} for row in measured_errors])
    return rows


def tsne(sources: Sequence[Source]) -> list[Row]:
    """Figure 5."""
    rows: list[Row] = []
    for source in sources:
        found = source.open()
        features, targets = found.test
        data = found.run.datamodule
        shown = spread_classes(data.class_counts, CLASSES)
        kept = torch.isin(targets, torch.tensor(shown))
        positions, labels = plane(features[kept], seed=found.run.seed), targets[kept]
        rows += found.rows(
            [
                {
                    "class": data.class_names[index],
                    "images": data.class_counts[index],
                    "group": group_of(data.class_counts[index], found.groups.many, found.groups.few),
                    "x": x,
                    "y": y,
                }
                for index in shown
                for x, y in positions[labels == index].tolist()
            ],
        )
    return rows


def probabilities(sources: Sequence[Source]) -> list[Row]:
    """Appendix A."""
    rows: list[Row] = []
    for found in opened(sources[:1], "joint"):
        train, held_out = found.statistics(found.train), found.statistics(found.held_out)
        width = found.train[0].shape[1]
        rows += found.rows(nominal_and_found(train, held_out, found.counts, found.groups, width))
    return rows


def bounds(sources: Sequence[Source]) -> list[Row]:
    """Appendix B: over the snapshots of a run; epochs before the robust loss have the first radii that it had."""
    rows: list[Row] = []
    names = sources[0].epochs()
    snapshots = [Source(sources[0].path, name, trust=sources[0].trust).open() for name in names]
    first = next((found.run.radii for found in snapshots if found.run.radii is not None), None)
    for name, found in zip(names, snapshots, strict=True):
        radii_then = first if found.run.radii is None else found.run.radii
        if radii_then is None:
            raise SettingError("RUN", NO_RADII, str(sources[0].path))
        if found.run.measure.distance != "euclidean":
            raise SettingError("RUN", "must measure Euclidean distances: loss.distance=euclidean", str(sources[0].path))
        features, targets = found.train
        kept = spread_samples(targets, KEYS, seed=found.run.seed)
        measured = bound_rows(
            features[kept],
            targets[kept],
            found.statistics(found.train).centroids,
            radii_then,
            queries=min(QUERIES, len(kept)),
            temperature=found.run.temperature,
        )
        epoch = int(name.removeprefix("epoch"))
        rows += [{"seed": found.run.seed, "epoch": epoch, **row} for row in measured]
    return rows


def centroid_errors(sources: Sequence[Source]) -> list[Row]:
    """Appendix C."""
    rows: list[Row] = []
    for found in opened(sources[:1], "joint"):
        train, held_out = found.statistics(found.train), found.statistics(found.held_out)
        rows += found.rows(radius_and_error(found.run.radii, train, held_out, found.counts, found.groups))
    return rows


def sensitivities(sources: Sequence[Source]) -> list[Row]:
    """Appendix D: of the runs' records, or of a sweep's jobs.csv in its folder."""
    found = []
    for source in sources:
        if (source.path / JOBS).is_file():
            found += _jobs(source.path / JOBS)
            continue
        results = source.results
        val, test = results.number("val", "acc"), results.test.acc
        pairs = [override.partition("=")[::2] for override in results.overrides]
        values = {key: float(value) for key, value in pairs if key in VARIED and is_finite(value)}
        if val is not None and test is not None:
            found.append((values, val, test))
    rows = sensitivity(found)
    if not rows:
        raise SettingError("RUN", f"must be several runs with different values of {', '.join(VARIED)}")
    return rows


def _radii(found: Opened) -> Tensor:
    if found.run.radii is None:
        raise SettingError("RUN", NO_RADII, found.label)
    return found.run.radii


def _jobs(path: Path) -> list[tuple[dict[str, float], float, float]]:
    """The numbers, validation and test accuracies of a sweep's finished jobs."""
    return [
        (
            {key: float(row[key]) for key in VARIED if is_finite(row.get(key))},
            float(row["val_acc"]),
            float(row["test_acc"]),
        )
        for row in table(path, {})
        if is_finite(row.get("val_acc")) and is_finite(row.get("test_acc"))
    ]
