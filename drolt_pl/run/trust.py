"""Checks the configuration in a run's folder, which may come from elsewhere: values, and no name that conf/ has not.

Hydra composes nothing from such a folder: its `hydra.*`, its defaults and further files are not looked at.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drolt_pl import folders
from drolt_pl.errors import SettingError, reason
from drolt_pl.regular import read_text
from drolt_pl.run import schema
from drolt_pl.run.compose import composed

TRUST = "where the folder is your own, or you trust who made it, let it in"
OWN_PLACE = ("dataset", "logger", "trainer")  # groups whose classes read, write or start something when built
OF_HYDRA = ("hydra", "defaults")  # keys that Hydra would act on; it writes neither into a run's folder
REFERENCE = r"\$\{[\w.\[\]-]*\}"
# References to other values, and their sums: whatever else stands in braces reads the surroundings.
REFERENCES = re.compile(rf"(?:[^$]|{REFERENCE}|\$\{{sum:(?:[\d, -]|{REFERENCE})*\}})*")
NAME = re.compile(r"(?:\w[\w .@+-]*)?")  # of a project or the like, and not a path
Place = tuple[str, ...]


@dataclass
class Named:
    """What the files of conf/ name.

    Attributes:
        places: The groups whose files name a class, by `_target_`.
        texts: Values with references, as they stand there.
        nodes: A node of each class, by `_target_`.
    """

    places: dict[str, set[str]] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)
    nodes: dict[str, Mapping[str, object]] = field(default_factory=dict)


def configuration(run_dir: Path, conf: Path, *, trust: bool) -> DictConfig:
    """The configuration that a run's folder keeps, on top of conf/ and of the schedule's types.

    Args:
        run_dir: The run's folder.
        conf: The folder of configurations.
        trust: Whether the folder may name classes that conf/ does not, which are then imported and built.

    Raises:
        SettingError: the folder holds no run, or its configuration names what conf/ does not.
    """
    path = run_dir / folders.CONFIG
    if not path.exists():
        raise SettingError(str(run_dir), f"is not a run's folder: it has no {folders.CONFIG}")
    values = _values(path)
    base = composed(conf)
    if not trust:
        folders.require_own(run_dir)
        _require_known(values, base, named_in(conf), path)
    try:
        schema.register()  # the values may hold a `${sum:...}`
        ours = OmegaConf.to_container(base)
        assert isinstance(ours, dict)
        config = OmegaConf.create({str(key): value for key, value in ours.items()} | values)
        if "schedule" in base:
            schedule = OmegaConf.merge(OmegaConf.structured(schema.SCHEDULE), config.schedule)
            config.schedule = OmegaConf.to_container(schedule)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise SettingError(str(path), f"does not fit the configuration: {reason(error)[:300]}") from error
    return config


@cache
def named_in(conf: Path) -> Named:
    """What the files of conf/ name; there is no second list."""
    found = Named()
    for path in sorted(conf.rglob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        group = path.relative_to(conf).parts[0].removesuffix(".yaml")
        for place, value in _walk(content):
            if place[-1:] == ("_target_",):
                found.places.setdefault(str(value), set()).add("hydra" if place[0] == "hydra" else group)
            elif isinstance(value, str) and "${" in value:
                found.texts.add(value)
        found.nodes |= {str(node["_target_"]): node for node in _nodes(content) if "_target_" in node}
    return found


def _values(path: Path) -> dict[str, object]:
    """The plain values of a configuration's file, without what composes others."""
    text = read_text(path, "YAML", folders.MAX_YAML)
    folders.parse_yaml(text, path)
    try:
        # Once more by OmegaConf, which reads 1e-3 as a number.
        content = OmegaConf.to_container(OmegaConf.create(text))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise SettingError(str(path), f"is no configuration: {reason(error)[:300]}") from error
    if not isinstance(content, dict) or any(key in content for key in OF_HYDRA):
        raise SettingError(str(path), f"must be a mapping without the keys {OF_HYDRA}")
    return {str(key): value for key, value in content.items()}


def _require_known(values: dict[str, object], base: DictConfig, named: Named, path: Path) -> None:
    """Refuses keys, classes and references that conf/ does not name.

    Raises:
        SettingError: there is one.
    """
    for key in values:
        if key not in base:
            raise _refused(path, key, "is not a key of the configuration")
    for place, value in _walk(values):
        key = ".".join(place)
        if place[-1:] == ("_target_",):
            _require_class(value, place[:-1], named, path)
        elif place[-1:] == ("cache_dir",):
            raise _refused(path, key, "is a place for downloads elsewhere")
        elif isinstance(value, str) and "$" in value and value not in named.texts and not REFERENCES.fullmatch(value):
            raise _refused(path, key, f"names {value[:100]!r}, and conf/ does not")
    loggers = values.get("logger")
    for name, logger in loggers.items() if isinstance(loggers, dict) else ():
        _require_logger(f"logger.{name}", logger, named, path)
    dataset = values.get("dataset")
    if isinstance(dataset, dict) and "allow_duplicates" in named.nodes.get(str(dataset.get("_target_")), ()):
        dataset.setdefault("allow_duplicates", True)  # as they were in an older run


def _require_class(name: object, place: Place, named: Named, path: Path) -> None:
    groups = named.places.get(name, set()) if isinstance(name, str) else set()
    if not groups - {"hydra"}:
        raise _refused(path, ".".join((*place, "_target_")), f"names {str(name)[:100]!r}, and conf/ does not")
    if groups <= set(OWN_PLACE) and not (place[:1] == tuple(groups) and len(place) == 1 + ("logger" in groups)):
        raise _refused(path, ".".join(place), f"is no place for {name}")


def _require_logger(key: str, logger: object, named: Named, path: Path) -> None:
    """A logger writes into the run's folder: it keeps the values that say where, and its names are no paths."""
    target = str(logger.get("_target_")) if isinstance(logger, dict) else ""
    if not isinstance(logger, dict) or "logger" not in named.places.get(target, ()):
        raise _refused(path, key, "must be one of the loggers of conf/logger")
    ours = named.nodes[target]
    for name, value in logger.items():
        if name not in ours:
            raise _refused(path, f"{key}.{name}", "is no argument that conf/logger has")
        written = isinstance(ours[name], str) and "${hydra:" in str(ours[name])
        if value != ours[name] and (written or not isinstance(value, str | int | float | None)):
            raise _refused(path, f"{key}.{name}", f"must stay {ours[name]!r}, got {str(value)[:100]!r}")
        if isinstance(value, str) and value != ours[name] and not NAME.fullmatch(value):
            raise _refused(path, f"{key}.{name}", f"must be a plain name, got {value[:100]!r}")


def _refused(path: Path, key: str, demand: str) -> SettingError:
    return SettingError(f"{key[:100]} in {path}", demand, remedy=f"{TRUST} by trust=true (a drolt command: --trust)")


def _nodes(node: object) -> Iterator[Mapping[str, object]]:
    """Every mapping of nested containers."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(value)


def _walk(node: object, place: Place = ()) -> Iterator[tuple[Place, object]]:
    """Every value of nested containers with the keys that lead to it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _walk(value, (*place, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _walk(value, (*place, str(index)))
    else:
        yield place, node
