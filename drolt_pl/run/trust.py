"""Checks the classes that the configuration in a run's folder names: it may come from elsewhere."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml

from drolt_pl.errors import SettingError
from drolt_pl.folders import CONFIG

RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")  # of `${name:argument}`
OURS = {"sum"}  # resolvers that schema.py registers and uses
OF_HYDRA = ("hydra", "defaults")  # top-level keys that Hydra would act on; it writes neither into a run's folder


def refuse_foreign(run_dir: Path, conf: Path) -> None:
    """Refuses a run's configuration that names a class or a resolver which no file of conf/ names.

    Raises:
        SettingError: the configuration names one, or the file is no configuration.
    """
    try:
        content = yaml.safe_load((run_dir / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(str(run_dir / CONFIG), "must be a configuration in YAML") from error
    if not isinstance(content, Mapping) or any(key in content for key in OF_HYDRA):
        raise SettingError(str(run_dir / CONFIG), f"must be a mapping without the keys {OF_HYDRA}")
    targets, resolvers = _known(conf)
    for key, text in _texts(content):
        foreign = text if key == "_target_" and text not in targets else None
        foreign = next((name for name in RESOLVER.findall(text) if name not in resolvers), foreign)
        if foreign is not None:
            raise SettingError(
                str(run_dir),
                f"names {foreign} in its configuration, and conf/ does not",
                remedy="if you trust whoever wrote it, trust=true (--trust for a drolt command) executes it",
            )


@cache
def _known(conf: Path) -> tuple[set[str], set[str]]:
    """The classes and the resolvers that the files of conf/ name."""
    found = [pair for path in conf.rglob("*.yaml") for pair in _texts(yaml.safe_load(path.read_text(encoding="utf-8")))]
    resolvers = {name for _, text in found for name in RESOLVER.findall(text)}
    return {text for key, text in found if key == "_target_"}, OURS | resolvers


def _texts(node: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of nested containers, with the key that it stands under."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield key, node
