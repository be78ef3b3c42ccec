"""A composed configuration as plain containers; what cannot be resolved is kept as such, so that all of it is found."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

DEEPEST = 16  # levels; deeper is what refers to itself


@dataclass(frozen=True)
class Unresolved:
    """A value that refers to something.

    Attributes:
        demand: What is wrong with it; empty where only Hydra's own run could say.
        remedy: What to do about it.
    """

    demand: str
    remedy: str = ""


class Tree:
    """The values of a configuration.

    Args:
        config: The configuration; what refers to something may be resolved in place later.
    """

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._written = OmegaConf.to_container(config, resolve=False)

    @cached_property
    def values(self) -> dict[str, object]:
        """All of it, resolved, in dictionaries and lists; to resolve takes longer than to validate."""
        return {str(key): value for key, value in _entries(self._config, 0)}

    @cached_property
    def sources(self) -> dict[str, str]:
        """Where values come from that are `${key}`: the other key, by key."""
        return dict(_references(self._written, ""))

    def name(self, key: str) -> str:
        """The key that a user would set for this one: where it, or what holds it, is `${other}`, the other."""
        for _ in range(DEEPEST):
            parts = key.split(".")
            heads = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
            head = next((head for head in heads if head in self.sources), None)
            if head is None:
                break
            found = self.sources[head] + key[len(head) :]
            if not self._has(self.sources[head]):
                break
            key = found
        return key

    def _has(self, key: str) -> bool:
        node: object = self.values
        for part in key.split("."):
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
                node = node[int(part)]
            else:
                return False
        return True


def _entries(node: DictConfig | ListConfig, depth: int) -> Iterator[tuple[object, object]]:
    for key in node.keys() if isinstance(node, DictConfig) else range(len(node)):
        try:
            yield key, _plain(node[key], depth + 1)  # type: ignore[index]
        except InterpolationKeyError as error:
            yield key, _missing(error)
        except OmegaConfBaseException as error:
            hydra = "HydraConfig was not set" in str(error)
            yield key, Unresolved("" if hydra else f"cannot be resolved: {' '.join(str(error).split())}")
        except RecursionError:
            yield key, Unresolved("must not refer to itself")


def _plain(value: object, depth: int) -> object:
    if depth > DEEPEST:
        return Unresolved("must not refer to itself")
    if isinstance(value, DictConfig):
        return dict(_entries(value, depth))
    if isinstance(value, ListConfig):
        return [entry for _, entry in _entries(value, depth)]
    return value


def _missing(error: InterpolationKeyError) -> Unresolved:
    text = " ".join(str(error).split()).split(" full_key:")[0]
    wanted = re.search(r"'([^']+)\.([^'.]+)'", text)
    hint = f"choose a {wanted.group(1)} that has {wanted.group(2)}" if wanted else ""
    return Unresolved(f"refers to another choice: {text}", hint)


def _references(node: object, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _references(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and (found := re.fullmatch(r"\$\{(\w[\w.]*)\}", node)):
        yield key, found.group(1)
