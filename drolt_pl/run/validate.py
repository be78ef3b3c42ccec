"""Every value of a configuration against the annotation of what takes it, before data, network or trainer are built.

All problems are found at once. An annotation stands at the constructor's argument (see `ranges`), or in `settings` for
the configuration's own keys and for what other packages leave unchecked.
"""

import difflib
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from drolt_pl.checked import LISTS, Parameter, describe, is_plain, problems
from drolt_pl.classifiers import Classifier
from drolt_pl.errors import SettingError, refuse
from drolt_pl.run.build import plain
from drolt_pl.run.fields import annotated, fields_of, optional, pattern_of
from drolt_pl.run.parts import classifier_spec
from drolt_pl.run.settings import BESIDE, DEFAULTED, SUPPLIED, Settings
from drolt_pl.run.together import conflicts
from drolt_pl.run.tree import Tree, Unresolved

SPECIAL: dict[str, object] = {
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
    "_args_": list[Any],
}
UNIONS = (Union, types.UnionType)


def validate(config: DictConfig, conf: Path, removed: Iterable[str] = ()) -> None:
    """Refuses a configuration that cannot be trained.

    Args:
        config: The composed configuration.
        conf: The folder of configurations, which holds the classifiers that stages name.
        removed: Keys that the user has taken out of it.

    Raises:
        SettingError: a wrong value; of several, all are named.
    """
    refuse(problems_of(config, conf, removed))


def problems_of(config: DictConfig, conf: Path, removed: Iterable[str] = ()) -> list[SettingError]:
    """What is wrong with a configuration; arguments as for `validate`."""
    walk = _Walk(Tree(config), frozenset(removed))
    # What does not go together is asked once each value is right by itself.
    return list(walk.whole()) or [*walk.own_classifiers(config, conf), *conflicts(config)]


class _Walk:
    """Goes through a configuration.

    Args:
        tree: Its values.
        removed: Keys that were removed.
    """

    def __init__(self, tree: Tree, removed: frozenset[str]) -> None:
        self.tree, self.removed = tree, removed

    def whole(self) -> Iterator[SettingError]:
        """What is wrong, each key once, under the name that a user would set."""
        found: dict[str, SettingError] = {}
        for problem in self._fields(fields_of(Settings), self.tree.values, ""):
            name = self.tree.name(problem.name)
            if name not in found or name == problem.name:  # best said where the value itself is taken
                found[name] = problem.renamed(self.tree.name)
        for problem in found.values():  # what refers to a key that is wrong itself needs no sentence of its own
            wanted = re.search("Interpolation key '([^']+)' not found", problem.demand)
            if wanted is None or not any(f"{wanted[1]}.".startswith(f"{name}.") for name in found):
                yield problem

    def own_classifiers(self, config: DictConfig, conf: Path) -> Iterator[SettingError]:
        """What is wrong with the arguments that stages give to classifiers of their own."""
        classifier_spec(config, config.schedule.rebalance.classifier, conf, "schedule.rebalance.classifier")
        for name, stage in config.schedule.stages.items():
            if stage.classifier != "keep":
                key = f"schedule.stages.{name}.classifier"
                spec = classifier_spec(config, stage.classifier, conf, key)
                arguments = {**spec, **plain(stage.classifier_args or OmegaConf.create({}))}
                yield from self._object([Classifier], arguments, f"{key}_args")

    def _value(self, hint: object, value: object, key: str) -> Iterator[SettingError]:
        """What is wrong with one value."""
        broken = next(_unresolved(value), None)
        if is_plain(hint) and broken is not None:
            yield from [SettingError(key, broken.demand, remedy=broken.remedy)] if broken.demand else []
        elif is_plain(hint) and not (hint is Any and isinstance(value, dict) and "_target_" in value):
            yield from problems(key, value, hint)
        elif isinstance(value, Unresolved):
            yield from [SettingError(key, value.demand, remedy=value.remedy)] if value.demand else []
        elif isinstance(value, dict):
            yield from self._mapping(_members(hint), value, key)
        elif isinstance(value, list):
            kinds = [member for member in _members(hint) if get_origin(member) in LISTS]
            if not kinds or not value:
                yield SettingError(key, f"must be {_wanted(hint)}", value)
            for number, entry in enumerate(value):
                yield from self._value(get_args(kinds[0])[0], entry, f"{key}.{number}") if kinds else ()
        elif not _takes(hint, value):
            yield SettingError(key, f"must be {_wanted(hint)}", value)

    def _mapping(self, hints: list[object], value: Mapping[str, Any], key: str) -> Iterator[SettingError]:
        if "_target_" in value:
            yield from self._object(hints, value, key)
            return
        for hint in hints:
            if fields_of(hint):
                yield from self._fields(fields_of(hint), value, key)
                return
            if get_origin(hint) is Mapping:
                name_hint, entry_hint = get_args(hint)
                for name, entry in value.items():
                    yield from problems(f"{key}.{name}", name, name_hint)
                    yield from self._value(entry_hint, entry, f"{key}.{name}")
                return
        if Any not in hints:
            yield SettingError(f"{key}._target_", "is missing: the class that it is made by")

    def _fields(self, fields: Mapping[str, Parameter], value: Mapping[str, Any], key: str) -> Iterator[SettingError]:
        """Keys that are fixed, as those of the configuration itself or of a stage."""
        prefix = f"{key}." if key else ""
        for name, field in fields.items():
            if name in value:
                yield from self._value(field.hint, value[name], f"{prefix}{name}")
            elif field.required:
                yield SettingError(f"{prefix}{name}", "is missing, and a run needs it: give it a value")
        yield from _unknown(value, fields, key)

    def _object(self, hints: list[object], value: Mapping[str, Any], key: str) -> Iterator[SettingError]:
        """A node with a `_target_`: the class, and what it is called with."""
        try:
            target = get_object(value["_target_"])
        except Exception as error:  # of whatever module is imported
            yield SettingError(f"{key}._target_", f"cannot be imported ({_short(error)})", value["_target_"])
            return
        kinds = tuple(hint for hint in hints if inspect.isclass(hint) and hint not in (Any, object, types.NoneType))
        partial = bool(value.get("_partial_"))  # what is neither true nor false is said below
        if kinds and (partial or not (inspect.isclass(target) and issubclass(target, kinds))):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            if partial or inspect.isclass(target):
                given = f"{value['_target_']}{' with _partial_' if partial else ''}"
                yield SettingError(f"{key}._target_", f"must be a class of {wanted}", given)
                return
        if not callable(target):
            yield SettingError(f"{key}._target_", "must be a class or a function", value["_target_"])
            return
        if not partial and any(_makes(hint, target) for hint in hints):
            yield SettingError(f"{key}._partial_", f"must be true: the run itself calls {_called(target)}")
            return
        for name, hint in SPECIAL.items():
            yield from problems(f"{key}.{name}", value[name], hint) if name in value else ()
        yield from self._arguments(target, value, key, partial)

    def _arguments(
        self, target: Callable[..., object], value: Mapping[str, Any], key: str, partial: bool
    ) -> Iterator[SettingError]:
        signature, pattern = annotated(target), pattern_of(key)
        parameters = {**signature.parameters, **optional(BESIDE.get(pattern, {}))}
        supplied = SUPPLIED.get(pattern, frozenset())
        given = {name: entry for name, entry in value.items() if name != "_target_" and name not in SPECIAL}
        for name, entry in given.items():
            if name in supplied:
                yield SettingError(f"{key}.{name}", "is set by the run itself: take it away")
            elif name in parameters:
                yield from self._value(parameters[name].hint, entry, f"{key}.{name}")
            elif signature.others not in (None, object):
                yield from self._value(signature.others, entry, f"{key}.{name}")
        if signature.others in (None, object):
            yield from _unknown(given, parameters, key, supplied)
        for name, parameter in parameters.items():
            if name in given or "_args_" in value:
                continue
            if f"{key}.{name}" in self.removed:
                yield SettingError(
                    f"{key}.{name}", f"was removed, and {_called(target)} takes it: give it a value instead"
                )
            elif parameter.required and not partial and name not in supplied | DEFAULTED.get(pattern, frozenset()):
                yield SettingError(f"{key}.{name}", f"is missing, and {_called(target)} needs it: give it a value")


def _members(hint: object) -> list[object]:
    return list(get_args(hint)) if get_origin(hint) in UNIONS else [hint]


def _makes(hint: object, target: Callable[..., object]) -> bool:
    """Whether a hint asks for what makes an object of the target's class, so that the target is not called at once."""
    made = get_args(hint)[-1] if get_origin(hint) is Callable else None
    return inspect.isclass(made) and inspect.isclass(target) and issubclass(target, made)


def _takes(hint: object, value: object) -> bool:
    """Whether an annotation of objects takes a plain value all the same: null, or the plain part of a union."""
    return any(is_plain(member) and not problems("", value, member) for member in _members(hint))


def _wanted(hint: object) -> str:
    words = [describe(member) for member in _members(hint) if is_plain(member)]
    listed = [member for member in _members(hint) if get_origin(member) in LISTS]
    objects = [*(["a list of such"] if listed else []), "a mapping with a _target_"]
    kinds = [member for member in _members(hint) if fields_of(member) or get_origin(member) is Mapping]
    return " or ".join([*words, *(["a mapping"] if kinds else reversed(objects))])


def _unresolved(value: object) -> Iterator[Unresolved]:
    if isinstance(value, Unresolved):
        yield value
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _unresolved(entry)


def _unknown(
    value: Mapping[str, Any], known: Iterable[str], key: str, supplied: frozenset[str] = frozenset()
) -> Iterator[SettingError]:
    names = [name for name in known if name not in supplied]
    for name in value:
        if name not in known and name not in supplied:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            where = key or "the top level"
            full = f"{key}.{name}" if key else str(name)
            yield SettingError(full, f"is not a key of the configuration{hint}; {where} has {', '.join(sorted(names))}")


def _called(target: Callable[..., object]) -> str:
    return str(target).rpartition(".")[2].rstrip("'>") if inspect.isclass(target) else str(target)


def _short(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]
