"""Words that choose files of conf/, `group=name`, before Hydra looks for them; and the keys that words take away."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from hydra.errors import HydraException

from drolt_pl.errors import SettingError, refuse

SEVERAL = ("logger", "callbacks", "stage")  # groups of which several files may be chosen
NAME = re.compile(r"[\w-]+(/[\w-]+)*")


def refuse_choices(words: Sequence[str], conf: Path) -> None:
    """Refuses choices that are no names: null, lists where one is asked for, paths out of the group.

    Args:
        words: A command line; flags are passed over.
        conf: The folder of configurations, whose folders are the groups.

    Raises:
        SettingError: there are such.
    """
    groups = {"", *(str(folder.relative_to(conf)) for folder in conf.rglob("*") if folder.is_dir())}
    refuse(
        problem
        for override in parsed(words)
        if override.key_or_group in groups and not override.is_delete()
        for problem in _wrong(override)
    )


def removed(words: Sequence[str]) -> list[str]:
    """The keys that a command line takes away, `~key`."""
    return [override.key_or_group for override in parsed(words) if override.is_delete()]


def parsed(words: Sequence[str]) -> list[Override]:
    """The overrides among words; those that Hydra cannot read are left to it, which says why."""
    found: list[Override] = []
    for word in words:
        if not word.startswith("-"):
            try:
                found.append(OverridesParser.create().parse_override(word))
            except HydraException:
                continue
    return found


def _wrong(override: Override) -> Iterator[SettingError]:
    key, value = override.key_or_group, override.value()
    chosen = value.list if isinstance(value, ChoiceSweep) else [value]
    for choice in chosen:
        names = choice if isinstance(choice, list) and key in SEVERAL else [choice]
        if isinstance(choice, Glob):
            continue
        wrong = [name for name in names if not (isinstance(name, str) and NAME.fullmatch(name))]
        if wrong:
            demand = f"must be {'names' if key in SEVERAL else 'the name'} of a file in conf/{key}, without its ending"
            yield SettingError(
                key or override.input_line or "", demand, choice if isinstance(choice, list) else wrong[0]
            )
