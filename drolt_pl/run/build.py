"""Builds objects from the configuration; an error names the key that the user typed."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from drolt_pl.errors import SettingError, reason


def build(config: DictConfig, key: str, **known: object) -> Any:
    """Instantiates a node of the configuration.

    Raises:
        SettingError: the constructor refused a value; the error's name starts with the node's key.
    """
    node = OmegaConf.select(config, key)
    try:
        return instantiate(node, **known, _convert_="all")
    except InterpolationKeyError as error:
        wanted = re.search(r"'([^']+)\.([^'.]+)'", str(error))
        hint = f"choose a {wanted.group(1)} that has {wanted.group(2)}" if wanted else ""
        raise SettingError(key, f"refers to another choice: {reason(error)}", remedy=hint) from error
    except InstantiationException as error:
        # Hydra names the target in its own sentence; the cause has ours.
        cause = error.__cause__ or error
        if isinstance(cause, SettingError):
            raise cause.under(key) from error
        ours = str(OmegaConf.select(config, f"{key}._target_")).startswith("drolt_pl.")
        if not ours or re.search("keyword argument|required positional|required keyword", str(cause)):
            name = named_in(str(cause), node)
            raise SettingError(f"{key}.{name}" if name else key, f"is refused: {reason(cause)}") from error
        raise cause from error  # a fault of ours


def named_in(text: str, names: Iterable[object]) -> str | None:
    """The argument that an error's text names; the longest where several are, null for none."""
    words = set(re.findall(r"\w+", text))
    return max((str(name) for name in names if name in words), key=len, default=None)


@contextmanager
def under(key: str) -> Iterator[None]:
    """Completes the names of errors raised inside: `loader` becomes `dataset.loader` under `dataset`."""
    try:
        yield
    except SettingError as error:
        raise error.under(key) from error


def plain(node: DictConfig) -> dict[str, Any]:
    """A node of the configuration as plain containers, resolved."""
    container: Any = OmegaConf.to_container(node, resolve=True)
    return dict(container)


def not_finite(node: object, key: str = "") -> dict[str, float]:
    """The numbers of plain containers that are infinite or not a number, by dotted key."""
    if isinstance(node, float):
        return {} if math.isfinite(node) else {key: node}
    parts = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    return {k: v for name, part in parts for k, v in not_finite(part, f"{key}.{name}" if key else str(name)).items()}
