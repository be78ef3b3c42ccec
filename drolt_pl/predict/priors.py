"""Class frequencies as users name them: `uniform`, `train`, a file, or `estimate`."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from drolt_pl import prior
from drolt_pl.errors import SettingError, reason, require_choice
from drolt_pl.model import Model
from drolt_pl.model.description import PRIORS

ESTIMATE = "estimate"
T = TypeVar("T")


def model_prior(model: Model, wish: str | None) -> tuple[str, Tensor]:
    """The class frequencies that a model's probabilities assume: their name, and themselves (C,).

    Args:
        model: The model.
        wish: One of `PRIORS`; None takes what the model's file says, and `train` where it does not.
    """
    name = wish or model.description.prior or "train"
    require_choice("--model-prior", name, PRIORS)
    return name, _uniform(model) if name == "uniform" else _train(model, "--model-prior")


def require_used(test: str | None, assumed: str | None) -> None:
    """Refuses what probabilities assume where nothing is made of it.

    Raises:
        SettingError: `assumed` is given without `test`.
    """
    if test is None and assumed is not None:
        demand = "must be left out without --test-prior: it re-weights nothing by itself"
        raise SettingError("--model-prior", demand, assumed)


def estimated_prior(
    model: Model, probabilities: Tensor, own: Tensor, held_out: int | None = None
) -> tuple[str, Tensor]:
    """The class frequencies of unlabelled images, and what they are: `estimate`, or `uniform` or `train`.

    Args:
        model: The model.
        probabilities: What it gave for the images, (N, K).
        own: Class frequencies that these assume, (K,).
        held_out: How many labelled images calibrated them; None where none did.
    """
    known = {"uniform": _uniform(model)}
    if model.class_counts is not None:
        known["train"] = _train(model, "--test-prior")
    return prior.plausible(probabilities, own, known, prior.estimate(probabilities, own).prior, held_out=held_out)


def named_prior(model: Model, wish: str) -> Tensor:
    """The class frequencies (C,) that a user names, `estimate` excepted.

    Raises:
        SettingError: a file that does not hold the frequencies of the model's classes, or a model without counts.
    """
    if wish == "uniform":
        return _uniform(model)
    return _train(model, "--test-prior") if wish == "train" else read_prior(Path(wish), model.class_names)


def read_prior(path: Path, class_names: Sequence[str]) -> Tensor:
    """Class frequencies out of a file, (C,): counts or shares by class name; a class that it leaves out has 0.

    Args:
        path: JSON, `{"cat": 12, ...}` or what `drolt evaluate -o FILE.json` writes; or CSV, lines of a class's name and
            its number, perhaps below a heading.
        class_names: The model's.

    Raises:
        SettingError: another file, or classes that the model does not know.
    """
    if not path.is_file():
        raise SettingError("--test-prior", "must be uniform, train, estimate or a file that exists", str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
        named = _of_json(json.loads(text, object_pairs_hook=_once)) if path.suffix.lower() == ".json" else _of_csv(text)
        unknown = sorted(set(named) - set(class_names))
        if unknown:
            raise ValueError(f"the model has no class {unknown[0]!r}")
        return prior.frequencies(torch.tensor([named.get(name, 0.0) for name in class_names], dtype=torch.float64))
    except (ValueError, TypeError, RecursionError, csv.Error, OSError) as error:
        demand = f"must hold a number >= 0 for the name of each class ({reason(error)})"
        raise SettingError("--test-prior", demand, str(path)) from error


def _of_json(content: object) -> dict[str, float]:
    named = content.get("test_prior", content) if isinstance(content, Mapping) else None
    if not isinstance(named, Mapping):
        raise ValueError("it is no mapping")
    return {str(name): float(number) for name, number in named.items()}


def _of_csv(text: str) -> dict[str, float]:
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if any(len(line) != 2 for line in lines):
        raise ValueError("a line has not two columns")
    if lines and not _is_number(lines[0][1]):
        lines = lines[1:]
    return {
        name: float(number)
        for name, number in _once((name.removeprefix("'"), number) for name, number in lines).items()
    }


def _once(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """A mapping of pairs, in which no name may stand twice: one of its numbers would be lost."""
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands there twice")
        found[name] = value
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _uniform(model: Model) -> Tensor:
    count = len(model.class_names)
    return torch.full((count,), 1 / count, dtype=torch.float64)


def _train(model: Model, option: str) -> Tensor:
    if model.class_counts is None:
        raise SettingError(option, "cannot be train: the model's file does not know how many images trained each class")
    return prior.frequencies(torch.tensor(model.class_counts))
