"""What a model's file says of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drolt_pl.groups import GROUPS, group_of
from drolt_pl.model import Model
from drolt_pl.results import Results

SHOWN = 8  # class names of a group


@dataclass(frozen=True)
class GroupInfo:
    """A shot group: its classes, their training images, and the names of some."""

    name: str
    classes: int
    images: int | None
    examples: Sequence[str]


@dataclass(frozen=True)
class Info:
    """Facts about a model by name, and its shot groups; one group of all classes where it does not know counts."""

    facts: dict[str, str]
    groups: Sequence[GroupInfo]


def info(model: Model, path: Path) -> Info:
    """What there is to say of a model.

    Args:
        model: The model.
        path: Where it was loaded from.
    """
    description = model.description
    arguments = {key: value for key, value in description.backbone.items() if not key.startswith("_")}
    shown = [f"{key}={_class(value) if isinstance(value, Mapping) else value}" for key, value in arguments.items()]
    counts = model.class_counts
    facts = {
        "file": _kind(path),
        "network": f"{_class(description.backbone)} ({', '.join(shown)})",
        "classifier": f"{_class(description.classifiers[model.stage])}, of stage {model.stage}",
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "classes": f"{len(model.class_names):,}" + ("" if counts is None else f", {sum(counts):,} training images"),
        "preprocessing": _preprocessing(model),
        "probabilities assume": {
            "train": "the class frequencies of training",
            "uniform": "classes equally often",
            None: "unknown class frequencies",
        }[description.prior],
        "centroids": "none" if model.centroids is None else f"of {model.centroids.shape[1]} features, {_radii(model)}",
        **_trained(path),
    }
    return Info(facts, _groups(model))


def _class(spec: Mapping[str, object]) -> str:
    """The class that a description names, without its package."""
    return str(spec.get("_target_", "?")).rpartition(".")[2]


def _kind(path: Path) -> str:
    if path.is_dir():
        return f"the run's folder {path}"
    with path.open("rb") as file:
        return f"{'a checkpoint' if file.read(2) == b'PK' else 'a saved model'}, {path.stat().st_size / 1e6:,.1f} MB"


def _preprocessing(model: Model) -> str:
    found = model.description.preprocessing
    if found is None:
        return "unknown"
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (found.mean, found.std))
    colours = "grey" if found.channels == 1 else "RGB"
    return f"{found.image_size} x {found.image_size} {colours}, crop {found.crop}, mean {mean}, std {std}"


def _radii(model: Model) -> str:
    if model.radii is None:
        return "without radii"
    return f"radii {float(model.radii.min()):.3g} to {float(model.radii.max()):.3g}"


def _trained(path: Path) -> dict[str, str]:
    """What a run's results say, where the path is a run's folder or lies in one."""
    run_dir = path if path.is_dir() else path.parent.parent
    if not (run_dir / "results.json").is_file():
        return {}
    results = Results.load(run_dir / "results.json")
    accuracies = {"all": results.test.acc, **{group: results.test.numbers().get(group) for group in GROUPS}}
    shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in accuracies.items() if value is not None)
    return {
        "trained": f"{results.dataset}, {results.label}, protocol {results.protocol}, seed {results.seed}",
        "test accuracy in %": shown or "unknown",
    }


def _groups(model: Model) -> list[GroupInfo]:
    names, counts = model.class_names, model.class_counts
    if counts is None:
        return [GroupInfo("all", len(names), None, names[:SHOWN])]
    found = []
    for group in GROUPS:
        members = [
            (name, count)
            for name, count in zip(names, counts, strict=True)
            if group_of(count, model.groups.many, model.groups.few) == group
        ]
        images = sum(count for _, count in members)
        found.append(GroupInfo(group, len(members), images, [name for name, _ in members[:SHOWN]]))
    return found
