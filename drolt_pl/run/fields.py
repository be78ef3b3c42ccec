"""What a part of the configuration takes: the fields of a typed dictionary or a dataclass, the arguments of a class."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import get_args, get_origin, get_type_hints, is_typeddict

from hydra.utils import get_object

from drolt_pl.checked import Parameter, Signature, signature_of
from drolt_pl.learning.schedule import Stage
from drolt_pl.run.schema import FILLED_IN
from drolt_pl.run.settings import FOREIGN

# What other packages' classes pass further keyword arguments on to.
PASSES_ON = {
    "pytorch_lightning.loggers.tensorboard.TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
    "pytorch_lightning.loggers.wandb.WandbLogger": "wandb.init",
}


def fields_of(hint: object) -> dict[str, Parameter]:
    """The fields of a typed dictionary or a dataclass; nothing for other annotations."""
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        required = hint.__required_keys__  # type: ignore[attr-defined]
        return {name: Parameter(_bare(own), name in required) for name, own in hints.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        filled = FILLED_IN if hint is Stage else ()
        return {name: own for name, own in signature_of(hint).parameters.items() if name not in filled}
    return {}


def _bare(hint: object) -> object:
    """The annotation without `NotRequired`."""
    return get_args(hint)[0] if "NotRequired" in str(get_origin(hint)) else hint


def annotated(target: Callable[..., object]) -> Signature:
    """The signature of a class, with our ranges of what other packages take."""
    signature = _with_passed_on(target)
    module = str(getattr(target, "__module__", ""))
    own = next((kind for start, kind in FOREIGN.items() if f"{module}.".startswith(f"{start}.")), None)
    if own is None:
        return signature
    ranges = get_type_hints(own, include_extras=True)
    merged = {
        name: Parameter(ranges.get(name, parameter.hint), parameter.required)
        for name, parameter in signature.parameters.items()
    }
    return Signature(merged, signature.others)


def _with_passed_on(target: Callable[..., object]) -> Signature:
    """The signature of a class, with the arguments of what it passes further ones on to."""
    signature = signature_of(target)
    further = PASSES_ON.get(f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}")
    try:
        passed = signature_of(get_object(further)) if further else None
    except ImportError:  # the logger says what it lacks
        passed = None
    if passed is None:
        return signature
    own = {name: Parameter(parameter.hint, required=False) for name, parameter in passed.parameters.items()}
    return Signature({**own, **signature.parameters})


def optional(hints: Mapping[str, object]) -> dict[str, Parameter]:
    return {name: Parameter(hint, required=False) for name, hint in hints.items()}


def pattern_of(key: str) -> str:
    parts = key.split(".")
    if parts[-1] == "classifier_args":
        return "classifier"
    return ".".join([parts[0], "*", *parts[2:]]) if parts[0] == "objectives" and len(parts) > 1 else key
