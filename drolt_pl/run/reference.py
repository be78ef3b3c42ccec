"""Every key and every choice of the configuration with a line each, from the annotations, docstrings and comments."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, get_args, get_origin

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from drolt_pl.checked import describe, is_plain
from drolt_pl.learning.schedule import Stage
from drolt_pl.run import comments
from drolt_pl.run.fields import annotated, fields_of, pattern_of
from drolt_pl.run.settings import BESIDE, SUPPLIED, Settings
from drolt_pl.run.validate import SPECIAL

NAMED = {"schedule.stages": "STAGE"}  # mappings whose entries are alike: they are listed once


class Entry(NamedTuple):
    """A key: its value in the configuration, what it may be, and what it does."""

    key: str
    value: str
    allowed: str
    text: str


class Reference:
    """What conf/ offers.

    Args:
        conf: The folder of configurations.
    """

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        self.comments = comments.behind_keys(conf)

    def keys(self, config: DictConfig) -> list[Entry]:
        """The keys of a configuration, in its order."""
        values = OmegaConf.to_container(config, resolve=False)
        assert isinstance(values, dict)
        fields, texts = fields_of(Settings), comments.arguments(Settings)
        return [
            entry
            for name, value in values.items()
            if name in fields
            for entry in self._value(str(name), value, fields[str(name)].hint, texts.get(str(name), ""))
        ]

    def keys_of_choice(self, group: str, name: str) -> list[Entry]:
        """The keys that a choice brings to its own node; none for choices that bring no object."""
        file = self.conf / group / f"{name}.yaml"
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        node = content if comments.package_of(file, self.conf) == group else content.get(group)
        fields = fields_of(Settings)
        if not isinstance(node, dict) or group not in fields or "_target_" not in node:
            return []
        return list(self._object(group, node))

    def _value(self, key: str, value: object, hint: object, text: str) -> Iterator[Entry]:
        if isinstance(value, dict) and "_target_" in value:
            yield from self._object(key, value)
        elif isinstance(value, dict) and value and not is_plain(hint):
            yield from self._mapping(key, value, hint)
        else:
            allowed = describe(hint) if is_plain(hint) else "a mapping with a `_target_`"
            yield Entry(key, comments.shown(value), allowed, text or comments.of_key(self.comments, key, value))

    def _mapping(self, key: str, value: Mapping[str, object], hint: object) -> Iterator[Entry]:
        fields = fields_of(hint)
        if not fields and get_origin(hint) is Mapping:
            inside = get_args(hint)[1]
            if key in NAMED:
                yield from self._stage(f"{key}.{NAMED[key]}", inside)
                return
            for name, entry in value.items():
                yield from self._value(f"{key}.{name}", entry, inside, "")
            return
        texts = comments.arguments(hint)
        for name, field in fields.items():
            yield from self._value(f"{key}.{name}", value.get(name), field.hint, texts.get(name, ""))

    def _stage(self, key: str, kind: object) -> Iterator[Entry]:
        """The fields of a stage with the defaults that every stage has."""
        texts = comments.arguments(kind)
        defaults = {field.name: field.default for field in dataclasses.fields(Stage)}
        for name, field in fields_of(kind).items():
            default = defaults.get(name)
            if dataclasses.is_dataclass(default) and not isinstance(default, type):
                inner = comments.arguments(type(default))
                for part, own in fields_of(type(default)).items():
                    yield Entry(
                        f"{key}.{name}.{part}",
                        comments.shown(getattr(default, part)),
                        describe(own.hint),
                        inner.get(part, ""),
                    )
                continue
            shown = "-" if default is dataclasses.MISSING else comments.shown(default)
            yield Entry(f"{key}.{name}", shown, describe(field.hint), texts.get(name, ""))

    def _object(self, key: str, value: Mapping[str, object]) -> Iterator[Entry]:
        target = get_object(str(value["_target_"]))
        signature, pattern = annotated(target), pattern_of(key)
        texts = comments.arguments(target)
        beside = BESIDE.get(pattern, {})
        hints = {name: parameter.hint for name, parameter in signature.parameters.items()} | dict(beside)
        defaults = _defaults(target)
        yield Entry(
            f"{key}._target_",
            str(value["_target_"]),
            "a class",
            comments.first_sentence([inspect.getdoc(target) or ""]) or _lightning(target),
        )
        given = [name for name in value if name != "_target_" and name not in SPECIAL]
        ours = str(value["_target_"]).startswith("drolt_pl.")
        for name in dict.fromkeys([*given, *(hints if ours else ())]):
            if name not in SUPPLIED.get(pattern, frozenset()):
                hint = hints.get(name, signature.others)
                shown = value[name] if name in value else defaults.get(name)
                yield from self._value(f"{key}.{name}", shown, hint, texts.get(name, ""))


def _lightning(target: object) -> str:
    """For a class of another package without a docstring of its own."""
    return f"The class {target.__name__} of {target.__module__.split('.')[0]}." if inspect.isclass(target) else ""


def _defaults(target: object) -> dict[str, object]:
    if not callable(target):
        return {}
    found = inspect.signature(target).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.default is not parameter.empty}
