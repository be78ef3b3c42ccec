"""Objects out of the configuration; what they refuse names the key that the user typed."""

import re
from collections.abc import Callable
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError


class UserError(Exception):
    """Something the caller can mend; its text is one sentence that names the key, the value and the remedy."""


def build(config: DictConfig, key: str, **known: Any) -> Any:
    """Instantiates a node of the configuration; what its constructor refuses becomes a `UserError` with its key."""
    node = OmegaConf.select(config, key)
    try:
        return instantiate(node, **known, _convert_="all")
    except InterpolationKeyError as error:
        wanted = re.search(r"'([^']+)\.([^'.]+)'", str(error))
        hint = f": choose a {wanted.group(1)} that has {wanted.group(2)}" if wanted else ""
        raise UserError(f"{key} refers to another choice: {sentence(error)}{hint}") from error
    except InstantiationException as error:
        # Hydra names the target in its own sentence; the cause has ours.
        raise UserError(f"{key}.{sentence(error.__cause__ or error)}") from error


def checked(key: str, call: Callable[[], Any]) -> Any:
    """Calls a step of the set-up; what it refuses becomes a `UserError` under `key`."""
    try:
        return call()
    except (ValueError, OSError) as error:
        raise UserError(f"{key}.{sentence(error)}".lstrip(".")) from error


def sentence(error: BaseException) -> str:
    return " ".join(str(error).split())
