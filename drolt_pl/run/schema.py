"""The typed schedule of the configuration: wrong keys and types are refused when it is composed.

The fields of a stage and their defaults are those of `learning.schedule`: there is no second list of them.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from drolt_pl.learning.curve import Curve
from drolt_pl.learning.schedule import Stage
from drolt_pl.run import machine

PRIMITIVES = {int, float, str}  # OmegaConf takes any number for a boolean
FILLED_IN = ("name", "uses_centroids", "fits", "passes")  # of a Stage, by Schedule


def register() -> None:
    """Makes `/typed/schedule` and the resolvers of conf/ known to Hydra; call it before composing."""
    machine.register()
    OmegaConf.register_new_resolver("sum", lambda *values: sum(values), replace=True)
    ConfigStore.instance().store(group="typed", name="schedule", node=SCHEDULE, package="schedule")


def _schedule() -> type[Any]:
    """A structured configuration: order, budget, the values in which schedules differ, and any number of stages."""
    curve = _mirror(Curve)
    stage = _mirror(Stage, leave_out=FILLED_IN, curve=curve)
    budget: dict[str, Any] = {
        **dict.fromkeys(("ce_warmup", "joint", "rebalance"), 0),
        "rest": "${sum:${.joint},${.rebalance}}",
        "alone": "${sum:${.ce_warmup},${.rest}}",
    }
    scratch = _dataclass(
        "Scratch",
        [("lr", Any, None), ("curve", curve, _made_by(curve))],
    )
    rebalance = _dataclass(
        "Rebalance", [("lr", Any, None), ("sampling", Any, "class_balanced"), ("classifier", str, "keep")]
    )
    budget_type = _dataclass("Budget", [(key, int, value) for key, value in budget.items()])
    return _dataclass(
        "Schedule",
        [
            ("order", typing.Optional[list[str]], None),  # noqa: UP045 - OmegaConf reads this form alone
            ("budget", budget_type, _made_by(budget_type)),
            ("scratch", scratch, _made_by(scratch)),
            ("rebalance", rebalance, _made_by(rebalance)),
            ("stages", dict[str, stage], _made_by(dict)),  # type: ignore[valid-type]
        ],
    )


def _mirror(cls: type[Any], leave_out: typing.Collection[str] = (), **nested: type[Any]) -> type[Any]:
    """A dataclass that OmegaConf can read, with the fields and defaults of `cls`."""
    hints = typing.get_type_hints(cls)
    fields: list[Any] = []
    for field in dataclasses.fields(cls):
        if field.name in leave_out:
            continue
        if field.name in nested:
            fields.append((field.name, nested[field.name], _made_by(nested[field.name])))
        elif isinstance(field.default, tuple):
            make: Callable[[], Any] = partial(list, field.default)
            fields.append((field.name, list[str] if isinstance(field.default[0], str) else list[float], _made_by(make)))
        else:
            default = 0 if field.default is dataclasses.MISSING else field.default
            fields.append((field.name, _readable(hints[field.name]), default))
    return _dataclass(cls.__name__, fields)


def _dataclass(name: str, fields: list[Any]) -> type[Any]:
    """A dataclass that pickles by its name in this module: SLURM launchers hand Hydra's configurations to processes."""
    made = dataclasses.make_dataclass(f"Typed{name}", fields, namespace={"__module__": __name__})
    globals()[made.__name__] = made
    return made


def _readable(hint: Any) -> Any:
    """The hint if OmegaConf can check it (a primitive, or a primitive or null), else `Any`."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = set(typing.get_args(hint) if union else (hint,)) - {types.NoneType}
    if typing.get_origin(hint) is typing.Literal and all(isinstance(part, str) for part in typing.get_args(hint)):
        return str
    # OmegaConf 2.3 fails on a union of two primitives in a dictionary of stages.
    return hint if len(parts) == 1 and parts <= PRIMITIVES else Any


def _made_by(make: Callable[[], Any]) -> Any:
    return dataclasses.field(default_factory=make)


SCHEDULE = _schedule()
