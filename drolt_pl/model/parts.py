"""Builds networks from plain values, which can name our own backbones, necks and classifiers alone, and loads them."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from inspect import isabstract
from types import ModuleType

from torch import Tensor, nn

from drolt_pl import backbones, classifiers
from drolt_pl.backbones import WEIGHTS, Backbone
from drolt_pl.errors import SettingError

Spec = Mapping[str, object]


def _classes(package: ModuleType) -> dict[str, type[nn.Module]]:
    """The networks that a package exports, by the name that a configuration uses."""
    exported = {name: vars(package)[name] for name in package.__all__}
    return {
        f"{package.__name__}.{name}": item
        for name, item in exported.items()
        if isinstance(item, type) and issubclass(item, nn.Module) and not isabstract(item)
    }


BACKBONES = {name: kind for name, kind in _classes(backbones).items() if issubclass(kind, Backbone)}
NECKS = {name: kind for name, kind in _classes(backbones).items() if not issubclass(kind, Backbone)}
CLASSIFIERS = _classes(classifiers)
WITHOUT_SOURCE: Spec = {"source": None}  # a classifier's file: its weights are in the model's own


def build_backbone(spec: Spec, *, trust: bool = False) -> Backbone:
    """Builds the backbone that plain values describe; nothing is downloaded for it.

    Args:
        spec: `_target_`, one of `BACKBONES`, and the arguments of its constructor; `neck` may name one of `NECKS`.
        trust: Whether `_target_` may name any class, which is then imported.

    Raises:
        SettingError: the name is another one, or the constructor refuses the arguments.
    """
    kind, arguments = _read(spec, "backbone", BACKBONES, trust=trust)
    neck = arguments.get("neck")
    if isinstance(neck, Mapping):
        neck_kind, neck_arguments = _read(neck, "neck", NECKS, trust=trust)
        arguments["neck"] = partial(neck_kind, **neck_arguments)
    elif neck is not None:
        raise SettingError("description.neck", "must be null or describe a neck", neck)
    if kind in BACKBONES.values():
        arguments = {key: value for key, value in arguments.items() if key not in WEIGHTS}  # the file holds them
    backbone = _constructed(kind, "backbone", arguments)
    if not isinstance(backbone, Backbone):
        raise SettingError("description.backbone", "must be a subclass of drolt_pl.backbones.Backbone", kind.__name__)
    return backbone


def build_classifier(spec: Spec, *, trust: bool = False) -> nn.Module:
    """Builds the classifier that plain values describe, as `build_backbone` does; its name is one of `CLASSIFIERS`."""
    kind, arguments = _read(spec, "classifier", CLASSIFIERS, trust=trust)
    if kind in CLASSIFIERS.values():
        arguments |= {key: value for key, value in WITHOUT_SOURCE.items() if key in arguments}
    return _constructed(kind, "classifier", arguments)


def _read(
    spec: Spec, part: str, allowed: Mapping[str, type[nn.Module]], *, trust: bool
) -> tuple[type[nn.Module], dict[str, object]]:
    """Class and arguments of a part."""
    name = spec.get("_target_")
    arguments = {key: value for key, value in spec.items() if key not in ("_target_", "_partial_")}
    if isinstance(name, str) and name in allowed:
        kind = allowed[name]
    elif isinstance(name, str) and trust:
        kind = _imported(name, part)
    else:
        demand = f"must name one of {', '.join(sorted(allowed))}"
        raise SettingError(
            f"description.{part}", demand, name, remedy="trust=True lets classes of your own in, and executes them"
        )
    nested = [key for key, value in arguments.items() if key != "neck" and _names_a_class(value)]
    if nested and not trust:
        raise SettingError(f"description.{part}.{nested[0]}", "must be a plain value", arguments[nested[0]])
    return kind, arguments


def _names_a_class(value: object) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(_names_a_class(inner) for inner in value.values())
    return isinstance(value, list | tuple) and any(_names_a_class(inner) for inner in value)


def _imported(name: str, part: str) -> type[nn.Module]:
    module, _, last = name.rpartition(".")
    try:
        found = vars(import_module(module))[last]
    except (ImportError, KeyError, ValueError) as error:
        raise SettingError(
            f"description.{part}", f"must name a class that can be imported ({error!r})", name
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise SettingError(f"description.{part}", "must name a torch.nn.Module", name)
    return found


def _constructed(kind: Callable[..., nn.Module], part: str, arguments: Spec) -> nn.Module:
    try:
        return kind(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise SettingError(f"description.{part}", f"must describe a network that can be built ({reason})") from error


def load_weights(part: nn.Module, prefix: str, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Loads a part's own tensors, those whose names begin with its prefix.

    Raises:
        SettingError: they are not those of this part.
    """
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        part.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise SettingError("model", f"has weights that do not fit its description ({reason})", str(path)) from error
